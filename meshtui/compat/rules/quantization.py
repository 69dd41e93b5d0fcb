"""Does this release load the quantized weights, and does the GPU compute with them?"""

from collections.abc import Iterator

from meshtui.compat.quantization import Quantization
from meshtui.compat.rules.say import blocker, ok, warning
from meshtui.compat.setting import Setting, capability_text
from meshtui.compat.subject import Subject
from meshtui.compat.support import Support
from meshtui.domain.finding import Finding, Level
from meshtui.domain.text import one_line

RULE = "quantization"
# Methods that moved out of vLLM's core, the packages that bring them back, and ten times the
# compute capability that these need (their own documentation).
PLUGINS = {"bitsandbytes": ("vllm-bnb-plugin", 70), "gguf": ("vllm-gguf-plugin", 60)}
# Other spellings of a method, and what a release that lacks the newer name calls it.
_ALIASES = {"auto-round": "inc", "awq": "auto_awq", "gptq": "auto_gptq"}
_FAMILIES = {"modelopt_fp4": ("modelopt_fp4", "nvfp4"), "modelopt": ("modelopt",)}


def quantization(subject: Subject, setting: Setting) -> Iterator[Finding]:
    """The method of the checkpoint and the one that is asked for, by release and by GPU."""
    if subject.is_pipeline:
        if setting.quantization:
            yield blocker(RULE, "Image pipelines are not quantized.", "Set quantization to none.")
        return
    own = subject.configuration.quantization
    if own is not None and setting.quantization not in (None, own.method):
        yield blocker(
            RULE,
            f"The weights are quantized already ({one_line(own.method, 40)}): quantization must "
            f"be none, not {one_line(setting.quantization or '', 40)}.",
            "Set quantization to none.",
        )
    elif own is not None:
        yield from _method(own.method, setting, own)
    elif setting.quantization:
        yield from _method(setting.quantization, setting, None)
    elif (algorithm := _unsigned(subject)) is not None:
        yield warning(
            RULE,
            f"hf_quant_config.json names {algorithm}, but not who made it: vLLM takes the weights "
            "for unquantized, and they are counted so.",
            "Use a repository whose config.json has a quantization_config.",
        )


def _unsigned(subject: Subject) -> str | None:
    """The algorithm in a side file of which no method could be recognised."""
    beside = subject.json("hf_quant_config.json").get("quantization")
    algorithm = beside.get("quant_algo") if isinstance(beside, dict) else None
    return one_line(algorithm, 40) if isinstance(algorithm, str) and algorithm else None


def _method(method: str, setting: Setting, own: Quantization | None) -> Iterator[Finding]:
    table = setting.vllm
    version = setting.vllm_version or table.version
    shown = one_line(method, 40)
    known = next((n for n in _names(method) if n in table.quantization), None)
    if known is None and method in PLUGINS:
        plugin, floor = PLUGINS[method]
        if plugin not in setting.packages or setting.on_cpu:
            yield blocker(
                RULE,
                f"vLLM {version} reads {shown} weights only with {plugin}, on a GPU.",
                f"Add {plugin} to the runtime, or use weights in another format.",
            )
            return
    elif known is None:
        yield blocker(
            RULE,
            f"vLLM {version} does not know the quantization {shown!r}.",
            "Choose weights in another format: AWQ, GPTQ, FP8 or compressed-tensors.",
        )
        return
    else:
        floor = table.quantization[known] or 0
    if own is not None and method == "gptq" and own.raw.get("desc_act") is True:
        group = own.raw.get("group_size")
        if not table.gptq_desc_act and group != -1:
            yield blocker(
                RULE,
                f"vLLM {version} no longer loads GPTQ weights that are ordered by activation "
                "(desc_act).",
                "Use weights with desc_act = false, or a runtime with vLLM 0.29.",
            )
            return
    capability = setting.capability
    if capability is not None and capability < floor:
        yield blocker(
            RULE,
            f"{shown} needs compute capability {capability_text(floor)} under vLLM {version}; "
            f"{setting.gpu.label if setting.gpu else 'this GPU'} has "
            f"{capability_text(capability)}.",
            "Choose a newer GPU, or weights in another format.",
        )
        return
    yield ok(RULE, _words(shown, own))
    if method.startswith("fp8") and capability is not None and capability < 89:
        yield warning(
            RULE,
            "This GPU has no FP8 arithmetic: weights stay small, but computing is not faster.",
        )


def reads_gguf(setting: Setting) -> Support:
    """Whether the runtime's vLLM loads GGUF files, with its plugin or (older ones) by itself."""
    found = list(_method("gguf", setting, None))
    for one in found:
        if one.level is Level.BLOCKER:
            return Support(possible=False, reason=one.message, fix=one.fix)
    own = "gguf" in setting.vllm.quantization
    return Support(
        possible=True,
        reason="vLLM reads GGUF files itself." if own
        else "vLLM reads GGUF files through its plugin.",
    )  # fmt: skip


def _names(method: str) -> tuple[str, ...]:
    return (method, *_FAMILIES.get(method, ()), _ALIASES.get(method, method))


def _words(shown: str, own: Quantization | None) -> str:
    if own is None:
        return f"{shown}, applied when the weights are loaded"
    bits = f", {own.bits} bits" if own.bits else ""
    return f"{shown}{bits}"
