"""What the weights of one rank take on the GPU, as vLLM shards, quantizes and keeps them.

    weights = parameters as the model's class declares them for the rank + buffers
              + what the allocator rounds + what repacking after loading adds

Source: the classes of vLLM (see the modules `weights_*`); "Model loading took" in its log is this
figure.
"""

import msgspec

from meshtui.compat.configuration import Configuration
from meshtui.domain.errors import InvalidInput
from meshtui.domain.memory import MemoryItem
from meshtui.memory.kv_cache import pipeline_stages
from meshtui.memory.kv_tables import pools
from meshtui.memory.settings import ServingSettings, dtype_bytes
from meshtui.memory.weights_checkpoint import Checkpoint
from meshtui.memory.weights_context import WeightsContext
from meshtui.memory.weights_families import blueprint_of
from meshtui.memory.weights_quantization import Quantizer
from meshtui.memory.weights_tally import Tally, stage_tally

_MOST_BYTES = 1 << 60


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of the largest rank. `source` is `headers` where the checkpoint's own headers confirm
    or give the figure, else `configuration`; `notes` say what was assumed."""

    low_bytes: int
    likely_bytes: int
    high_bytes: int
    items: tuple[MemoryItem, ...]
    source: str = "configuration"
    notes: tuple[str, ...] = ()


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
    )
    quantizer = Quantizer(configuration, settings.quantization)
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
    largest = max(tallies, key=lambda tally: tally.total)
    if largest.total > _MOST_BYTES:
        raise InvalidInput(
            "The sizes that the configuration names are beyond any model.",
            hint="Check that config.json is complete and belongs to this model.",
        )
    items = _items(largest)
    likely = sum(item.likely_bytes for item in items)
    return Weights(
        low_bytes=likely,
        likely_bytes=likely,
        high_bytes=likely,
        items=items,
        notes=(*blueprint.notes, *quantizer.notes),
    )


def _items(tally: Tally) -> tuple[MemoryItem, ...]:
    found = [MemoryItem.exact(name, size) for name, size in tally.by_item.items()]
    found.append(MemoryItem.exact("allocator", tally.rounding))
    return tuple(found)


def _tied(configuration: Configuration, checkpoint: Checkpoint | None) -> bool:
    """Whether the head is the embedding: as the checkpoint has it, else as the files say."""
    if checkpoint is not None and checkpoint.has_head is not None:
        return not checkpoint.has_head
    top = configuration.top.value("tie_word_embeddings")
    if isinstance(top, bool):
        return top
    return configuration.text.get_bool("tie_word_embeddings")
