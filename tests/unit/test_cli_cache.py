"""`meshtui cache` as scripts and people use it: real processes, a real controller, a local Hub."""

import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.controller_support import controller_process
from tests.hub_server import Fault, HubServer, git_sha1
from tests.support.hub_thread import hub_in_thread
from tests.support.shelf import model_files, put_entry

MESHTUI = str(Path(sys.executable).parent / "meshtui")
MODEL = "acme/tiny"
FILES = model_files(1_000_000)
SLOW = 20_000


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_in_thread() as server:
        server.add(MODEL, {**FILES, "notes.md": b"# Notes"})
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def controller(hub: HubServer) -> Iterator[None]:
    with controller_process({"fake/hello": ()}):
        yield


def cache(*words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [MESHTUI, "cache", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr
    return done


def answer(*words: str) -> str:
    done = cache(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def data(*words: str) -> Any:
    return json.loads(answer(*words, "--json"))


def test_a_model_comes_is_seen_and_goes(controller: None) -> None:
    plan = data("download", MODEL, "--dry-run")
    assert {f["path"] for f in plan["files"] if f["selected"]} == {*FILES, "notes.md"}
    assert "model.safetensors" in answer("download", MODEL, "--dry-run")
    assert data("list") == []
    fetched = cache("download", MODEL, "--exclude", "*.md")
    assert fetched.returncode == 0 and fetched.stdout == f"{MODEL}  done\n"
    assert "100%" in fetched.stderr
    [entry] = data("list")
    assert entry["model"] == MODEL
    assert [f["path"] for f in data("show", MODEL)["files"]] == sorted(FILES)
    assert cache("download", MODEL).returncode == 5
    assert cache("download", MODEL, "--replace").returncode == 2
    assert data("download", MODEL, "--replace", "--yes", "--exclude", "*.md")["state"] == "done"
    folder = Path(answer("path", MODEL).strip())
    assert (folder / "config.json").read_bytes() == FILES["config.json"]
    assert answer("verify", MODEL) == f"{MODEL}  done\n"
    assert data("list")[0]["verification"]["findings"] is not None
    assert data("delete", MODEL, "--dry-run")[0]["model"] == MODEL
    assert len(data("list")) == 1
    assert cache("delete", MODEL).returncode == 2
    [gone] = data("delete", MODEL, "--yes")
    assert gone["frees_bytes"] > 0
    assert data("list") == []


def test_a_table_is_sorted_filtered_and_aligned(controller: None) -> None:
    put_entry("acme/small", model_files(10))
    put_entry("acme/large", model_files(100_000))
    by_size = answer("list", "--sort", "size").splitlines()
    assert by_size[0].startswith("MODEL") and by_size[1].startswith("acme/large")
    end = by_size[0].index("SIZE") + len("SIZE")
    assert [line[:end].split()[-1] for line in by_size[1:]] == ["kB", "B"]
    assert answer("list", "--filter", "SMALL").splitlines()[1].startswith("acme/small")
    assert cache("list", "--filter", "nothing").stdout == ""
    assert cache("list", "--sort", "colour").returncode == 2


def test_failures_end_in_words_and_a_documented_status(controller: None, hub: HubServer) -> None:
    hub.add("acme/gated", FILES, gated=True)
    put_entry("acme/there")
    for words, status, said in (
        (("download", "not a name"), 2, "is not a model name"),
        (("download", "acme/nothing"), 4, "There is no model"),
        (("download", "acme/gated"), 1, "is gated"),
        (("download", MODEL, "--connection", "nowhere"), 4, "no connection"),
        (("download", MODEL, "--include", "*.none"), 2, "is left to fetch"),
        (("show", "acme/nothing"), 4, "not in the model cache"),
        (("path", "acme/nothing"), 4, "not in the model cache"),
        (("delete", "acme/nothing", "--yes"), 4, "acme/nothing"),
        (("import", "missing.zip"), 4, "missing.zip"),
        (("export", "acme/nothing", "--to", "x"), 4, "acme/nothing"),
        (("export", "acme/there", "--to", "x", "--volume-size", "big"), 2, "is not a size"),
        (("prune",), 2, "Say what may go"),
        (("prune", "--unused", "soon"), 2, "is not a time"),
        (("verify",), 2, "Say which models"),
        (("adopt", "acme/nothing"), 4, "not in the Hugging Face cache"),
        (("transfers", "--cancel", "none"), 4, "no transfer"),
    ):
        done = cache(*words)
        assert (words, done.returncode) == (words, status), done.stderr
        assert said in done.stderr


def test_a_bad_name_among_many_keeps_none_of_the_others(
    controller: None, hub: HubServer, tmp_path: Path
) -> None:
    names = [f"acme/m{number}" for number in range(4)]
    for name in names:
        hub.add(name, FILES)
    bad = "acme/nothing"
    plans = cache("download", bad, *names, "--dry-run", "--json")
    assert plans.returncode == 4 and [p["model"] for p in json.loads(plans.stdout)] == names
    folder = str(tmp_path / "out")
    for words, said in (
        (("download", bad, *names), "There is no model"),
        (("verify", bad, *names), "not in the model cache"),
        (("export", bad, *names, "--to", folder), "not in the model cache"),
        (("import", "nowhere.zip", folder, "--replace", "--yes"), "nowhere.zip"),
    ):
        done = cache(*words)
        assert (words, done.returncode) == (words, 4), done.stderr
        assert said in done.stderr
        assert {line for line in done.stdout.splitlines() if line.endswith("done")} == {
            f"{name}  done" for name in names
        }
        # What is to be said of all alike is said once.
        assert done.stderr.count("Dataiku") == (words[0] == "export")
    done = cache("delete", bad, *names, "acme/none", "--yes")
    assert done.returncode == 4 and f"{bad}, acme/none are not in the model cache" in done.stderr
    assert len(data("list")) == len(names)


def test_a_model_goes_to_another_machine_and_runs_there_the_same(
    controller: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = put_entry("acme/travels", FILES)
    plan = data("export", "acme/travels", "--to", str(tmp_path), "--dry-run")
    [archive] = [path for path in plan[0]["paths"] if path.endswith(".zip")]
    assert not Path(archive).exists()
    monkeypatch.chdir(tmp_path)
    [done] = data("export", "acme/travels", "--to", ".")
    assert done["state"] == "done" and Path(archive).is_file()
    name = Path(archive).name
    assert cache("import", name, "--dry-run").returncode == 5
    assert cache("import", name).returncode == 5
    assert cache("import", name, "--replace").returncode == 2
    assert cache("import", name, "--replace", "--yes").returncode == 0
    answer("delete", "acme/travels", "--yes")
    [plan] = data("import", ".", "--dry-run")
    assert (plan["model"], plan["replaces"]) == ("acme/travels", False)
    [back] = data("import", ".")
    assert back["model"] == "acme/travels"
    for path, content in FILES.items():
        assert (entry.model_dir / path).read_bytes() == content


def test_a_folder_is_made_an_entry(controller: None, tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    assert cache("build", str(tmp_path)).returncode == 2
    plan = data("build", str(tmp_path), "--model", "acme/built", "--dry-run")
    assert plan["model"] == "acme/built"
    built = data("build", str(tmp_path), "--model", "acme/built", "--task", "text-generation")
    assert built["model"] == "acme/built"
    assert data("show", "acme/built")["entry"]["task"] == "text-generation"


def test_a_person_is_asked_before_anything_goes(controller: None) -> None:
    for typed, left in (("n\n", 1), ("yes\n", 0)):
        put_entry("acme/asked")
        status, said = at_terminal(typed, "delete", "acme/asked")
        assert "Delete acme/asked and free" in said
        assert status == (1 if left else 0)
        assert len(data("list")) == left


def test_a_question_ends_with_ctrl_c(controller: None) -> None:
    put_entry("acme/asked")
    status, _ = at_terminal("\x03", "delete", "acme/asked")
    assert status == 130
    assert len(data("list")) == 1


def at_terminal(typed: str, *words: str) -> tuple[int, str]:
    """Runs it at a terminal, and types once it asks."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(MESHTUI, [MESHTUI, "cache", *words])
    said = b""
    try:
        while b"[y/N]" not in said:
            said += os.read(terminal, 4096)
        os.write(terminal, typed.encode())
        while piece := os.read(terminal, 4096):
            said += piece
    except OSError:  # how Linux says that the other side of a terminal is closed
        pass
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), said.decode()


def until_it_counts(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    said = ""
    while line := process.stderr.readline():
        said += line
        if "%" in line:
            return
    raise AssertionError(f"it ended before: {said}")


def test_ctrl_c_cancels_and_detach_leaves_it_going(controller: None, hub: HubServer) -> None:
    # None of these downloads is waited for.
    hub.faults.append(Fault("/lfs/", times=3, bytes_per_s=SLOW))
    process = subprocess.Popen(
        [MESHTUI, "cache", "download", MODEL], stderr=subprocess.PIPE, text=True
    )
    until_it_counts(process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    [transfer] = data("transfers")
    assert transfer["state"] == "cancelled"
    detached = data("download", MODEL, "--detach")
    assert detached["state"] in ("queued", "running")
    assert MODEL in answer("transfers")
    # Who joins what is under way does not take it along when leaving.
    joined = subprocess.Popen(
        [MESHTUI, "cache", "download", MODEL], stderr=subprocess.PIPE, text=True
    )
    until_it_counts(joined)
    joined.send_signal(signal.SIGINT)
    assert joined.wait(timeout=20) == 130
    assert data("transfers")[-1]["state"] == "running"
    assert data("transfers", "--cancel", detached["id"])["state"] == "cancelled"
    assert data("transfers", "--retry", transfer["id"])["state"] in ("queued", "running")
    answer("transfers", "--forget", detached["id"])


def test_damage_is_told_by_the_exit_status(controller: None) -> None:
    entry = put_entry("acme/hurt")
    (entry.model_dir / "model.safetensors").write_bytes(b"nonsense")
    done = cache("verify", "--all")
    assert done.returncode == 1
    assert "model.safetensors" in done.stderr


def test_what_is_unused_is_pruned(controller: None) -> None:
    put_entry("acme/old")
    assert "acme/old" in answer("prune", "--budget", "1kB", "--dry-run")
    assert len(data("list")) == 1
    plan = data("prune", "--budget", "1kB", "--yes")
    assert [item["model"] for item in plan["items"]] == ["acme/old"]
    assert data("list") == []


def test_the_hugging_face_cache_is_listed_and_adopted(controller: None, own_folders: Path) -> None:
    assert "nothing to adopt" in cache("adopt").stderr
    snapshot(own_folders / "cache" / "huggingface" / "hub")
    [repo] = data("adopt")
    assert (repo["model"], repo["cached"]) == ("acme/other", False)
    assert data("adopt", "--all", "--dry-run")[0]["model"] == "acme/other"
    [done] = data("adopt", "acme/other")
    assert done["state"] == "done"
    assert data("show", "acme/other")["entry"]["model"] == "acme/other"
    assert data("adopt", "--all") == []
    assert cache("adopt", "acme/other", "--dry-run").returncode == 5


def snapshot(root: Path) -> None:
    """A repository as `huggingface_hub` leaves it."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = root / "models--acme--other"
    (repo / "snapshots" / commit).mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "blobs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    for name, content in FILES.items():
        is_large = name.endswith(".safetensors")
        digest = hashlib.sha256(content).hexdigest() if is_large else git_sha1(content)
        blob = repo / "blobs" / digest
        blob.write_bytes(content)
        (repo / "snapshots" / commit / name).symlink_to(f"../../blobs/{blob.name}")


def test_without_a_network_everything_but_downloading_works(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    put_entry("acme/here")
    with controller_process({}):
        refused = cache("download", MODEL)
        assert refused.returncode == 3 and "HF_HUB_OFFLINE" in refused.stderr
        for words in (
            ("list",),
            ("show", "acme/here"),
            ("verify", "--all"),
            ("export", "acme/here", "--to", str(tmp_path)),
            ("adopt",),
            ("prune", "--partials", "--dry-run"),
            ("delete", "acme/here", "--yes"),
            ("import", str(tmp_path)),
        ):
            answer(*words)
        assert cache("verify", "--all", "--hub").returncode == 3
    assert hub.requests == []


def test_the_path_needs_no_controller(own_folders: Path) -> None:
    entry = put_entry("acme/here")
    assert answer("path", "acme/here") == f"{entry.model_dir}\n"
    assert data("path", "acme/here") == {"path": str(entry.model_dir)}
    assert not list((own_folders / "run").rglob("*.sock"))
