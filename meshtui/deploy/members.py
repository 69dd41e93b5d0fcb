"""Which processes belong to an engine, and how all of them are ended.

Used by the supervisor, which runs on the bare standard library: nothing else is imported here.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

MARKER_VARIABLE = "MESHTUI_SERVER"

_DESTROY_TIMEOUT_S = 20.0
_TRACKER_GRACE_S = 1.0
# Shared memory that engines make and unlink only when they end well: Python's multiprocessing,
# PyTorch, NCCL and OpenMP.
_SHARED_MEMORY = tuple(
    f"/dev/shm/{prefix}" for prefix in ("psm_", "sem.mp-", "torch_", "nccl-", "__KMP_REGISTERED")
)


class ProcessStat:
    """A line of the process table. `start_ticks` tells processes with the same pid apart."""

    __slots__ = ("alive", "parent", "pid", "session", "start_ticks")

    def __init__(self, pid: int, line: bytes) -> None:
        # The command's name, in parentheses, may hold spaces and parentheses itself.
        fields = line[line.rindex(b")") + 2 :].split()
        self.pid = pid
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.start_ticks = int(fields[19])
        # A process whose first thread has ended is shown as a zombie while others still run.
        self.alive = fields[0] not in b"ZX" or int(fields[17]) > 1


def process_stat(pid: int) -> ProcessStat | None:
    """The process's line of the table; None where there is no such process."""
    try:
        return ProcessStat(pid, _read(f"/proc/{pid}/stat"))
    except (OSError, ValueError):
        return None


def boot_id() -> str:
    """Names this start of the machine: pids and start times mean nothing beyond it."""
    return _read("/proc/sys/kernel/random/boot_id").decode().strip()


def marker(server: str, nonce: str) -> str:
    """The value of `MESHTUI_SERVER` in the environment of everything of one start."""
    return f"{server}:{nonce}"


def find_members(
    marked: str, *, session: int | None, root: int | None = None, without: Iterable[int] = ()
) -> list[ProcessStat]:
    """The live processes of an engine: those in `session`, those marked, descendants of `root`
    (not itself), and the children of all of them."""
    table = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - no pathlib here: it would double the memory
        if name.isdigit() and (stat := process_stat(int(name))):
            table[stat.pid] = stat
    excluded = {*without, os.getpid()}
    entry = f"{MARKER_VARIABLE}={marked}".encode()
    found = {
        pid
        for pid, stat in table.items()
        if (session is not None and stat.session == session) or _has_marker(pid, entry)
    }
    found -= excluded
    grown = True
    while grown:
        more = {
            pid
            for pid, stat in table.items()
            if pid not in found
            and pid not in excluded
            and (stat.parent in found or (root is not None and stat.parent == root))
        }
        found |= more
        grown = bool(more)
    return [table[pid] for pid in sorted(found) if table[pid].alive]


def destroy(find: Callable[[], list[ProcessStat]]) -> list[int]:
    """Kills what `find` finds until it finds nothing, and unlinks the shared memory that they
    had mapped. Gives the pids that could not be killed in time (stuck in the kernel)."""
    shared: set[str] = set()
    begin = time.monotonic()
    while found := find():
        waited = time.monotonic() - begin
        for stat in found:
            shared.update(_mapped_shared_memory(stat.pid))
        # A resource tracker of Python unlinks shared memory when its last client is gone, even
        # of clients that were killed before their maps could be read: it gets a moment for that.
        spared = [s for s in found if waited < _TRACKER_GRACE_S and _is_resource_tracker(s.pid)]
        for stat in found:
            if stat not in spared:
                send_signal(stat.pid, stat.start_ticks, signal.SIGKILL)
        if waited > _DESTROY_TIMEOUT_S:
            break
        _wait_for_exits(found, _TRACKER_GRACE_S / 2)
    for path in shared:
        with suppress(OSError):  # its owner may unlink it after all
            os.unlink(path)  # noqa: PTH108
    return [stat.pid for stat in found]


def send_signal(pid: int, start_ticks: int, number: int) -> bool:
    """Signals that very process, not another one that got its pid; False where it is gone."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        stat = process_stat(pid)
        if stat is None or stat.start_ticks != start_ticks:
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def _wait_for_exits(stats: list[ProcessStat], timeout_s: float) -> None:
    poll = select.poll()
    handles = []
    for stat in stats:
        try:
            handles.append(os.pidfd_open(stat.pid))
        except OSError:
            continue
        poll.register(handles[-1], select.POLLIN)
    end = time.monotonic() + timeout_s
    waiting = len(handles)
    while waiting and (left := end - time.monotonic()) > 0:
        for handle, _ in poll.poll(left * 1000):
            poll.unregister(handle)
            waiting -= 1
    for handle in handles:
        os.close(handle)


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        return file.read()


def _has_marker(pid: int, entry: bytes) -> bool:
    try:
        return entry in _read(f"/proc/{pid}/environ").split(b"\0")
    except OSError:
        return False


def _is_resource_tracker(pid: int) -> bool:
    try:
        return b"multiprocessing.resource_tracker" in _read(f"/proc/{pid}/cmdline")
    except OSError:
        return False


def _mapped_shared_memory(pid: int) -> set[str]:
    try:
        lines = _read(f"/proc/{pid}/maps").decode(errors="replace").splitlines()
    except OSError:
        return set()
    paths = (line.split(None, 5)[5] for line in lines if "/dev/shm/" in line)
    return {p for p in paths if p.startswith(_SHARED_MEMORY) and not p.endswith(" (deleted)")}
