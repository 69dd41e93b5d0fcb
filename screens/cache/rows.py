"""Entries of the cache, and what goes on with it, as rows of a table."""

import time
from dataclasses import dataclass
from functools import cached_property

from rich.cells import cell_len

from meshtui.domain.model_cache import CacheEntry, Transfer, TransferState, Weights, WeightsFormat
from meshtui.domain.text import one_line

from .. import words
from ..widgets.table import Column
from ..widgets.tones import Part
from ..widgets.wrapping import fit_cells

_HASH_CHARS = 40
_SHORT_HASH_CHARS = 8
_DTYPES = {
    "BF16": "bf16",
    "F16": "fp16",
    "F32": "fp32",
    "F64": "fp64",
    "F8_E4M3": "fp8",
    "F8_E5M2": "fp8",
    "I8": "int8",
    "U8": "uint8",
    "I32": "int32",
}
_DASH: Part = ("–", "$muted")


def fit_name(name: str, width: int) -> str:
    """A model's name in `width` cells. What tells models apart stands at the end, so it is the
    organisation that is cut first."""
    if cell_len(name) <= width:
        return fit_cells(name, width)
    organisation, slash, rest = name.partition("/")
    room = width - cell_len(rest) - 1
    if slash and room >= 2:
        return fit_cells(fit_cells(organisation, room).rstrip() + slash + rest, width)
    return fit_cells(rest if slash else name, width)


def fit_pieces(text: str, width: int) -> str:
    """Pieces that two spaces part, as many of them as there is room for."""
    while "  " in text and cell_len(text) > width:
        text = text.rpartition("  ")[0].rstrip()
    return fit_cells(text, width)


COLUMNS = (
    Column("", 1),
    Column("MODEL", 25, most=58, fit=fit_name),
    Column("TASK", 9, drop=4),
    Column("SIZE", 7, right=True),
    Column("REVISION", 8, drop=7),
    Column("WEIGHTS", 9, drop=3, most=12),
    Column("LAST USED", 10, right=True, drop=1),
    Column("BY", 6, drop=6, most=8),
    Column("ENABLED ON", 11, drop=5, most=16),
    Column("STATE", 24, most=34, fit=fit_pieces),
)


@dataclass(frozen=True)
class EntryRow:
    """An entry, what goes on with it, or both; `cells` are made when they are first drawn."""

    key: str
    entry: CacheEntry | None
    transfer: Transfer | None = None

    @property
    def cells(self) -> tuple[Part, ...]:
        entry = self.entry
        sign, text, tone = state_of(self)
        if entry is None:
            total = self.transfer.total_bytes if self.transfer else None
            size: Part = (words.size(total), "") if total else _DASH
            return (
                (sign, tone),
                (self.name, "$strong"),
                _DASH,
                size,
                *[_DASH] * 5,
                (text, tone),
            )
        used = entry.last_used_at
        return (
            (sign, tone),
            (self.name, "$strong"),
            _or_dash(words.task(entry.task) if entry.task else ""),
            (words.size(entry.size_bytes), ""),
            _or_dash((entry.commit or "")[:_SHORT_HASH_CHARS], "$muted"),
            _or_dash(weights_text(entry.weights)),
            (age(used), "") if used else ("never", "$muted"),
            _or_dash(entry.last_used_by or "", "$muted"),
            _or_dash(", ".join(entry.enabled_on), "$muted"),
            (text, tone),
        )

    @cached_property
    def name(self) -> str:
        """The model's name; a revision that is a whole hash is shortened."""
        if self.entry is None and self.transfer is not None and self.transfer.model is None:
            return one_line((self.transfer.place or "").rstrip("/").rpartition("/")[2]) or "…"
        return short_name(self.entry.model if self.entry else self.key)

    @cached_property
    def place(self) -> tuple[str, str]:
        """Its place by name."""
        return self.name.casefold(), self.key

    @cached_property
    def haystack(self) -> str:
        """What the filter looks into."""
        if self.entry is None:
            return f"{self.name}\n{state_of(self)[1]}".casefold()
        entry = self.entry
        parts = (
            *(entry.model, entry.task, words.task(entry.task), entry.library, entry.licence),
            *(weights_text(entry.weights), entry.last_used_by, entry.commit),
            *(*entry.tags, *entry.languages, *entry.enabled_on, state_of(self)[1]),
        )
        return "\n".join(part for part in parts if part).casefold()


