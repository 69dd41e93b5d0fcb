"""The controller as a process: started by whoever needs it, found, killed, replaced, survived."""

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import meshtui
from meshtui.client import ControllerClient, VersionMismatch
from meshtui.controller.lock import ControllerLock
from meshtui.domain.errors import Unavailable
from meshtui.domain.generation import ChatMessage, ChatRequest, RunEnded, RunStarted, RunText
from meshtui.domain.server import Phase
from meshtui.settings import paths
from tests.controller_support import controller_process, enable, stop_everything
from tests.support.processes import is_running, marked, naming
from tests.support.waiting import eventually

SLOW = {"fake/slow": ("--tokens", "5000", "--rate", "100", "--text", "words")}
HELLO = {"fake/hello": ()}


def ask(model: str) -> ChatRequest:
    return ChatRequest(model=model, messages=(ChatMessage("user", "Hello?"),))


@pytest.fixture(autouse=True)
def nothing_left_behind(own_folders: Path) -> Iterator[None]:
    yield
    asyncio.run(stop_everything())
    # One that was started by a client that did not wait for it may not have listened yet.
    for late in naming(str(paths.socket_path())):
        os.kill(late, signal.SIGKILL)


async def test_clients_that_start_at_once_find_one_controller() -> None:
    clients = [ControllerClient() for _ in range(4)]
    infos = await asyncio.gather(*(client.connect() for client in clients))
    assert len({info.pid for info in infos}) == 1
    assert infos[0].version == meshtui.__version__
    assert Path(infos[0].socket) == paths.socket_path()
    assert paths.socket_path().stat().st_mode & 0o777 == 0o600
    assert Path(infos[0].log).stat().st_mode & 0o777 == 0o600
    # It is nobody's child and in no terminal's session.
    stat = Path(f"/proc/{infos[0].pid}/stat").read_text().rpartition(")")[2].split()
    parent, session = int(stat[1]), int(stat[3])
    assert parent != os.getpid()
    assert session == infos[0].pid
    assert Path(f"/proc/{infos[0].pid}/cwd").resolve() == Path("/")
    for client in clients:
        await client.close()


async def test_it_is_small_and_at_rest_when_idle() -> None:
    async with ControllerClient() as client:
        info = await client.info()
        assert info.memory_bytes is not None and info.memory_bytes < 90_000_000
        assert info.busy == () and info.notices == ()
        assert [model.enabled.model for model in await client.models()] == [
            "HuggingFaceTB/SmolLM2-135M-Instruct"
        ]


def test_neither_the_controller_nor_the_client_loads_what_it_does_not_need() -> None:
    code = "import {}, sys; print(*sys.modules)"

    def loaded(modules: str) -> set[str]:
        words = [sys.executable, "-c", code.format(modules)]
        return set(subprocess.run(words, check=True, capture_output=True, text=True).stdout.split())

    heavy = {"textual", "rich", "huggingface_hub", "torch", "transformers", "vllm", "httpx"}
    assert not heavy & loaded("meshtui.controller.daemon, meshtui.controller.managers")
    assert not (heavy | {"aiohttp", "sqlite3", "meshtui.controller.daemon"}) & loaded(
        "meshtui.client"
    )


async def test_without_leave_to_start_one_it_says_that_none_runs() -> None:
    client = ControllerClient()
    with pytest.raises(Unavailable, match="is not running"):
        await client.connect(spawn=False)
    with pytest.raises(Unavailable, match="does not answer"):
        await client.servers()
    assert not paths.socket_path().exists()
    await client.close()


async def test_what_a_dead_controller_left_is_replaced() -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(paths.socket_path()))
    stale.close()
    paths.socket_path().parent.chmod(0o755)
    async with ControllerClient() as client:
        assert (await client.info()).pid
    assert paths.socket_path().parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
async def test_a_folder_of_somebody_else_is_refused(own_folders: Path) -> None:
    os.chown(paths.socket_path().parent, 12345, 12345)
    with pytest.raises(paths.UnsafeFolder, match="belongs to another user"):
        await ControllerClient().connect()
    os.chown(own_folders / "run" / "meshtui", os.geteuid(), -1)


