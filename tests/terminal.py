"""A real pseudo-terminal with a small emulator behind it, to drive the program as a person does."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyte

# What xterm-like terminals answer to the queries that programs send at their start: device
# attributes, cursor position, private modes, the kitty keyboard protocol, sizes in pixels.
_ANSWERS = (
    (re.compile(rb"\x1b\[6n"), b"\x1b[1;1R"),
    (re.compile(rb"\x1b\[0?c"), b"\x1b[?62;22c"),
    (re.compile(rb"\x1b\[\?(\d+)\$p"), b"\x1b[?%s;2$y"),
    (re.compile(rb"\x1b\[\?u"), b"\x1b[?0u"),
    (re.compile(rb"\x1b\[14t"), b"\x1b[4;800;1200t"),
    (re.compile(rb"\x1b\[16t"), b"\x1b[6;20;10t"),
)
# Sequences that the emulator would print as text.
_UNKNOWN = re.compile(
    rb"\x1b\[[>=<][0-9;]*[a-zA-Z]|\x1b\[\?[0-9;]*\$p|\x1b_.*?\x1b\\|\x1bP.*?\x1b\\|\x1b\[\?u"
    rb"|\x1b\[[0-9;]*\"q",
    re.S,
)


class Terminal:
    """Runs a command in a pty; `wait_for` is how a test synchronises with what is painted."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int = 80,
        rows: int = 24,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.received = bytearray()
        self.exit_status: int | None = None
        env = dict(os.environ if environment is None else environment)
        for name in ("TMUX", "COLUMNS", "LINES"):
            env.pop(name, None)
        env.update(TERM="xterm-256color", COLORTERM="truecolor", LANG="C.UTF-8")
        self.started_at = time.perf_counter()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
                if cwd is not None:
                    os.chdir(cwd)
                os.execvpe(command[0], list(command), env)
            finally:
                os._exit(127)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def text(self) -> str:
        """The screen as it is now."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def echo_s(self, key: str, timeout_s: float = 5) -> float:
        """Seconds from a key press to its being painted. `key` is a character that nothing else
        paints."""
        return self.paint_s(key, key, timeout_s)

    def paint_s(self, key: str, wanted: str, timeout_s: float = 5) -> float:
        """Seconds from a key press to the painting of a text that nothing else paints; the
        emulator works after the clock has stopped."""
        sent_at = time.perf_counter()
        os.write(self._fd, key.encode())
        pending = b""
        while wanted.encode() not in pending:
            left_s = sent_at + timeout_s - time.perf_counter()
            if left_s <= 0 or not select.select([self._fd], [], [], left_s)[0]:
                self._take(pending)
                raise AssertionError(f"{wanted!r} was not painted:\n{self.text}")
            pending += os.read(self._fd, 65536)
        took_s = time.perf_counter() - sent_at
        self._take(pending)
        return took_s

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, wanted: str | Callable[[str], bool], timeout_s: float = 20) -> str:
        """Reads until the screen holds `wanted` (or satisfies it); returns the screen."""
        met = (lambda text: wanted in text) if isinstance(wanted, str) else wanted
        deadline = time.monotonic() + timeout_s
        while not met(self.text):
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not self._read(left_s):
                raise AssertionError(
                    f"{wanted!r} did not appear (exit status {self.exit_status}):\n{self.text}"
                )
        return self.text

    def wait_for_exit(self, timeout_s: float = 20) -> int:
        """Reads until the program has ended; returns its exit status."""
        deadline = time.monotonic() + timeout_s
        while self.exit_status is None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise AssertionError(f"The program goes on:\n{self.text}")
            self._read(left_s)
        return self.exit_status

    def read_for(self, duration_s: float) -> None:
        """Reads whatever comes for a while: an observation window, not a synchronisation."""
        deadline = time.monotonic() + duration_s
        while (left_s := deadline - time.monotonic()) > 0 and self._read(left_s):
            pass

    def hang_up(self) -> None:
        """Closes the terminal under the program; `wait_for_exit` cannot read from it any more."""
        os.close(self._fd)
        self._fd = -1

    def close(self) -> None:
        if self.exit_status is None:
            os.kill(self.pid, signal.SIGKILL)
            self._reap()
        if self._fd >= 0:
            os.close(self._fd)

    def _read(self, timeout_s: float) -> bool:
        """One read; False when the program has ended."""
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return True
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # EIO: the other side is closed
            data = b""
        if not data:
            self._reap()
            return False
        self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        self.received += data
        for query, answer in _ANSWERS:
            for match in query.finditer(data):
                os.write(self._fd, answer % match.groups() if b"%s" in answer else answer)
        self._stream.feed(_UNKNOWN.sub(b"", data))

    def _reap(self) -> None:
        if self.exit_status is None:
            _, status = os.waitpid(self.pid, 0)
            self.exit_status = os.waitstatus_to_exitcode(status)
