"""Opening the workstation, beside the smallest Textual program."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.bench.measure import Row, in_turn, median, require
from tests.terminal import Terminal

HELLO = [sys.executable, str(Path(__file__).with_name("hello.py"))]
MESHTUI = [str(Path(sys.executable).parent / "meshtui")]
PAINTED_CELLS = 20
SETTLE_S = 4.0
IDLE_WINDOW_S = 4.0


def ordinary_environment() -> dict[str, str]:
    """As people have it: with compiled modules, which some test machines forbid."""
    return {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def paint_s(command: list[str]) -> float:
    """Seconds from exec to the first frame with something on it."""
    environment = ordinary_environment()
    with Terminal(command, columns=120, rows=40, environment=environment) as terminal:
        terminal.wait_for(lambda text: len("".join(text.split())) >= PAINTED_CELLS)
        took_s = time.perf_counter() - terminal.started_at
        quit_cleanly(terminal)
    return took_s


def quit_cleanly(terminal: Terminal) -> None:
    terminal.type("\x11")  # ctrl+q
    terminal.wait_for_exit()


def stop_controller() -> None:
    subprocess.run([*MESHTUI, "controller", "stop"], capture_output=True, timeout=30, check=False)


def test_the_first_screen_is_painted_nearly_as_fast_as_the_toolkit_can() -> None:
    def attempt() -> list[Row]:
        subprocess.run([*MESHTUI, "controller", "restart"], capture_output=True, check=True)
        hello, warm = in_turn(7, lambda: paint_s(HELLO), lambda: paint_s(MESHTUI))

        def cold() -> float:
            stop_controller()
            return paint_s(MESHTUI)

        hello_again, started = in_turn(5, lambda: paint_s(HELLO), cold)
        return [
            Row("first paint, controller running", median(warm), median(hello), 1.5, "s"),
            Row("first paint, controller to be started", median(started), median(hello_again),
                2.5, "s"),
        ]  # fmt: skip

    try:
        require("Time to the first paint, against bare Textual", attempt)
    finally:
        stop_controller()


def idle(command: list[str], ready: str) -> tuple[float, float]:
    """Resident MiB and CPU per cent of a program that was left alone for a while."""
    with Terminal(command, columns=120, rows=40) as terminal:
        terminal.wait_for(ready)
        terminal.read_for(SETTLE_S)
        process = psutil.Process(terminal.pid)
        before = sum(process.cpu_times()[:2])
        terminal.read_for(IDLE_WINDOW_S)
        used_s = sum(process.cpu_times()[:2]) - before
        memory_mib = process.memory_info().rss / 2**20
        quit_cleanly(terminal)
    return memory_mib, 100 * used_s / IDLE_WINDOW_S


def controller_process() -> psutil.Process:
    done = subprocess.run(
        [*MESHTUI, "controller", "status", "--json"], capture_output=True, check=True
    )
    import json

    return psutil.Process(int(json.loads(done.stdout)["pid"]))


def test_an_idle_workstation_costs_little() -> None:
    def attempt() -> list[Row]:
        stop_controller()
        hello_mib, hello_cpu = idle(HELLO, "Hello")
        tui_mib, tui_cpu = idle(MESHTUI, "SmolLM2-135M-Instruct")
        controller = controller_process()
        before = sum(controller.cpu_times()[:2])
        started = time.monotonic()
        with Terminal(["sleep", str(IDLE_WINDOW_S)]) as pause:
            pause.wait_for_exit()
        window_s = time.monotonic() - started
        controller_cpu = 100 * (sum(controller.cpu_times()[:2]) - before) / window_s
        controller_mib = controller.memory_info().rss / 2**20
        # A hundredth of a second is the clock's tick: one tick more or less is no finding.
        allowed_cpu = max(hello_cpu, 0.5)
        return [
            Row("memory of the workstation", tui_mib, hello_mib, 2.0, "MiB"),
            Row("CPU of the idle workstation", tui_cpu, allowed_cpu, 2.0, "%"),
            Row("CPU of the idle controller", controller_cpu, allowed_cpu, 2.0, "%"),
            Row("memory of the idle controller (90 MB)", controller_mib * 2**20 / 1e6, 90.0, 1.0,
                "MB"),
        ]  # fmt: skip

    try:
        require("An idle workstation, against bare Textual", attempt)
    finally:
        stop_controller()