async def test_a_start_that_fails_says_why_at_once() -> None:
    (paths.state_dir() / "controller.lock").mkdir()
    client = ControllerClient()
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"could not be started: .*Is a directory") as caught:
        await client.connect()
    assert time.monotonic() - begun < 10
    assert str(paths.controller_log_path()) in (caught.value.hint or "")
    await client.close()


async def test_a_start_that_fails_is_told_even_where_nothing_can_be_written() -> None:
    client = ControllerClient()
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As a full disk: the new process inherits it, and can neither lock nor log.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
    try:
        with pytest.raises(Unavailable, match="cannot be used: File too large"):
            await client.connect()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
    await client.close()


async def test_a_file_in_the_way_of_the_socket_is_not_deleted() -> None:
    paths.socket_path().write_text("precious")
    client = ControllerClient()
    with pytest.raises(Unavailable, match="no socket stands there"):
        await client.connect()
    assert paths.socket_path().read_text() == "precious"
    paths.socket_path().unlink()
    await client.close()


async def test_a_socket_path_that_is_too_long_is_told(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(own_folders / ("long" * 30)))
    client = ControllerClient()
    with pytest.raises(Unavailable, match="too long") as caught:
        await client.connect()
    assert "XDG_RUNTIME_DIR" in (caught.value.hint or "")
    await client.close()


async def test_a_login_with_another_runtime_folder_finds_the_same_controller(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ControllerClient() as client:
        first = await client.info()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(own_folders / "other"))
    async with ControllerClient() as client:
        assert (await client.info()).pid == first.pid
    client = ControllerClient()
    assert (await client.connect(spawn=False)).pid == first.pid
    await client.close()


async def test_a_socket_that_was_taken_away_comes_back() -> None:
    async with ControllerClient() as client:
        pid = (await client.info()).pid
        paths.socket_path().unlink()
        await client.close()
        await eventually(paths.socket_path().exists, "it listens again")
        assert (await client.connect()).pid == pid


async def test_the_end_of_the_terminal_is_not_its_end() -> None:
    async with ControllerClient() as client:
        pid = (await client.info()).pid
        os.kill(pid, signal.SIGHUP)
        assert (await client.info()).pid == pid


async def test_killed_in_mid_stream_nothing_is_lost() -> None:
    with controller_process(SLOW) as process:
        client = ControllerClient()
        await client.connect(spawn=False)
        server_id, text, flushed = "", "", ""
        with pytest.raises(Unavailable, match="went away while the answer") as caught:
            async for event in client.prompt(ask("fake/slow")):
                if isinstance(event, RunStarted):
                    server_id = event.server_id
                if isinstance(event, RunText):
                    text += event.text
                    if not flushed:
                        (run,) = await client.runs()
                        flushed = run.answer
                        assert run.status == "running"
                    if flushed:
                        os.kill(process.pid, signal.SIGKILL)
        assert "Running servers live on" in (caught.value.hint or "")
        with pytest.raises(Unavailable):
            await client.servers()
        engine = marked(server_id)
        assert engine
        # The next one starts by itself, takes the server over and has what had arrived.
        info = await client.connect()
        assert info.pid != process.pid
        (server,) = await client.servers()
        assert (server.id, server.phase) == (server_id, Phase.READY)
        assert set(engine) & set(marked(server_id))
        (run,) = await client.runs()
        assert run.status == "interrupted"
        assert text.startswith(run.answer) and run.answer.startswith(flushed)
        # And the server answers again, without a new start.
        events = client.prompt(ask("fake/slow"))
        kinds = []
        async for event in events:
            kinds.append(type(event))
            if isinstance(event, RunText):
                break
        await events.aclose()
        assert kinds == [RunStarted, RunText]
        await client.close()


async def test_asked_to_end_it_leaves_servers_alive_and_tidies_up() -> None:
    with controller_process(HELLO) as process:
        async with ControllerClient() as client:
            async for event in client.prompt(ask("fake/hello")):
                if isinstance(event, RunStarted):
                    server_id = event.server_id
            alive = marked(server_id)
            os.kill(process.pid, signal.SIGTERM)
            await eventually(lambda: not is_running(process.pid), "it ended")
            assert not paths.socket_path().exists()
            # A look at all processes may miss one that is just being started.
            await eventually(lambda: marked(server_id) == alive, "the same processes live on")
            await client.connect()
            assert [server.phase for server in await client.servers()] == [Phase.READY]