def short_name(model: str) -> str:
    """A model's name with a revision that is a hash cut to what people compare."""
    name, at, revision = one_line(model).partition("@")
    if len(revision) == _HASH_CHARS:
        revision = revision[:_SHORT_HASH_CHARS]
    return f"{name}{at}{revision}"


def age(epoch: float | None) -> str:
    """`2 h ago`, or a dash."""
    return f"{words.span(time.time() - epoch)} ago" if epoch else "–"


def _or_dash(text: str, tone: str = "") -> Part:
    return (one_line(text), tone) if text else _DASH


def weights_text(weights: Weights) -> str:
    """`bf16 ×4`, `awq ×2`, `pickle`, `gguf`; empty where there are none."""
    if weights.format is WeightsFormat.NONE:
        return ""
    dtype = _DTYPES.get(weights.dtype or "", (weights.dtype or "").lower())
    kind = weights.quantization or dtype
    if weights.format is not WeightsFormat.SAFETENSORS or not kind:
        kind = weights.format.value
    return f"{one_line(kind, 40)} ×{weights.shards}" if weights.shards > 1 else one_line(kind, 40)


def state_of(row: EntryRow) -> tuple[str, str, str]:
    """Sign, words and tone of a row's state."""
    transfer, entry = row.transfer, row.entry
    if transfer is not None and (entry is None or not transfer.state.is_over):
        sign, tone = words.transfer_sign(transfer)
        return sign, transfer_text(transfer), tone
    if entry is None:
        return words.ABSENT, "", "$muted"
    if entry.problem:
        return words.FAILED, f"broken: {one_line(entry.problem)}", "$error"
    checked = entry.verification
    if checked is not None and not checked.ok:
        return words.FAILED, f"damaged: {one_line(damage(entry))}", "$error"
    danger = danger_of(entry)
    if entry.served_by:
        served = f"served, {danger}" if danger else "served"
        return words.READY, served, "$success"
    if danger:
        return words.ATTENTION, danger, "$warning"
    return " ", f"ok  verified {age(checked.at)}" if checked else "ok", "$muted"


def damage(entry: CacheEntry) -> str:
    """What the newest check found first; empty where nothing is wrong."""
    found = entry.verification.findings if entry.verification else ()
    return next((finding.message for finding in found if finding.level == "blocker"), "")


def danger_of(entry: CacheEntry) -> str:
    """What loading it would run besides weights."""
    code = any(path.endswith(".py") for path in entry.unsafe)
    pickles = any(not path.endswith(".py") for path in entry.unsafe)
    both = [what for what, there in (("pickled weights", pickles), ("own code", code)) if there]
    return "unsafe: " + ", ".join(both) if both else ""


def transfer_text(transfer: Transfer) -> str:
    """How far it is, how fast, how long still; or how it ended."""
    doing = words.transferring(transfer.kind)
    match transfer.state:
        case TransferState.QUEUED:
            return f"queued  {transfer.kind.value}"
        case TransferState.FAILED:
            why = one_line(transfer.error.message) if transfer.error else ""
            return f"failed: {why}"
        case TransferState.CANCELLED:
            return f"cancelled  {transfer.kind.value}"
        case TransferState.DONE:
            return words.transferred(transfer.kind)
    if transfer.fraction is None:
        return f"{doing}  {one_line(transfer.step)}".rstrip()
    # The arrow tells what comes and goes; what only reads or removes is named.
    named = words.transfer_sign(transfer)[0] == words.WORKING
    share = words.percent(transfer.fraction)
    pieces = [f"{doing} {share}" if named else share]
    if transfer.rate_bytes_s > 0:
        pieces.append(words.rate(transfer.rate_bytes_s))
    if transfer.left_s is not None:
        pieces.append(f"{words.clock(transfer.left_s)} left")
    return "  ".join(pieces)
