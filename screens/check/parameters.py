"""What a model is checked for: each parameter, its values, and how a key moves among them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from meshtui.domain.check import CheckReport, CheckWishes
from meshtui.domain.memory import GpuSpec
from meshtui.domain.runtime import RuntimeStatus
from meshtui.domain.text import one_line

Value = str | int | None

_FEWEST_TOKENS = 1024
_MOST_TOKENS = 1 << 20
_NUMBERS_OF_GPUS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Known:
    """What the values depend on. `report` is the newest answer about the model, if any."""

    gpus: Sequence[GpuSpec] = ()
    runtimes: Sequence[RuntimeStatus] = ()
    report: CheckReport | None = None

    def gpu(self, name: str | None) -> GpuSpec | None:
        """A GPU by its name in the catalogue or by its label."""
        return next((gpu for gpu in self.gpus if name in (gpu.name, gpu.label)), None)


@dataclass(frozen=True)
class Parameter:
    """`name` is the field of `CheckWishes`, `letter` the key; `title` is its name where there is
    more room than for the `label`. `values` are what keys step through, round again where it
    `wraps`, and from `begin` on where nothing is known. `chosen` is what was taken where nothing
    is wished; `text` writes a value, `typed` reads one (None: it is none). `cells` is the room
    for it."""

    name: str
    label: str
    letter: str
    cells: int
    values: Callable[[Known], Sequence[Value]]
    chosen: Callable[[Known], Value]
    text: Callable[[Value, Known], str]
    wraps: bool = False
    typed: Callable[[str], Value] | None = None
    title: str = ""
    begin: Value = None

    @property
    def name_for_people(self) -> str:
        return self.title or self.label

    def wished(self, wishes: CheckWishes) -> Value:
        value: Value = getattr(wishes, self.name)
        return value

    def shown(self, wishes: CheckWishes, known: Known) -> str:
        """The value; in brackets where it was not wished for, but taken."""
        value = self.wished(wishes)
        if value is not None or None in self.values(known):
            return self.text(value, known)
        taken = self.chosen(known)
        if taken is None:
            return "(none)" if known.report and known.report.memory else "(auto)"
        return f"({self.text(taken, known)})"

    def put(self, wishes: CheckWishes, value: Value) -> CheckWishes:
        """The wishes with another value; None leaves the choice to the checker."""
        changed = {self.name: value}
        if self.name == "gpus":
            # Each GPU holds its share of every layer.
            changed["tensor_parallel_size"] = value
        return msgspec.structs.replace(wishes, **changed)

    def turn(self, wishes: CheckWishes, known: Known, direction: int) -> CheckWishes:
        """The wishes with the next value (1) or the one before (-1)."""
        values = list(self.values(known))
        value = self.wished(wishes)
        if value is None and None not in values:
            value = self.chosen(known)
        if not values:
            return wishes
        if value is None and self.begin is not None and self.begin in values:
            return self.put(wishes, self.begin)
        number = _neighbour(values, value, direction)
        if self.wraps:
            number %= len(values)
        if not 0 <= number < len(values):
            return wishes
        return self.put(wishes, values[number])


def _neighbour(values: Sequence[Value], value: Value, direction: int) -> int:
    """The index of what comes next; `value` may lie between two of them."""
    if value in values:
        return values.index(value) + direction
    if isinstance(value, int):
        below = sum(isinstance(other, int) and other < value for other in values)
        return below if direction > 0 else below - 1
    return 0 if direction > 0 else len(values) - 1


def lengths(known: Known) -> list[int]:
    """Powers of two up to the model's own limit, that limit, and the longest that fits."""
    report = known.report
    own = report.context_length if report else None
    most = own or _MOST_TOKENS
    found = {1 << power for power in range(6, 24) if _FEWEST_TOKENS <= 1 << power <= most}
    if own:
        found.add(own)
    if report and report.memory and (fitting := report.memory.max_tokens_that_fit):
        found.add(min(fitting, most))
    return sorted(found)