async def test_stopping_while_an_answer_streams_is_clean_and_quick() -> None:
    with controller_process(SLOW):
        async with ControllerClient() as client, ControllerClient() as other:
            statuses, begun = [], 0.0
            async for event in client.prompt(ask("fake/slow")):
                if isinstance(event, RunText) and not begun:
                    begun = time.monotonic()
                    await other.stop_controller()
                    assert time.monotonic() - begun < 5
                if isinstance(event, RunEnded):
                    statuses.append(event.run.status)
            assert statuses == ["interrupted"]


async def test_an_idle_controller_of_another_version_is_replaced() -> None:
    with controller_process(HELLO, version="0.0.1") as old:
        async with ControllerClient() as client:
            info = await client.info()
            assert info.version == meshtui.__version__
            assert info.pid != old.pid


async def test_a_controller_that_hangs_is_told_from_one_that_does_not_start() -> None:
    with controller_process(HELLO) as hanging:
        os.kill(hanging.pid, signal.SIGSTOP)
        client = ControllerClient()
        try:
            told = f"process {hanging.pid}.*does not answer"
            with pytest.raises(Unavailable, match=told) as caught:
                await client.connect(timeout_s=0.5)
            assert f"kill -9 {hanging.pid}" in (caught.value.hint or "")
        finally:
            os.kill(hanging.pid, signal.SIGCONT)
            await client.close()
    assert ControllerLock().live_holder() is None


async def test_a_program_that_was_updated_while_it_ran_does_not_fight_its_successor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It cannot start a controller of its own version any more: it tries once, and no more."""
    installed = meshtui.__version__
    async with ControllerClient() as successor:
        monkeypatch.setattr(meshtui, "__version__", "0.0.1")
        old = ControllerClient()
        told = f"{installed} was installed while"
        with pytest.raises(VersionMismatch, match=told) as caught:
            await old.connect()
        assert "start it again" in (caught.value.hint or "")
        monkeypatch.setattr(meshtui, "__version__", installed)
        pid = (await successor.connect()).pid
        monkeypatch.setattr(meshtui, "__version__", "0.0.1")
        for _ in range(3):
            with pytest.raises(VersionMismatch, match=told):
                await old.connect()
        await old.close()
        assert (await successor.info()).pid == pid


async def test_a_busy_controller_of_another_version_is_left_alone_and_told() -> None:
    with controller_process(SLOW, version="9.9.9") as old:
        first = ControllerClient()
        info = await first.connect(spawn=False)
        assert (info.version, info.pid) == ("9.9.9", old.pid)
        events = first.prompt(ask("fake/slow"))
        async for event in events:
            if isinstance(event, RunText):
                break
        second = ControllerClient()
        with pytest.raises(VersionMismatch, match=r"9\.9\.9.*streaming") as caught:
            await second.connect()
        assert "meshtui controller restart" in (caught.value.hint or "")
        assert is_running(old.pid)
        await events.aclose()
        await first.close()
        await second.close()


async def test_logs_are_followed_to_the_end_and_safe_to_show() -> None:
    crash = ("--crash-at", "warmup", "--crash-text", "Error: \x1b]0;owned\x07 \u202etxt")
    with controller_process({"fake/broken": crash}):
        async with ControllerClient() as client:
            server = await client.start_server("fake/broken")
            lines = [line async for line in client.server_log(server.id, follow=True)]
            assert lines[-1].startswith("Error: ")
            assert not any(bad in "".join(lines) for bad in "\x1b\x07\u202e\r\n")
            shards = [line for line in lines if "shards" in line]
            assert len(shards) == 1 and "50% Completed" in shards[0]
            tail = [line async for line in client.server_log(server.id, tail=1)]
            assert tail == lines[-1:]
            await client.start_server("fake/broken")
            again = [line async for line in client.server_log(server.id, follow=True)]
            previous = [line async for line in client.server_log(server.id, previous=True)]
            assert len(again) == len(previous) == len(lines)
            assert (await client.server(server.id)).phase is Phase.FAILED
            await client.remove_server(server.id)
            assert await client.servers() == []


def test_enable_leaves_the_users_file(own_folders: Path) -> None:
    path = enable(HELLO)
    before = path.read_text()
    assert enable(SLOW).read_text() == before
