"""Which modules of a checkpoint are quantized, and how: by method, by pattern of names, by layer.

Sources: `get_quant_method` of the classes in vLLM 0.32, vllm/model_executor/layers/quantization
(quant_utils.py `is_layer_skipped`; modelopt.py `is_layer_excluded`; compressed_tensors/utils.py).
"""

import math
import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from functools import cached_property
from typing import Any

from meshtui.compat.configuration import Configuration
from meshtui.compat.quantization import Quantization
from meshtui.domain.errors import InvalidInput
from meshtui.memory.settings import ServingSettings
from meshtui.memory.weights_modules import Experts, Linear
from meshtui.memory.weights_schemes import PLAIN, Scheme
from meshtui.memory.weights_traits import TABLE
from meshtui.settings.shipped import first_applying, toml_data

# Patterns beyond these are not looked at: matching must stay quick for hostile files.
_MOST_PATTERNS = 20_000
_MOST_EXPRESSIONS = 200
_MOST_PATTERN_CHARS = 300
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|layer)\.(\d{1,5})(?:\.|$)(.*)")
# Expressions that repeat a group are left out, and the work of the others is bounded: matching can
# take forever.
_REPEATED_GROUP = re.compile(r"\)\s*[*+?{]")
_UNBOUNDED = re.compile(r"(?<!\\)[*+{]")
_MOST_STEPS = 30_000_000
_NAME_CHARS = 60


class Patterns:
    """Names of modules: exact, of a parent, with `*`, or `re:` and a regular expression."""

    def __init__(self, names: Iterable[str]) -> None:
        self._plain: list[str] = []
        self._expressions: list[re.Pattern[str]] = []
        self._of_layer: dict[int, list[str]] = {}
        self._steps = 0
        self._matched: dict[str, bool] = {}
        for number, name in enumerate(names):
            if number >= _MOST_PATTERNS:
                break
            if len(name) > _MOST_PATTERN_CHARS:
                continue
            self._add(name)
        # `\d` holds for every layer; a written digit may mean one of them.
        self._numbered = any(re.search(r"\d", one.pattern) for one in self._expressions)
        self.by_layer = bool(self._of_layer) or self._numbered
        self.empty = not (self._plain or self._expressions or self._of_layer)

    def match(self, layer: int | None, name: str, *, exact: bool = False) -> bool:
        """Whether a module of a layer (None: outside of the layers) is meant."""
        if self.empty:
            return False
        if layer is None:
            full = name
        else:
            if any(_covers(one, name) for one in self._of_layer.get(layer, ())):
                return True
            full = f"model.layers.{layer}.{name}"
        if any(_names(one, full, exact=exact) for one in self._plain):
            return True
        if not self._expressions:
            return False
        key = full if self._numbered else f"{layer is None} {name}"
        if key not in self._matched:
            self._matched[key] = self._expressed(full)
        return self._matched[key]

    def _expressed(self, full: str) -> bool:
        for one in self._expressions:
            repeats = len(_UNBOUNDED.findall(one.pattern))
            self._steps += (_NAME_CHARS ** min(repeats, 6)) // math.factorial(min(repeats, 6))
            if self._steps > _MOST_STEPS:
                raise InvalidInput(
                    "The patterns that say which modules are quantized are too involved.",
                    hint="Check the quantization part of the configuration.",
                )
            if one.match(full) is not None or one.match(f"language_model.{full}") is not None:
                return True
        return False

    def _add(self, name: str) -> None:
        if name.startswith("re:"):
            self._add_expression(name[3:])
            return
        found = _LAYER.search(name)
        if found is not None:
            self._of_layer.setdefault(int(found[1]), []).append(found[2])
        elif "*" in name or "?" in name:
            self._add_expression(translate(name))
        else:
            self._plain.append(name)

    def _add_expression(self, text: str) -> None:
        if len(self._expressions) >= _MOST_EXPRESSIONS or _REPEATED_GROUP.search(text):
            return
        try:
            self._expressions.append(re.compile(text))
        except (re.error, RecursionError, OverflowError):
            return


