"""A session in a real tmux server of its own, without anybody's configuration."""

import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

POLL_S = 0.05


class Tmux:
    """One window of one session. `wait_for` polls the pane, since tmux tells nobody."""

    def __init__(
        self,
        command: str,
        *,
        columns: int = 80,
        rows: int = 24,
        environment: Mapping[str, str],
        cwd: Path,
    ) -> None:
        binary = shutil.which("tmux")
        if binary is None:
            pytest.skip("tmux is not installed (apt-get install tmux)")
        # One server a test: the socket's name is unique, its folder is the test's own.
        self._tmux = [binary, "-f", "/dev/null", "-L", f"meshtui-{uuid.uuid4().hex[:8]}"]
        self._environment = dict(environment)
        self._environment.pop("TMUX", None)
        size = ["-x", str(columns), "-y", str(rows)]
        self._run("new-session", "-d", *size, "-c", str(cwd), command)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run("kill-server", check=False)

    def type(self, *keys: str) -> None:
        """Keys by tmux's names (`C-r`, `Escape`) or as text."""
        self._run("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self._run("resize-window", "-x", str(columns), "-y", str(rows))

    @property
    def text(self) -> str:
        return self._run("capture-pane", "-p")

    @property
    def buffer(self) -> str:
        """What tmux would paste."""
        return self._run("show-buffer", check=False)

    def wait_for(self, wanted: str | Callable[[str], bool], timeout_s: float = 20) -> str:
        met = (lambda text: wanted in text) if isinstance(wanted, str) else wanted
        deadline = time.monotonic() + timeout_s
        while not met(text := self.text):
            if time.monotonic() > deadline:
                raise AssertionError(f"{wanted!r} did not appear:\n{text}")
            time.sleep(POLL_S)
        return text

    def _run(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            [*self._tmux, *words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"tmux {words[0]}: {done.stderr.strip()}")
        return done.stdout
