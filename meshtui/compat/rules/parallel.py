"""Can the model be split over that many GPUs?"""

from collections.abc import Iterator

from meshtui.compat.rules.say import blocker, ok, warning
from meshtui.compat.setting import Setting
from meshtui.compat.subject import Subject
from meshtui.domain.finding import Finding

RULE = "tensor-parallel"
USUAL = (1, 2, 4, 8)


def tensor_parallel(subject: Subject, setting: Setting) -> Iterator[Finding]:
    """Attention heads divide evenly; KV heads are split or repeated; experts divide."""
    size = setting.tensor_parallel_size
    if subject.is_pipeline:
        if size > 1:
            yield blocker(RULE, "Image pipelines run on one GPU.", "Set tensor parallel size to 1.")
        return
    if setting.gpus_seen is not None and size > setting.gpus_seen:
        yield blocker(
            RULE,
            f"Tensor parallel size {size} needs as many GPUs; {setting.gpus_seen} seen.",
            "Choose a smaller size, or a machine with more GPUs.",
        )
    if size == 1:
        return
    text = subject.configuration.text
    heads = text.positive("num_attention_heads", "n_head", "n_heads")
    kv_heads = text.positive("num_key_value_heads", "n_head_kv", "num_kv_heads") or heads
    fitting = [n for n in USUAL if not heads or heads % n == 0]
    choose = f"It can be {', '.join(map(str, fitting))}."
    if heads and heads % size:
        yield blocker(RULE, f"{heads} attention heads cannot be divided by {size}.", choose)
    elif heads and kv_heads and kv_heads % size and size % kv_heads:
        yield blocker(
            RULE,
            f"{kv_heads} key/value heads can neither be split over {size} GPUs nor repeated.",
            choose,
        )
    elif kv_heads and kv_heads < size:
        yield warning(
            RULE,
            f"{kv_heads} key/value heads on {size} GPUs: they are repeated, so that the KV cache "
            "gains nothing from the further GPUs.",
        )
    elif size not in USUAL:
        yield warning(RULE, f"Tensor parallel size {size} is unusual.", choose)
    else:
        yield ok(RULE, f"{heads or 'all'} heads over {size} GPUs")
    block = subject.configuration.quantization.block if subject.configuration.quantization else ()
    inner = text.positive("moe_intermediate_size", "intermediate_size")
    if block and inner and inner % (block[0] * size) and inner > block[0]:
        yield blocker(
            RULE,
            f"FP8 scales of {block[0]} × {block[-1]} blocks cannot be split over {size} GPUs: "
            f"{inner:,} columns.",
            "Choose a smaller tensor parallel size.",
        )
