"""Which transfers there are, and whose turn it is: in the same time for one and for thousands."""

from collections.abc import Iterator

from meshtui.controller.transfer_item import Item
from meshtui.controller.transfer_requests import Request

# Downloads wait for the network, everything else for the disk: the two go on beside each other.
DOWNLOADS_AT_ONCE = 2
ON_DISK_AT_ONCE = 2
KEPT = 50


class _Lane:
    """Those that wait, in their order, and those that run, by their ids."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.waiting: dict[str, Item] = {}
        self.running: dict[str, Item] = {}


class TransferQueue:
    """Tell it of every item that comes (`add`), begins (`begun`) and ends (`ended`)."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._live: dict[tuple[str, ...], Item] = {}
        self._over: dict[str, Item] = {}
        self._downloads = _Lane(DOWNLOADS_AT_ONCE)
        self._on_disk = _Lane(ON_DISK_AT_ONCE)

    def __iter__(self) -> Iterator[Item]:
        """All of them, oldest first."""
        return iter(self._items.values())

    def get(self, transfer_id: str) -> Item | None:
        return self._items.get(transfer_id)

    def same(self, request: Request) -> Item | None:
        """The one under way that does the same thing."""
        return self._live.get(request.same)

    @property
    def live(self) -> list[Item]:
        """Those that wait or run."""
        return list(self._live.values())

    @property
    def running(self) -> list[Item]:
        return [*self._downloads.running.values(), *self._on_disk.running.values()]

    def add(self, item: Item) -> None:
        """Behind those that are there; an older one with its id goes."""
        transfer_id = item.transfer.id
        self.remove(transfer_id)
        self._items[transfer_id] = item
        if item.is_over:
            self._over[transfer_id] = item
            return
        self._live[item.request.same] = item
        self._lane(item).waiting[transfer_id] = item

    def begun(self, item: Item) -> None:
        """It runs now, whether it was its turn or not."""
        lane = self._lane(item)
        lane.waiting.pop(item.transfer.id, None)
        lane.running[item.transfer.id] = item

    def ended(self, item: Item) -> list[str]:
        """It is over; gives the ids of those that are too old to be kept."""
        transfer_id = item.transfer.id
        lane = self._lane(item)
        lane.waiting.pop(transfer_id, None)
        lane.running.pop(transfer_id, None)
        if self._live.get(item.request.same) is item:
            del self._live[item.request.same]
        self._over[transfer_id] = item
        return [old for old, _ in zip(self._over, range(len(self._over) - KEPT), strict=False)]

    def remove(self, transfer_id: str) -> None:
        """Forgets one that is over, if it is there."""
        self._items.pop(transfer_id, None)
        self._over.pop(transfer_id, None)

    def next(self) -> Item | None:
        """One whose turn it is; None while all places are taken or nobody waits."""
        for lane in (self._downloads, self._on_disk):
            if lane.waiting and len(lane.running) < lane.most:
                return next(iter(lane.waiting.values()))
        return None

    def _lane(self, item: Item) -> _Lane:
        return self._downloads if item.is_download else self._on_disk
