"""Can this GPU and its driver run the engine, and compute in the model's type?"""

from collections.abc import Iterator

from meshtui.compat.rules.say import blocker, ok, warning
from meshtui.compat.setting import Setting, capability_text
from meshtui.compat.subject import Subject
from meshtui.domain.finding import Finding
from meshtui.domain.text import one_line
from meshtui.settings.shipped import release

RULE = "gpu"
# bfloat16 arithmetic begins with the Ampere generation (CUDA C++ Programming Guide, "Features and
# Technical Specifications").
_BFLOAT16 = 80


def gpu(subject: Subject, setting: Setting) -> Iterator[Finding]:
    """The compute capability that the engine needs, bfloat16, and the driver's CUDA version."""
    capability = setting.capability
    if setting.gpu is None or capability is None:
        return
    yield from driver(setting)
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


def driver(setting: Setting) -> Iterator[Finding]:
    """A driver runs programs of older CUDA versions, and those of newer minor ones of its own
    major version with less (CUDA Compatibility, "Minor Version Compatibility")."""
    if setting.driver_cuda is None or setting.runtime_cuda is None:
        return
    has, needs = release(setting.driver_cuda)[:2], release(setting.runtime_cuda)[:2]
    if not has or not needs or has >= needs:
        return
    seen = (
        f"The driver takes CUDA {one_line(setting.driver_cuda, 20)}; the runtime was built with "
        f"{one_line(setting.runtime_cuda, 20)}."
    )
    if has[0] < needs[0]:
        yield blocker(RULE, seen, "Update the NVIDIA driver, or use an older runtime.")
    else:
        yield warning(
            RULE,
            f"{seen} It will mostly run, but kernels that are compiled at start may not.",
            "Update the NVIDIA driver if the engine does not start.",
        )
