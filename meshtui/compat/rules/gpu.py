"""Can this GPU run the engine, and compute in the model's type?"""

from collections.abc import Iterator

from meshtui.compat.rules.say import blocker, ok, warning
from meshtui.compat.setting import Setting, capability_text
from meshtui.compat.subject import Subject
from meshtui.domain.finding import Finding

RULE = "gpu"
# bfloat16 arithmetic begins with the Ampere generation (CUDA C++ Programming Guide, "Features and
# Technical Specifications").
_BFLOAT16 = 80


def gpu(subject: Subject, setting: Setting) -> Iterator[Finding]:
    """The compute capability that the engine needs, and bfloat16."""
    capability = setting.capability
    if setting.gpu is None or capability is None:
        return
    floor = setting.vllm.minimum_capability
    version = setting.vllm_version or setting.vllm.version
    label = setting.gpu.label
    if capability < floor:
        yield blocker(
            RULE,
            f"vLLM {version} needs compute capability {capability_text(floor)}; {label} has "
            f"{capability_text(capability)}.",
            "Choose a newer GPU, or a runtime with vLLM 0.20."
            if capability >= 70
            else "Choose a newer GPU.",
        )
    elif subject.configuration.dtype == "bfloat16" and capability < _BFLOAT16:
        yield warning(
            RULE,
            f"{label} has no bfloat16: the weights are computed in float16, which has a smaller "
            "range.",
            "Compare a few answers; some models overflow in float16.",
        )
    else:
        yield ok(RULE, f"{label}, compute capability {capability_text(capability)}")