def _covers(pattern: str, name: str) -> bool:
    """Whether a pattern behind the number of a layer means a module of that layer. An empty one
    means the whole layer."""
    if pattern in ("", "*"):
        return True
    if pattern.endswith("*"):
        return name.startswith(pattern.rstrip("*").rstrip("."))
    return name == pattern or name.startswith(pattern + ".")


def _names(pattern: str, full: str, *, exact: bool) -> bool:
    if full == pattern or full.endswith("." + pattern):
        return True
    return not exact and (f".{pattern}." in full or full.startswith(pattern + "."))


class Quantizer:
    """Says for each module how it is stored. `notes` tell what was assumed."""

    def __init__(self, configuration: Configuration, settings: ServingSettings) -> None:
        self.notes: list[str] = []
        self._settings = settings
        self.on_load = False
        self._quantization = configuration.quantization
        self._default = PLAIN
        self._groups: list[tuple[Scheme, Patterns | None]] = []
        self._ignored = Patterns(())
        self._experts_only = False
        self._layers: dict[str, Scheme] = {}
        self._scale_bytes = 4
        self._head = False
        self._experts: Scheme | None = None
        method = self._quantization.method if self._quantization is not None else ""
        if configuration.text.get_str("expert_dtype") == "fp4" and method == "fp8":
            self._experts = Scheme(kind="mx", bits=4)
            if self._quantization is not None:
                # Experts may have been quantized once more (vllm/models/deepseek_v4).
                other = _of_algorithm(self._quantization.raw.get("moe_quant_algo"), None)
                self._experts = other or self._experts
        if configuration.text.model_type == "deepseek_v4":
            self._scale_bytes = 1
        if self._quantization is not None:
            self._read(self._quantization)
        elif settings.quantization:
            self._read_asked(settings.quantization)

    @classmethod
    def none(cls) -> "Quantizer":
        """One that leaves everything as it is."""
        return cls(Configuration({}), ServingSettings())

    @property
    def plain(self) -> bool:
        return self._default is PLAIN and not self._groups and not self._layers

    @property
    def default(self) -> Scheme:
        """The scheme of modules that nothing else is said of."""
        return self._groups[0][0] if self._groups else self._default

    @cached_property
    def by_layer(self) -> bool:
        """Whether layers may differ: the schemes of one do not hold for the next."""
        return (
            self._ignored.by_layer
            or bool(self._layers)
            or any(targets is not None and targets.by_layer for _, targets in self._groups)
        )

    def of_linear(self, layer: int | None, module: Linear) -> Scheme:
        """The scheme of a matrix."""
        if self.plain or not module.quantized or module.element_bytes is not None:
            return PLAIN
        if self._experts_only:
            return PLAIN
        return self._of(layer, _part_names(module))

    def of_experts(self, layer: int | None, module: Experts) -> Scheme:
        """The scheme of fused experts: that of their first one."""
        if self.plain:
            return PLAIN
        if self._experts is not None:
            return self._experts
        first = f"{module.name}.0.gate_proj"
        return self._of(layer, (first, module.name))

    def of_head(self, name: str) -> Scheme:
        """The scheme of the output head, which is quantized only where the files say so."""
        for key in (name, "lm_head"):
            if key in self._layers:
                return self._layers[key]
        return self._default if self._head else PLAIN

    def _of(self, layer: int | None, names: tuple[str, ...]) -> Scheme:
        if self._layers:
            return self._of_table(layer, names)
        if any(self._ignored.match(layer, name) for name in names):
            return PLAIN
        for scheme, targets in self._groups:
            if targets is None or any(targets.match(layer, name) for name in names):
                return scheme
        return PLAIN if self._groups else self._default

    def _of_table(self, layer: int | None, names: tuple[str, ...]) -> Scheme:
        for name in names:
            full = f"layers.{layer}.{name}" if layer is not None else name
            while full:
                if full in self._layers:
                    return self._layers[full]
                if not full.partition(".")[2] or "." not in full:
                    break
                full = full.rpartition(".")[0]
        return PLAIN

    def _read(self, found: Quantization) -> None:
        method = found.method
        self._ignored = Patterns(found.ignored if method != "fp8" else _left_out_of_fp8(found))
        if method == "compressed-tensors":
            self._read_groups(found)
        elif method == "modelopt_mixed":
            self._read_table(found)
        elif method in ("mxfp4", "gpt_oss_mxfp4"):
            self._default = Scheme(kind="mx", bits=4, pads=_mxfp4_pads(self._settings))
            self._experts_only = True
        else:
            self._default = self._of_method(method, found)
            self._head = found.raw.get("lm_head") is True

    def _of_version(self, table: str) -> Mapping[str, Any]:
        return first_applying(toml_data(TABLE)[table], self._settings.vllm_version)

    def _of_method(self, method: str, found: Quantization) -> Scheme:
        if "awq" in method:
            return Scheme(
                kind="packed",
                bits=found.bits or 4,
                group=found.group_size or 0,
                zero_points=found.raw.get("zero_point", True) is not False,
                unpacks=bool(self._of_version("awq")["unpacks_zero_points"]),
            )
        if "gptq" in method or method == "marlin":
            return Scheme(
                kind="packed",
                bits=found.bits or 4,
                group=found.group_size or 0,
                zero_points=True,
                order=found.raw.get("desc_act") is True,
            )
        if method == "bitsandbytes":
            return Scheme(kind="bnb", bits=8 if found.bits == 8 else 4)
        if method == "modelopt_fp4":
            return Scheme(kind="nvfp4", group=found.group_size or 16, static=True)
        if method == "modelopt_mxfp8":
            return Scheme(kind="mx", bits=8)
        if method in ("fp8", "modelopt", "deepseek_v4_fp8"):
            return self._of_fp8(found)
        if method in ("fbgemm_fp8", "experts_int8", "int8"):
            return Scheme(kind="channel", bits=8)
        bits = found.bits or 8
        self.notes.append(
            f"How {method[:40]} stores weights is not known; {bits} bits a weight are assumed."
        )
        if bits >= 16:
            return PLAIN
        return Scheme(kind="packed", bits=bits, group=found.group_size or 128)

    def _of_fp8(self, found: Quantization) -> Scheme:
        if len(found.block) == 2:
            high, wide = found.block
            return Scheme(
                kind="fp8-block", bits=8, block=(high, wide), scale_bytes=self._scale_bytes
            )
        algorithm = found.raw.get("quant_algo")
        inner = found.raw.get("quantization")
        if isinstance(inner, Mapping):
            algorithm = inner.get("quant_algo") or algorithm
        if algorithm == "FP8_PB_WO":
            return Scheme(kind="fp8-block", bits=8)
        if algorithm == "FP8_PER_CHANNEL_PER_TOKEN":
            return Scheme(kind="channel", bits=8)
        dynamic = found.raw.get("activation_scheme") == "dynamic"
        return Scheme(kind="fp8-tensor", bits=8, static=not dynamic)

    def _read_groups(self, found: Quantization) -> None:
        groups = found.raw.get("config_groups")
        for group in list(groups.values())[:50] if isinstance(groups, Mapping) else ():
            weights = group.get("weights") if isinstance(group, Mapping) else None
            if not isinstance(weights, Mapping):
                continue
            inputs = group.get("input_activations")
            scheme = _of_group(weights, inputs if isinstance(inputs, Mapping) else {})
            targets = group.get("targets")
            names = [t for t in targets if isinstance(t, str)] if isinstance(targets, list) else []
            classes = {"Linear", "FusedMoE", "RoutedExperts"}
            special = [name for name in names if name not in classes]
            whole = not names or len(special) < len(names)
            self._groups.append((scheme, None if whole else Patterns(special)))
        # Groups that name modules come before one that means all.
        self._groups.sort(key=lambda one: one[1] is None)

    def _read_table(self, found: Quantization) -> None:
        inner = found.raw.get("quantization")
        table = (inner if isinstance(inner, Mapping) else found.raw).get("quantized_layers")
        for name, entry in table.items() if isinstance(table, Mapping) else ():
            if not isinstance(name, str) or not isinstance(entry, Mapping):
                continue
            scheme = _of_algorithm(entry.get("quant_algo"), entry.get("group_size"))
            if scheme is None:
                continue
            place = _LAYER.search(name)
            key = f"layers.{int(place[1])}.{place[2]}" if place else name
            self._layers[key] = scheme

    def _read_asked(self, asked: str) -> None:
        """A quantization that the engine makes while it loads."""
        if asked == "bitsandbytes":
            self._default = Scheme(kind="bnb", bits=4)
        elif "mxfp4" in asked:
            self._default = Scheme(kind="mx", bits=4)
        elif "nvfp4" in asked:
            self._default = Scheme(kind="nvfp4")
        elif "mxfp8" in asked:
            self._default = Scheme(kind="mx", bits=8)
        elif "block" in asked:
            self._default = Scheme(kind="fp8-block", bits=8)
        elif "fp8" in asked or "int8" in asked:
            self._default = Scheme(kind="fp8-tensor" if "fp8" in asked else "channel", bits=8)
        else:
            self.notes.append(f"What {asked[:40]} would save is not known: it is not counted.")
            return
        self.on_load = True
        self.notes.append("The engine quantizes while it loads, and may need more until then.")


