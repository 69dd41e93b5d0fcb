"""What the headers of a checkpoint say about the bytes that the engine loads.

The engine keeps what its own class declares, which the rules compute; headers confirm that, and
correct it where the rules do not know the model.
"""

from meshtui.memory.weights_checkpoint import Checkpoint, TensorKind

_FLOATS = ("F64", "F32", "F16", "BF16")
# Made by the engine itself, or not used by it.
_UNUSED = ("rotary_emb.inv_freq", "position_ids", "masked_bias", "attn.bias.mask")
# Parts that predict several tokens at a time; the engine loads them for speculation alone.
_SPECULATIVE = ("mtp", "mtp_layers", "eagle", "draft")
_TOWERS = ("visual", "vision_tower", "vision_model", "vision_encoder", "multi_modal_projector",
           "mm_projector", "embed_vision", "audio_tower")  # fmt: skip
# Names of scales and zero points, which keep their own type.
_KEPT = ("scale", "scale_inv", "zero", "absmax", "A_log", "e_score_correction_bias")


def loaded_bytes(
    checkpoint: Checkpoint, layers: int, element_bytes: int, *, towers: bool = True
) -> int:
    """Bytes of all tensors that the engine loads, floats in the type that it serves them in."""
    total = 0
    for kind in checkpoint.kinds:
        if _skipped(kind, towers):
            continue
        count = sum(n for layer, n in kind.layers if layer < layers or not _numbered(kind))
        total += count * kind.elements * _width_bits(kind, element_bytes) // 8
    return total


def _width_bits(kind: TensorKind, element_bytes: int) -> int:
    if kind.dtype in _FLOATS and not any(part in kind.name for part in _KEPT):
        return element_bytes * 8
    return kind.size_bytes * 8 // max(1, kind.elements)


def _skipped(kind: TensorKind, towers: bool) -> bool:
    parts = set(kind.name.split("."))
    if kind.name.endswith(_UNUSED) or parts.intersection(_SPECULATIVE):
        return True
    return not towers and bool(parts.intersection(_TOWERS))


def _numbered(kind: TensorKind) -> bool:
    """Whether the first number in the name counts layers of the language model: there are parts
    beyond the last one in some checkpoints, for speculation."""
    before = kind.name.split(".*")[0]
    return before.endswith("layers") and not any(tower in before for tower in _TOWERS)
