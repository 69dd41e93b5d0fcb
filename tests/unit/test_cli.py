"""The command line as scripts use it: a real controller, engines that are real processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from openai import OpenAI

from tests.controller_support import MODELS, controller_process, enable
from tests.support.waiting import eventually

MESHTUI = str(Path(sys.executable).parent / "meshtui")
ENDLESS = {
    "fake/endless": ("--tokens", "100000", "--rate", "50", "--text", "words"),
    "fake/never": ("--stay-in", "weights"),
}


@pytest.fixture
def controller() -> Iterator[None]:
    with controller_process({**MODELS, **ENDLESS}):
        yield


def meshtui(*words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [MESHTUI, *words], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr
    return done


def answer(*words: str) -> str:
    done = meshtui(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_prompt_streams_to_stdout_and_its_way_there_to_stderr(controller: None) -> None:
    done = meshtui("prompt", "fake/hello", "What is the capital of France?")
    assert done.returncode == 0
    assert "The capital of France is Paris." in done.stdout
    assert "Starting" in done.stderr and "Starting" not in done.stdout


def test_a_prompt_is_read_from_stdin(controller: None) -> None:
    assert "Paris" in meshtui("prompt", "fake/hello", "-", text="What is it?").stdout
    assert "Paris" in meshtui("prompt", "fake/hello", text="What is it?").stdout
    empty = meshtui("prompt", "fake/hello", "-", text="  \n")
    assert (empty.returncode, empty.stdout) == (2, "")
    assert "There is no prompt" in empty.stderr


def test_json_is_the_run_alone(controller: None) -> None:
    words = ("--system", "Be short.", "--max-tokens", "4", "--seed", "7", "--stop", "x", "--json")
    run = json.loads(answer("prompt", "fake/hello", "Go.", *words))
    assert run["status"] == "done"
    assert [message["role"] for message in run["messages"]] == ["system", "user"]
    assert run["parameters"] == {"max_tokens": 4, "seed": 7, "stop": ["x"]}
    assert run["usage"]["completion_tokens"] == 4


FAILURES: tuple[tuple[tuple[str, ...], int, str], ...] = (
    (("prompt", "not a name", "x"), 2, "is not a model name"),
    (("prompt", "fake/unknown", "x"), 4, "fake/unknown"),
    (("prompt", "fake/broken", "x"), 1, "something broke"),
    (("prompt", "fake/breaks-off", "x"), 1, ""),
    (("prompt", "fake/hello", "x", "--max-tokens", "0"), 2, "1 or more"),
    (("server", "show", "nothing"), 4, "There is no server"),
    (("runtime", "show", "nothing"), 4, "There is no runtime"),
    (("connection", "show", "nothing"), 4, "There is no connection"),
    (("nonsense",), 2, "there is no command"),
    (("server", "nonsense"), 2, "invalid choice"),
)


def test_failures_end_in_words_and_a_documented_status(controller: None) -> None:
    for words, status, said in FAILURES:
        done = meshtui(*words)
        assert (words, done.returncode) == (words, status), done.stderr
        assert said in done.stderr


def test_what_had_arrived_before_an_engine_broke_off_is_kept(controller: None) -> None:
    done = meshtui("prompt", "fake/breaks-off", "x")
    assert done.returncode == 1
    assert "word3" in done.stdout


def test_ctrl_c_stops_the_generation_in_the_engine(controller: None) -> None:
    process = subprocess.Popen(
        [MESHTUI, "prompt", "fake/endless", "x"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.read(20)
    [server] = json.loads(answer("server", "list", "--json"))
    state_url = f"http://127.0.0.1:{server['port']}/fake/state"
    assert json.load(urlopen(state_url))["running"] == 1
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    eventually_sync(lambda: json.load(urlopen(state_url))["running"] == 0)


def eventually_sync(holds: object) -> None:
    import asyncio

    asyncio.run(eventually(holds, "the engine to stop"))  # type: ignore[arg-type]


def test_a_reader_that_has_seen_enough_is_no_error(controller: None) -> None:
    writer = subprocess.Popen(
        [MESHTUI, "prompt", "fake/slow", "x"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert writer.stdout is not None and writer.stderr is not None
    assert writer.stdout.read(20)
    writer.stdout.close()
    errors = writer.stderr.read().decode()
    assert writer.wait(timeout=20) == 0
    assert "Traceback" not in errors and "Exception" not in errors


def test_a_server_is_started_shown_read_stopped_and_removed(controller: None) -> None:
    assert "No server was started yet" in meshtui("server", "list").stderr
    server = json.loads(answer("server", "start", "fake/hello", "--wait", "--json"))
    assert server["phase"] == "Ready"
    assert server["id"] in answer("server", "list")
    shown = answer("server", "show", "fake/hello")
    assert "LoadingWeights" in shown and "ready" not in shown.splitlines()[0]
    assert "Application startup complete" in answer("server", "logs", server["id"])
    refused = meshtui("server", "remove", server["id"])
    assert refused.returncode == 5
    assert "Stopped" in answer("server", "stop", server["id"])
    assert "Application startup complete" in answer("server", "logs", server["id"], "--tail", "50")
    answer("server", "remove", server["id"])
    assert json.loads(answer("server", "list", "--json")) == []


def test_a_server_that_does_not_start_says_why(controller: None) -> None:
    done = meshtui("server", "start", "fake/broken", "--wait")
    assert done.returncode == 1
    assert "something broke" in done.stderr


def test_waiting_for_a_server_that_is_stopped_meanwhile_is_no_success(controller: None) -> None:
    waiting = subprocess.Popen(
        [MESHTUI, "server", "start", "fake/never", "--wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr is not None
    while "LoadingWeights" not in waiting.stderr.readline():
        pass
    answer("server", "stop", "fake/never")
    said, _ = waiting.communicate(timeout=60)
    assert (waiting.returncode, said.split()[-1]) == (1, "Stopped")


def test_runtimes_and_connections_are_listed(controller: None) -> None:
    assert {runtime["name"] for runtime in json.loads(answer("runtime", "list", "--json"))} == {
        "cpu",
        "gpu",
    }
    assert "torch" in answer("runtime", "show", "cpu")
    assert "local" in answer("connection", "list")
    assert "fake/hello" in answer("connection", "show", "local")


def test_the_environment_of_the_endpoint_is_all_that_openai_needs(controller: None) -> None:
    assert answer("endpoint", "status").strip() == "off"
    lines = answer("endpoint", "env").splitlines()
    values = dict(line.removeprefix("export ").split("=", 1) for line in lines)
    client = OpenAI(base_url=values["OPENAI_BASE_URL"], api_key=values["OPENAI_API_KEY"])
    said = client.chat.completions.create(
        model="fake/hello", messages=[{"role": "user", "content": "What is it?"}]
    )
    assert "Paris" in (said.choices[0].message.content or "")
    assert answer("endpoint", "off").strip() == "off"


def test_the_controller_is_told_to_stop_and_is_not_started_to_be_asked(own_folders: Path) -> None:
    assert meshtui("controller", "status").returncode == 3
    assert meshtui("controller", "logs").returncode == 3
    pid = json.loads(answer("controller", "restart", "--json"))["pid"]
    assert json.loads(answer("controller", "status", "--json"))["pid"] == pid
    assert "listens on" in answer("controller", "logs")
    answer("controller", "stop")
    assert meshtui("controller", "status").returncode == 3


def test_a_broken_connection_is_named_with_its_line(own_folders: Path) -> None:
    path = enable({"fake/hello": ()})
    path.write_text('name = "local"\n[[enabled_models]\n')
    with controller_process({}):
        for words, status in (
            (("prompt", "fake/hello", "x"), 4),
            (("connection", "list"), 0),
            (("connection", "show", "local"), 0),
        ):
            done = meshtui(*words)
            assert done.returncode == status
            assert f"{path}, line 2: " in done.stderr


UNUSABLE = (
    ("XDG_STATE_HOME", "cannot be used"),
    ("XDG_RUNTIME_DIR", "of the controller's socket cannot be used"),
)


@pytest.mark.parametrize(("variable", "words"), UNUSABLE)
def test_folders_that_cannot_be_made_are_named(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch, variable: str, words: str
) -> None:
    monkeypatch.setenv(variable, "/proc/no-such-folder")
    done = meshtui("controller", "status")
    assert done.returncode == 3
    assert words in done.stderr and variable in done.stderr


def test_a_log_that_cannot_be_written_is_named(own_folders: Path) -> None:
    (own_folders / "state" / "meshtui" / "controller.log").mkdir(parents=True)
    done = meshtui("server", "list")
    assert done.returncode == 3 and "controller.log cannot be written" in done.stderr


def test_without_a_runtime_folder_nothing_is_said_of_it(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = meshtui("controller", "status")
    assert done.stderr.startswith("meshtui: The controller is not running.")


def test_output_that_cannot_be_written_is_told(own_folders: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [MESHTUI, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "meshtui: the system refused: [Errno 28] No space left on device\n"


def test_a_reader_that_reads_nothing_is_no_error_either(own_folders: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [MESHTUI, "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_number_of_log_lines_is_kept(own_folders: Path) -> None:
    log = own_folders / "state" / "meshtui" / "controller.log"
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo\n")
    assert answer("controller", "logs", "-n", "0") == ""
    assert answer("controller", "logs", "-n", "1") == "two\n"


def test_text_in_any_encoding_is_sent_and_shown(
    controller: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, given in ((("-",), b"caf\xe9?"), ((b"caf\xe9?",), b"")):
        done = subprocess.run(
            [MESHTUI, "prompt", "fake/hello", *words], input=given, capture_output=True, check=False
        )
        assert b"Traceback" not in done.stderr and b"Paris" in done.stdout
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert "absent" in answer("runtime", "list")
