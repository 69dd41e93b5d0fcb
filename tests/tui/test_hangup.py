"""The workstation ends with its terminal, whatever becomes of the signal that says so."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.controller_support import controller_process
from tests.terminal import Terminal

MESHTUI = str(Path(sys.executable).parent / "meshtui")

IGNORE = (
    "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
    " os.execv(sys.argv[1], sys.argv[1:])"
)
DEAF = [sys.executable, "-c", IGNORE]


@pytest.fixture(autouse=True)
def controller() -> Iterator[None]:
    with controller_process():
        yield


@pytest.mark.parametrize("command", [[MESHTUI], [*DEAF, MESHTUI]], ids=["plain", "deaf"])
def test_it_ends_when_the_terminal_closes(command: list[str]) -> None:
    with Terminal(command) as terminal:
        terminal.wait_for("no servers")
        process = psutil.Process(terminal.pid)
        terminal.hang_up()
        process.wait(timeout=10)
        terminal.exit_status = 0


def test_sigterm_restores_the_terminal() -> None:
    with Terminal([MESHTUI]) as terminal:
        terminal.wait_for("no servers")
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.wait_for_exit() == 0
        assert b"\x1b[?1049l" in terminal.received, "back from the alternate screen"


def test_the_controller_goes_on_without_its_terminal() -> None:
    with Terminal([MESHTUI]) as terminal:
        terminal.wait_for("no servers")
        terminal.hang_up()
        psutil.Process(terminal.pid).wait(timeout=10)
        terminal.exit_status = 0
    done = subprocess.run([MESHTUI, "controller", "status"], capture_output=True, timeout=20)
    assert done.returncode == 0
