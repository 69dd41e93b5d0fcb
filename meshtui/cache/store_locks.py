"""The locks of a cache, in `ROOT/.locks/`."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from meshtui.cache.disk_errors import explained
from meshtui.cache.locks import FileLock, locked
from meshtui.cache.names import folder_name
from meshtui.cache.sharing import sharing_of
from meshtui.cache.staging import short
from meshtui.cache.work import Work
from meshtui.domain.errors import Conflict
from meshtui.domain.model_ref import ModelRef

LOCKS = ".locks"
CHANGES_TIMEOUT_S = 30.0
# No model's lock is named so: escaped names do not begin with a dot.
_CHANGES = ".changes.lock"


class StoreLocks:
    """One a model, held for as long as it is brought in, and one that is held for the moment in
    which names or metadata change."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @asynccontextmanager
    async def model(self, ref: ModelRef, on_wait: Callable[[], None] | None) -> AsyncIterator[None]:
        async with AsyncExitStack() as held:
            with explained(f"{ref} cannot be stored", self._root):
                path = self._path(short(folder_name(ref)))
                await held.enter_async_context(locked(path, on_wait, sharing_of(self._root)))
            yield

    @contextmanager
    def model_in_thread(self, ref: ModelRef, work: Work | None) -> Iterator[None]:
        check = work.advance if work else None
        with ExitStack() as held:
            with explained(f"{ref} cannot be stored", self._root):
                lock = self.named(short(folder_name(ref)))
                held.enter_context(lock.holding(while_waiting=check))
            yield

    def named(self, name: str) -> FileLock:
        """The lock of the model whose partial download has that name, without its suffix."""
        return FileLock(self._path(name), sharing_of(self._root))

    @contextmanager
    def changing(self, timeout_s: float = CHANGES_TIMEOUT_S) -> Iterator[None]:
        """Raises `Conflict` where another process holds it for that long, or `OSError`."""
        with ExitStack() as held:
            try:
                lock = FileLock(self._root / LOCKS / _CHANGES, sharing_of(self._root))
                held.enter_context(lock.holding(timeout_s))
            except TimeoutError as error:
                raise Conflict(
                    "Another process is changing the model cache, and does not come to an end.",
                    hint="Try again; if it stays so, look for a meshtui process that hangs.",
                ) from error
            yield

    def _path(self, name: str) -> Path:
        return self._root / LOCKS / f"{name}.lock"
