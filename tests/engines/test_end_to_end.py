"""The main job as a person does it: open the workstation, press one key, read the answer."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import TEST_CACHE
from tests.layout import REPOSITORY
from tests.terminal import Terminal
from tests.tmux import Tmux

pytestmark = pytest.mark.engine

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
QUESTION = "What is the capital of France?"
MESHTUI = str(Path(sys.executable).parent / "meshtui")
START_TIMEOUT_S = 300
CTRL_Q, CTRL_R = "\x11", "\x12"


@pytest.fixture(autouse=True)
def built(own_folders: Path, smollm2_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A home of its own that already has the runtime and the model; all that it starts ends."""
    monkeypatch.setenv("MESHTUI_RUNTIMES", str(TEST_CACHE / "runtimes"))
    monkeypatch.setenv("MESHTUI_CACHE", str(TEST_CACHE / "models"))
    yield
    for server in servers():
        meshtui("server", "stop", server["id"])
    subprocess.run([MESHTUI, "controller", "stop"], capture_output=True, timeout=60, check=False)


def meshtui(*words: str, timeout_s: float = 120) -> str:
    done = subprocess.run(
        [MESHTUI, *words], capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def servers() -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(meshtui("server", "list", "--json"))
    return found


def controller_pid() -> int:
    return int(json.loads(meshtui("controller", "status", "--json"))["pid"])


def test_make_run_and_one_key_lead_to_a_streamed_answer_in_tmux() -> None:
    with Tmux("make run", environment=os.environ, cwd=REPOSITORY) as tmux:
        tmux.wait_for(QUESTION, timeout_s=180)
        tmux.type("C-r")
        tmux.wait_for("Paris", timeout_s=START_TIMEOUT_S)
        tmux.wait_for("tok/s")
        tmux.type("y")
        tmux.wait_for("through tmux")
        assert "Paris" in tmux.buffer
        tmux.resize(160, 45)
        tmux.wait_for(lambda text: "Paris" in text and QUESTION in text)
        tmux.type("C-q")


def test_a_killed_controller_loses_nothing_and_the_server_is_taken_over() -> None:
    with Terminal([MESHTUI], columns=160, rows=45) as terminal:
        terminal.wait_for(QUESTION)
        terminal.type(CTRL_R)
        terminal.wait_for("Paris", timeout_s=START_TIMEOUT_S)
        before = servers()[0]
        terminal.type(" Tell a very long story about it, with many words.")
        terminal.type(CTRL_R)
        terminal.wait_for(lambda text: text.count("story") >= 2)
        os.kill(controller_pid(), signal.SIGKILL)
        terminal.wait_for("controller went away")
        assert psutil.pid_exists(int(str(before["pid"])))
        # The next controller, started by the workstation itself, has taken the server over.
        after = servers()[0]
        assert (after["pid"], after["phase"]) == (before["pid"], "Ready")
        terminal.type(CTRL_Q)
        assert terminal.wait_for_exit() == 0
    history = json.loads(meshtui("server", "list", "--json"))
    assert len(history) == 1


def test_an_engine_killed_while_loading_ends_in_words_and_starts_again() -> None:
    server = json.loads(meshtui("server", "start", MODEL, "--json"))
    follower = subprocess.Popen(
        [MESHTUI, "server", "start", MODEL, "--wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert follower.stderr is not None
    for line in follower.stderr:
        if line.startswith(("LoadingWeights", "Warming")):
            break
    [engine] = (
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if any("api_server" in word for word in process.info["cmdline"] or ())
        and str(server["id"]) in (process.info["environ"] or {}).get("MESHTUI_SERVER", "")
    )
    engine.kill()
    _, errors = follower.communicate(timeout=60)
    assert (follower.returncode, "Traceback" in errors) == (1, False), errors
    assert "killed" in errors.lower()
    assert "Paris" in meshtui("prompt", MODEL, QUESTION, timeout_s=START_TIMEOUT_S)
