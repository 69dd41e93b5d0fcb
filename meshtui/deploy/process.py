"""Processes that are not (or no longer) children of this one: who they are, when they end, what
they weigh; and free ports."""

import asyncio
import os
import socket
from collections.abc import Iterable

import msgspec

from meshtui.deploy.members import ProcessStat, boot_id, process_stat, send_signal


class ProcessId(msgspec.Struct, frozen=True):
    """A process that cannot be mistaken for a later one with the same pid: `start_ticks` is its
    start in clock ticks since the boot named by `boot`."""

    pid: int
    start_ticks: int
    boot: str

    def is_alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        stat = process_stat(self.pid) if self.boot == boot_id() else None
        return stat is not None and stat.alive and stat.start_ticks == self.start_ticks

    def signal(self, number: int) -> bool:
        """Signals it; False where it is gone."""
        return self.boot == boot_id() and send_signal(self.pid, self.start_ticks, number)


async def wait_for_exit(process: ProcessId) -> None:
    """Returns when the process has ended; does not reap it. It need not be a child."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def note() -> None:
        if not ended.done():
            ended.set_result(None)

    try:
        # Only now, so that the handle cannot be of another process that got the pid meanwhile.
        if not process.is_alive():
            return
        loop.add_reader(handle, note)
        try:
            await ended
        finally:
            loop.remove_reader(handle)
    finally:
        os.close(handle)


def memory_bytes(processes: Iterable[ProcessStat]) -> int:
    """The memory of these processes together: the sum of their proportional set sizes, which
    counts what they share once; resident size where the kernel does not tell that. Blocks for
    some milliseconds for each GB."""
    return sum(_proportional_bytes(stat.pid) for stat in processes)


def _proportional_bytes(pid: int) -> int:
    for path, field in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        try:
            with open(f"/proc/{pid}/{path}") as file:  # noqa: PTH123 (a hot path)
                for line in file:
                    if line.startswith(field):
                        return int(line.split()[1]) * 1024
        except OSError:
            continue
    return 0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now. Another program may take it before it is
    used: whoever starts something on it must be ready to try another one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