def short_name(gpu: GpuSpec) -> str:
    """The catalogue's name as people write it: `A10`, `RTX 4090`, `A100-80`."""
    family, _, rest = gpu.name.partition("-")
    if family != "rtx":
        name = gpu.name.upper()
        return name.replace("-PCIE", " PCIe").replace("-NVL", " NVL")
    usual = {"ti": "Ti", "super": "Super", "ada": "Ada"}
    return " ".join(["RTX", *(usual.get(word, word.upper()) for word in rest.split("-"))])


def gpu_text(name: Value, known: Known) -> str:
    gpu = known.gpu(str(name)) if name else None
    return short_name(gpu) if gpu else one_line(str(name or ""), 40)


def _tokens(value: Value, _known: Known) -> str:
    return f"{value:,}" if isinstance(value, int) else "(auto)"


def _plain(value: Value, _known: Known) -> str:
    return str(value)


def _kv_cache(value: Value, _known: Known) -> str:
    return one_line(str(value), 40) if value else "auto"


def _quantization(value: Value, _known: Known) -> str:
    return one_line(str(value), 40) if value else "as it is"


def _runtime(name: Value, known: Known) -> str:
    for runtime in known.runtimes:
        if runtime.name == name:
            version = runtime.vllm_version
            return one_line(f"{name} {version}" if version else f"{name}", 40)
    return one_line(str(name), 40)


def _memory(known: Known, field: str) -> Value:
    memory = known.report.memory if known.report else None
    value: Value = getattr(memory, field) if memory else None
    return value


def _chosen_gpu(known: Known) -> Value:
    name = _memory(known, "gpu")
    gpu = known.gpu(str(name)) if name else None
    return gpu.name if gpu else name


def _whole(text: str) -> Value:
    """A number of tokens as people type it: `32768`, `32,768`, `32k`."""
    plain = text.strip().lower().replace(",", "").replace("_", "")
    times = 1024 if plain.endswith("k") else 1
    digits = plain.removesuffix("k")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 9:
        return None
    return int(digits) * times or None


GPU = Parameter(
    "gpu",
    "GPU",
    "g",
    12,
    lambda known: [gpu.name for gpu in known.gpus],
    _chosen_gpu,
    gpu_text,
    wraps=True,
    begin="a10",
)
NUMBER = Parameter(
    "gpus",
    "n ×",
    "n",
    3,
    lambda _known: _NUMBERS_OF_GPUS,
    lambda known: _memory(known, "gpu_count"),
    _plain,
    title="Number of GPUs",
)
MAX_TOKENS = Parameter(
    "max_tokens",
    "Max tokens",
    "t",
    11,
    lengths,
    lambda known: _memory(known, "max_tokens"),
    _tokens,
    typed=_whole,
)
KV_CACHE = Parameter(
    "kv_cache_dtype",
    "KV cache",
    "v",
    4,
    lambda _known: (None, "fp8"),
    lambda _known: None,
    _kv_cache,
    wraps=True,
)
QUANTIZATION = Parameter(
    "quantization",
    "Quantization",
    "q",
    12,
    lambda _known: (None, "fp8", "bitsandbytes"),
    lambda _known: None,
    _quantization,
    wraps=True,
)
RUNTIME = Parameter(
    "runtime",
    "Runtime",
    "r",
    12,
    lambda known: [runtime.name for runtime in known.runtimes],
    lambda known: known.report.runtime if known.report else None,
    _runtime,
    wraps=True,
)
PARAMETERS = (GPU, NUMBER, MAX_TOKENS, KV_CACHE, QUANTIZATION, RUNTIME)


def proposed(wishes: CheckWishes, known: Known) -> CheckWishes:
    """The wishes with what the checker proposes where that is something else than what it took."""
    proposal = known.report.proposal if known.report else None
    if proposal is None:
        return wishes
    for parameter, value in (
        (MAX_TOKENS, proposal.max_tokens),
        (NUMBER, proposal.tensor_parallel_size),
        (KV_CACHE, proposal.kv_cache_dtype),
        (QUANTIZATION, proposal.quantization),
    ):
        now = parameter.wished(wishes)
        if value is not None and value != (parameter.chosen(known) if now is None else now):
            wishes = parameter.put(wishes, value)
    return wishes
