"""Which rows the table shows, and in which order."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from meshtui.domain.model_cache import CacheEntry, Transfer, TransferKind, TransferState

from .. import words
from .rows import EntryRow, state_of, weights_text

_BRINGS_IN = (
    TransferKind.DOWNLOAD,
    TransferKind.IMPORT,
    TransferKind.BUILD,
    TransferKind.ADOPT,
)


@dataclass(frozen=True)
class Order:
    """A way to sort: by a column, in words; the first in order has the smallest `key`."""

    column: str
    by: str
    key: Callable[[EntryRow], Any]


def _text(read: Callable[[CacheEntry], str | None]) -> Callable[[EntryRow], Any]:
    """By a text; what has none comes last."""

    def key(row: EntryRow) -> tuple[bool, str]:
        text = (read(row.entry) if row.entry else None) or ""
        return not text, text.casefold()

    return key


def _size(row: EntryRow) -> int:
    if row.entry is not None:
        return -row.entry.size_bytes
    return -((row.transfer.total_bytes if row.transfer else None) or 0)


_STATES = (words.FAILED, words.ATTENTION, words.COMING, words.GOING, words.WORKING, words.READY)


def _state(row: EntryRow) -> int:
    """What wants attention first."""
    sign = state_of(row)[0]
    return _STATES.index(sign) if sign in _STATES else len(_STATES)


ORDERS = (
    Order("MODEL", "name", lambda row: row.place),
    Order("TASK", "task", _text(lambda entry: words.task(entry.task) if entry.task else None)),
    Order("SIZE", "size", _size),
    Order("WEIGHTS", "weights", _text(lambda entry: weights_text(entry.weights))),
    Order("LAST USED", "last use", lambda r: -((r.entry and r.entry.last_used_at) or 0.0)),
    Order("BY", "who used it last", _text(lambda entry: entry.last_used_by)),
    Order("ENABLED ON", "connection", _text(lambda entry: ", ".join(entry.enabled_on))),
    Order("STATE", "state", _state),
)


class Listing:
    """Keeps rows as they are as long as what they show is the same, so that a change costs
    little however many there are."""

    def __init__(self) -> None:
        self.order = ORDERS[0]
        self.backwards = False
        self.query = ""
        self._rows: dict[str, EntryRow] = {}
        self._places: dict[str, Any] = {}
        self._sorted: list[EntryRow] = []

    def __getitem__(self, key: str) -> EntryRow:
        return self._rows[key]

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: str | None) -> EntryRow | None:
        return self._rows.get(key) if key is not None else None

    def take(self, entries: Mapping[str, CacheEntry], transfers: Iterable[Transfer]) -> None:
        """What there is now."""
        shown = _shown_transfers(entries, transfers)
        rows: dict[str, EntryRow] = {}
        for key, entry in entries.items():
            transfer = shown.pop(key, None) if shown else None
            old = self._rows.get(key)
            same = old is not None and old.entry is entry and old.transfer is transfer
            rows[key] = old if same and old else EntryRow(key, entry, transfer)
        for key, transfer in shown.items():
            rows[key] = EntryRow(key, None, transfer)
        self._rows = rows
        self._sort()

    def sort(self, order: Order, backwards: bool) -> None:
        """In another order, from the next `take` on."""
        self.order, self.backwards = order, backwards
        self._places = {}

    def _sort(self) -> None:
        """Again only where a row's place may be another; progress alone moves nothing."""
        before, same = self._sorted, len(self._rows) == len(self._sorted)
        places: dict[str, Any] = {}
        known = {row.key: row for row in before}
        for key, row in self._rows.items():
            unchanged = known.get(key) is row and key in self._places
            place = self._places[key] if unchanged else (self.order.key(row), row.place)
            same = same and self._places.get(key) == place
            places[key] = place
        self._places = places
        if same:
            self._sorted = [self._rows[row.key] for row in before]
        else:
            # Among equals it is by name, also where the order is reversed.
            by_name = sorted(self._rows.values(), key=attrgetter("place"))
            by_name.sort(key=lambda row: places[row.key][0], reverse=self.backwards)
            self._sorted = by_name

    def shown(self) -> list[EntryRow]:
        """The rows that pass the filter: all words are in it, none of those behind a `!`."""
        wanted = self.query.casefold().split()
        refused = [word[1:] for word in wanted if word[:1] == "!" and word[1:]]
        wanted = [word for word in wanted if word[:1] != "!"]
        if not wanted and not refused:
            return self._sorted
        return [
            row
            for row in self._sorted
            if all(word in row.haystack for word in wanted)
            and not any(word in row.haystack for word in refused)
        ]


def _shown_transfers(
    entries: Mapping[str, CacheEntry], transfers: Iterable[Transfer]
) -> dict[str, Transfer]:
    """The transfer that stands in a row, by the row's key. An entry shows what goes on with it;
    a model that was to come in and did not shows why."""
    shown: dict[str, Transfer] = {}
    for transfer in transfers:
        key = transfer.model or f"\n{transfer.id}"
        if not transfer.state.is_over:
            old = shown.get(key)
            if old is None or old.state is not TransferState.RUNNING:
                shown[key] = transfer
        elif (
            transfer.kind in _BRINGS_IN
            and transfer.state is not TransferState.DONE
            and key not in entries
            and (key not in shown or shown[key].state.is_over)
        ):
            shown[key] = transfer
    return shown
