"""Bytes of the tensors that a module becomes under a kind of quantization.

Sources: `create_weights` of the classes in vLLM 0.32, vllm/model_executor/layers/quantization
(fp8.py, auto_awq.py, auto_gptq.py, modelopt.py, mxfp4.py, compressed_tensors/schemes) and
layers/fused_moe.
"""

import math
from collections.abc import Callable

import msgspec

from meshtui.memory.weights_modules import Experts, Linear

# Blocks that share one scale where the format fixes them.
_NVFP4_GROUP = 16
_MX_GROUP = 32
_BNB_GROUP = 64


class Scheme(msgspec.Struct, frozen=True, kw_only=True):
    """How one module is stored. `kind` names a row of `_LINEAR`; `group` are the elements along
    the input that share a scale (0: all), `block` the two sizes of a block of FP8 scales.
    `zero_points`, `static` and `order` say whether zero points, scales of the inputs and the order
    of the inputs are kept, and `unpacks` that zero points are spread to 16 bits after loading.
    `pads` are what the inner and the outer size of experts are rounded up to."""

    kind: str
    bits: int = 16
    group: int = 0
    block: tuple[int, int] = (128, 128)
    zero_points: bool = False
    static: bool = False
    order: bool = False
    unpacks: bool = False
    scale_bytes: int = 4
    pads: tuple[int, int] = (1, 1)


PLAIN = Scheme(kind="plain")


def linear_sizes(module: Linear, scheme: Scheme, element_bytes: int) -> list[int]:
    """Bytes of each tensor of a matrix on one rank, its bias included."""
    own = module.element_bytes or element_bytes
    sizes = _LINEAR[scheme.kind](sum(module.outputs), module, scheme, own)
    if module.bias:
        sizes.append(sum(module.outputs) * own)
    return sizes


def repacked_bytes(module: Linear, scheme: Scheme) -> int:
    """What repacking after loading adds to a matrix."""
    if not (scheme.unpacks and scheme.zero_points):
        return 0
    return _groups(module, scheme) * sum(module.outputs) * (16 - scheme.bits) // 8


def experts_sizes(module: Experts, scheme: Scheme, element_bytes: int) -> list[int]:
    """Bytes of each tensor of fused experts on one rank."""
    inner, outer = (
        math.ceil(size / pad) * pad
        for size, pad in zip((module.width, module.hidden), scheme.pads, strict=True)
    )
    if scheme.kind == "fp8-block" and inner % scheme.block[0]:
        # Blocks are refined to fit this rank's share (fused_moe/oracle/fp8.py).
        fine = math.gcd(inner, scheme.block[0])
        scheme = msgspec.structs.replace(scheme, block=(fine, fine))
    up_parts = (inner, inner) if module.gated else (inner,)
    up = Linear(module.item, module.name, outer, up_parts)
    down = Linear(module.item, module.name, inner, (outer,))
    sizes = [
        module.number * size
        for matrix in (up, down)
        for size in _LINEAR[scheme.kind](sum(matrix.outputs), matrix, scheme, element_bytes)
    ]
    if module.bias:
        sizes += [module.number * sum(up_parts) * element_bytes]
        sizes += [module.number * outer * element_bytes]
    return sizes


def _plain(rows: int, module: Linear, scheme: Scheme, element_bytes: int) -> list[int]:
    return [rows * module.inputs * element_bytes]


def _fp8_block(rows: int, module: Linear, scheme: Scheme, element_bytes: int) -> list[int]:
    high, wide = scheme.block
    scales = sum(math.ceil(part / high) for part in module.outputs) * math.ceil(
        module.inputs / wide
    )
    return [rows * module.inputs, scales * scheme.scale_bytes]


def _fp8_tensor(rows: int, module: Linear, scheme: Scheme, element_bytes: int) -> list[int]:
    scale = 4 * len(module.outputs)
    return [rows * module.inputs, scale, *([scale] if scheme.static else [])]


def _channel(rows: int, module: Linear, scheme: Scheme, element_bytes: int) -> list[int]:
    return [rows * module.inputs, rows * 4]


def _groups(module: Linear, scheme: Scheme) -> int:
    return math.ceil(module.inputs / scheme.group) if scheme.group > 0 else 1


def _packed(rows: int, module: Linear, scheme: Scheme, element_bytes: int) -> list[int]:
    """Integers packed into words, with 16-bit scales; zero points are packed as well."""
    groups = _groups(module, scheme)
    sizes = [rows * module.inputs * scheme.bits // 8, groups * rows * 2]
    if scheme.zero_points:
        sizes.append(groups * rows * scheme.bits // 8)
    if scheme.order:
        sizes.append(module.inputs * 4)
    return sizes


def _nvfp4(rows: int, module: Linear, scheme: Scheme, element_bytes: int) -> list[int]:
    scale = 4 * len(module.outputs)
    group = scheme.group or _NVFP4_GROUP
    inputs = [scale] if scheme.static else []
    return [rows * module.inputs // 2, rows * module.inputs // group, scale, *inputs]


def _mx(rows: int, module: Linear, scheme: Scheme, element_bytes: int) -> list[int]:
    elements = rows * module.inputs
    return [elements * scheme.bits // 8, elements // _MX_GROUP]


def _bnb(rows: int, module: Linear, scheme: Scheme, element_bytes: int) -> list[int]:
    """bitsandbytes: 4 bits with a scale for 64 elements (stored in a byte, and a float for 256 of
    those), or 8 bits with a scale for each row."""
    elements = rows * module.inputs
    if scheme.bits == 8:
        return [elements, rows * 4]
    return [elements // 2, elements // _BNB_GROUP, elements // _BNB_GROUP // 256 * 4]


_Sizes = Callable[[int, Linear, Scheme, int], list[int]]
_LINEAR: dict[str, _Sizes] = {
    "plain": _plain,
    "fp8-block": _fp8_block,
    "fp8-tensor": _fp8_tensor,
    "channel": _channel,
    "packed": _packed,
    "nvfp4": _nvfp4,
    "mx": _mx,
    "bnb": _bnb,
}