def _mxfp4_pads(settings: ServingSettings) -> tuple[int, int]:
    """What the kernel for MXFP4 experts rounds the inner and the outer size to."""
    entry = next(
        one
        for one in toml_data(TABLE)["mxfp4_experts"]
        if settings.applies(one)
        and one.get("capability_major", settings.capability // 10) == settings.capability // 10
    )
    return int(entry["inner"]), int(entry["outer"])


def _left_out_of_fp8(found: Quantization) -> list[str]:
    """Modules that are no FP8: other keys than these two are not looked at (fp8.py)."""
    for key in ("ignored_layers", "modules_to_not_convert"):
        names = found.raw.get(key)
        if isinstance(names, list) and names:
            return [name for name in names if isinstance(name, str)]
    return []


def _of_algorithm(algorithm: Any, group: Any) -> Scheme | None:
    if not isinstance(algorithm, str):
        return None
    name = algorithm.upper()
    if "NVFP4" in name:
        size = group if isinstance(group, int) and 0 < group <= 1024 else 16
        return Scheme(kind="nvfp4", group=size, static=True)
    if name == "FP8_PB_WO":
        return Scheme(kind="fp8-block", bits=8)
    if "MXFP8" in name:
        return Scheme(kind="mx", bits=8)
    return Scheme(kind="fp8-tensor", bits=8, static=True) if "FP8" in name else None


def _of_group(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> Scheme:
    """A group of compressed-tensors."""
    bits = _whole(weights.get("num_bits")) or 8
    group = _whole(weights.get("group_size")) or 0
    strategy, kind = weights.get("strategy"), weights.get("type")
    static = bool(inputs) and inputs.get("dynamic") is False
    if kind == "float" and bits == 4:
        if group == 32:
            return Scheme(kind="mx", bits=4)
        return Scheme(kind="nvfp4", group=group or 16, static=static)
    if bits >= 16:
        return PLAIN
    if kind == "float":
        if strategy == "block":
            block = weights.get("block_structure")
            sizes = [n for n in block if _whole(n)] if isinstance(block, list) else []
            pair = (sizes[0], sizes[1]) if len(sizes) == 2 else (128, 128)
            return Scheme(kind="fp8-block", bits=8, block=pair)
        if strategy == "tensor":
            return Scheme(kind="fp8-tensor", bits=8, static=static)
        return Scheme(kind="channel", bits=8)
    if bits == 8 and inputs:
        return Scheme(kind="channel", bits=8)
    return Scheme(
        kind="packed",
        bits=bits if bits in (2, 3, 4, 8) else 8,
        group=group,
        zero_points=weights.get("symmetric") is False,
        order=weights.get("actorder") in ("group", True),
    )


def _whole(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 < value < 1 << 20 else None


def _part_names(module: Linear) -> tuple[str, ...]:
    """The names under which a checkpoint may know a matrix: each of its parts, and its own."""
    parent = module.name.rpartition(".")[0]
    parts = tuple(f"{parent}.{part}" if parent else part for part in module.parts)
    return (*parts, module.name) if parts else (module.name,)
