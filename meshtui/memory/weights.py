"""What the weights of one rank take on the GPU, as vLLM shards, quantizes and keeps them.

    weights = parameters as the model's class declares them for the rank + buffers
              + what the allocator rounds + what repacking after loading adds

Source: the classes of vLLM (see the modules `weights_*`); "Model loading took" in its log is this
figure.
"""

import msgspec

from meshtui.compat.configuration import Configuration
from meshtui.domain.errors import InvalidInput
from meshtui.domain.memory import GIB, MemoryItem
from meshtui.memory.kv_cache import pipeline_stages
from meshtui.memory.kv_tables import pools
from meshtui.memory.settings import ServingSettings, dtype_bytes
from meshtui.memory.weights_checkpoint import Checkpoint
from meshtui.memory.weights_context import VOCABULARY_MULTIPLE, WeightsContext
from meshtui.memory.weights_families import blueprint_of
from meshtui.memory.weights_headers import loaded_bytes
from meshtui.memory.weights_modules import Blueprint
from meshtui.memory.weights_quantization import Quantizer
from meshtui.memory.weights_tally import Tally, stage_tally
from meshtui.memory.weights_traits import TABLE
from meshtui.settings.shipped import first_applying, toml_data

_MOST_BYTES = 1 << 60
_CHECK = "Check that config.json is complete and belongs to this model."
# How far off the figure may be, as a share: where rules for the model are known (that is how far
# logs are from it), where they are not, and where only the headers' total is known.
_SPREAD = 0.005
_UNKNOWN_SPREAD = 0.25
_CORRECTED_SPREAD = 0.03
_CONFIRMED = 0.01
# Kernels pad what checkpoints do not: the rules of a known model stand, with headers in the range.
_PADDED = 0.1
_FORMULAS = {
    "embedding": "vocabulary, padded to 64, x hidden size{ranks}",
    "head": "vocabulary, padded to 64, x hidden size{ranks}",
    "attention": "queries, keys, values and output of each layer{ranks}; KV heads and ways down to "
    "compressed forms are repeated on every rank",
    "state": "mixers that keep a state, of each layer{ranks}",
    "mlp": "ways up and down of each layer{ranks}",
    "experts": "routed and shared experts of each layer{ranks}",
    "router": "hidden size x experts of each layer, on every rank",
    "norms": "on every rank",
    "vision": "the towers and what leads from them to the language model",
    "sound": "the convolutions that sound passes first, and its positions; on every rank",
    "buffers": "tables of rotary positions: positions x rotated elements",
    "repacking": "ways up from compressed keys and values are kept a second time; zero points are "
    "spread to 16 bits",
}


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of the largest rank. `source` is `headers` where the checkpoint's own headers confirm
    or give the figure, else `configuration`; `notes` say what was assumed; `disagreement` how far
    the headers are from what the configuration of a known model describes."""

    low_bytes: int
    likely_bytes: int
    high_bytes: int
    items: tuple[MemoryItem, ...]
    source: str = "configuration"
    notes: tuple[str, ...] = ()
    disagreement: str = ""


def estimate_weights(
    configuration: Configuration,
    settings: ServingSettings,
    checkpoint: Checkpoint | None = None,
) -> Weights:
    """The weights of the largest rank of a model served with these settings.

    `checkpoint` is what the safetensors headers say, where they are known. Raises `InvalidInput`
    where the configuration does not say enough or its sizes cannot be shared out over the ranks.
    """
    pooling = settings.pooling
    if pooling is None:
        pooling = pools(configuration.architectures)
    dtype = settings.weights_dtype(configuration, pooling=pooling)
    context = WeightsContext(
        configuration=configuration,
        text=configuration.text,
        settings=settings,
        model_dtype=dtype,
        element_bytes=dtype_bytes(dtype),
        tied=_tied(configuration, checkpoint),
        splits_tower=bool(
            first_applying(toml_data(TABLE)["towers"], settings.vllm_version)["split"]
        ),
    )
    quantizer = Quantizer(configuration, settings)
    blueprint = blueprint_of(context)
    count = len(blueprint.layers)
    stages = pipeline_stages(count, settings.pipeline_parallel_size)
    tallies = [
        stage_tally(
            blueprint,
            quantizer,
            context.element_bytes,
            range(start, after),
            first=number == 0,
            last=number == len(stages) - 1,
        )
        for number, (start, after) in enumerate(stages)
    ]
    whole = _whole_model(blueprint, quantizer, context) if checkpoint is not None else None
    largest = max(tallies, key=lambda tally: tally.total)
    if largest.total > _MOST_BYTES:
        raise InvalidInput(
            "The sizes that the configuration names are beyond any model.",
            hint=_CHECK,
        )
    items = _items(largest, settings)
    notes = [*blueprint.notes, *quantizer.notes]
    spread = _UNKNOWN_SPREAD if notes else _SPREAD
    source, disagreement = "configuration", ""
    if checkpoint is not None and whole:
        source = "headers"
        said = loaded_bytes(
            checkpoint, count, context.element_bytes, towers=not settings.language_model_only
        )
        ratio = said / whole if not quantizer.on_load else 1.0
        if not notes and not quantizer.on_load:
            disagreement = _disagreement(said, whole, context, pooling)
        if abs(ratio - 1) <= _CONFIRMED:
            spread = _SPREAD
        elif not notes and abs(ratio - 1) <= _PADDED:
            source = "configuration" if disagreement else source
            spread = abs(ratio - 1)
        else:
            parameters = largest.total - largest.by_item.get("buffers", 0)
            items = (*items, _correction(parameters, ratio))
            spread = _CORRECTED_SPREAD
            notes.append("The headers say another size than the rules, which was scaled to it.")
    likely = sum(item.likely_bytes for item in items)
    if likely > _MOST_BYTES:
        raise InvalidInput("The headers name sizes beyond any model.", hint=_CHECK)
    high = likely
    if quantizer.on_load:
        high = max(likely, stage_total(blueprint, Quantizer.none(), context, stages))
    return Weights(
        low_bytes=int(likely * (1 - spread)),
        likely_bytes=likely,
        high_bytes=int(high * (1 + spread)),
        items=items,
        source=source,
        notes=tuple(notes),
        disagreement=disagreement,
    )


def stage_total(
    blueprint: Blueprint,
    quantizer: Quantizer,
    context: WeightsContext,
    stages: list[tuple[int, int]],
) -> int:
    """Bytes of the largest stage under another quantization."""
    return max(
        stage_tally(
            blueprint,
            quantizer,
            context.element_bytes,
            range(start, after),
            first=number == 0,
            last=number == len(stages) - 1,
        ).total
        for number, (start, after) in enumerate(stages)
    )


def _whole_model(blueprint: Blueprint, quantizer: Quantizer, context: WeightsContext) -> int:
    """Parameters of the model on one GPU, to be held against the headers."""
    alone = msgspec.structs.replace(
        context,
        settings=msgspec.structs.replace(
            context.settings, tensor_parallel_size=1, pipeline_parallel_size=1
        ),
    )
    model = blueprint_of(alone) if context.tp > 1 else blueprint
    tally = stage_tally(
        model,
        quantizer,
        context.element_bytes,
        range(len(model.layers)),
        first=True,
        last=True,
    )
    beside = ("buffers", "repacking")
    return tally.total - sum(tally.by_item.get(name, 0) for name in beside)


def _disagreement(said: int, whole: int, context: WeightsContext, pooling: bool) -> str:
    """What headers and rules say, where it differs by more than what kernels pad: much of quantized
    weights, of others the vocabulary. Encoders often come with heads that nobody loads."""
    quantized = context.configuration.quantization is not None
    vocabulary = context.text.positive("vocab_size") or 0
    hidden = context.text.positive("hidden_size") or 0
    padding = 2 * (-vocabulary % VOCABULARY_MULTIPLE) * hidden * context.element_bytes
    if pooling and said > whole:
        return ""
    if abs(said - whole) <= padding + whole * (_PADDED if quantized else _CONFIRMED):
        return ""
    return (
        f"The files hold {said / GIB:.2f} GiB of weights; the configuration describes "
        f"{whole / GIB:.2f} GiB."
    )


def _correction(parameters: int, ratio: float) -> MemoryItem:
    """What the headers name beyond the rules; below zero where they name less."""
    return MemoryItem.exact(
        "correction",
        int(parameters * (ratio - 1)),
        f"parameters x ({ratio:.4f} - 1), as the headers have it",
    )


def _items(tally: Tally, settings: ServingSettings) -> tuple[MemoryItem, ...]:
    ranks = settings.tensor_parallel_size
    found = [
        MemoryItem.exact(
            name, size, _FORMULAS.get(name, "").format(ranks="" if ranks == 1 else f" / {ranks}")
        )
        for name, size in tally.by_item.items()
    ]
    rounding = "tensors of 10 MiB and more in segments of 2 MiB, others in 512 bytes"
    found.append(MemoryItem.exact("allocator", tally.rounding, rounding))
    return tuple(found)


def _tied(configuration: Configuration, checkpoint: Checkpoint | None) -> bool:
    """Whether the head is the embedding: as the checkpoint has it, else as the files say."""
    if checkpoint is not None and checkpoint.has_head is not None:
        return not checkpoint.has_head
    top = configuration.top.value("tie_word_embeddings")
    if isinstance(top, bool):
        return top
    return configuration.text.get_bool("tie_word_embeddings")
