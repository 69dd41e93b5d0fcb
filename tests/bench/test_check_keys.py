"""From a key of the checker to its picture, beside a key of a bare Textual editor."""

import sys
from pathlib import Path

import psutil

from meshtui.cache.store import ModelStore
from meshtui.settings import paths
from tests.bench.measure import Row, median, percentile, require
from tests.bench.test_check_speed import MODELS, entry_files
from tests.controller_support import controller_process
from tests.support.models import put
from tests.terminal import Terminal

MESHTUI = [str(Path(sys.executable).parent / "meshtui")]
BARE_EDITOR = [sys.executable, str(Path(__file__).with_name("bare_editor.py"))]
F6 = "\x1b[17~"
# What keys step through, up and down again: each with the words below the bar that it leads to.
LENGTHS = ("1,024", "2,048", "4,096", "8,192", "16,384")
STEPS = [
    *(("t", f"at {length}") for length in LENGTHS[1:]),
    *(("T", f"at {length}") for length in LENGTHS[-2::-1]),
]
ROUNDS = 6


def to_the_picture(terminal: Terminal) -> None:
    """The checker with its answer about a cached model on a GPU that it fits on."""
    terminal.wait_for("no servers")
    terminal.type(F6)
    terminal.wait_for("org/name")
    terminal.type(MODELS[0])
    terminal.wait_for(MODELS[0])
    terminal.type("\r")
    terminal.wait_for("█ weights")
    terminal.type("g")
    terminal.wait_for("22.06 GiB")
    # More often than there are lengths: the shortest is the end.
    terminal.type("T" * 12)
    terminal.wait_for(f"at {LENGTHS[0]}")


def processor_s(*processes: psutil.Process) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def test_the_picture_changes_as_the_key_is_pressed() -> None:
    put(ModelStore(paths.models_dir()), MODELS[0], entry_files(MODELS[0]))

    with (
        controller_process({}) as controller,
        Terminal(MESHTUI, columns=160, rows=45) as terminal,
        Terminal(BARE_EDITOR, columns=160, rows=45) as bare,
    ):
        to_the_picture(terminal)
        bare.type("go")
        bare.wait_for("go")
        working = [psutil.Process(terminal.pid), psutil.Process(controller.pid)]

        def attempt() -> list[Row]:
            ours: list[float] = []
            beside: list[float] = []
            used_s = 0.0
            for _round in range(ROUNDS):
                before_s = processor_s(*working)
                ours += [terminal.paint_s(key, wanted) for key, wanted in STEPS]
                used_s += processor_s(*working) - before_s
                beside += [bare.echo_s(key) for key in "abcdefgh"]
                bare.type("\x15")
            return [
                # From key to picture are 50 ms at most, if nobody else wants the processor.
                Row("processor time of a key, with the controller's", 1e3 * used_s / len(ours),
                    50, 1.0, "ms"),
                Row("key to picture, median", 1e3 * median(ours), 1e3 * median(beside), 4, "ms"),
                Row("key to picture, 95th percentile", 1e3 * percentile(ours, 0.95),
                    1e3 * percentile(beside, 0.95), 4, "ms"),
            ]  # fmt: skip

        require("A key of the checker, against a key of bare Textual", attempt)
