"""What can be asked of the controller, one method a question."""

import asyncio
import codecs
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec

import meshtui
from meshtui.client import launch
from meshtui.client.cache import CacheQuestions
from meshtui.client.channel import Channel, lines
from meshtui.client.check import CheckQuestions
from meshtui.client.connections import ConnectionQuestions
from meshtui.client.images import ImageQuestions
from meshtui.client.pooling import PoolingQuestions
from meshtui.client.presets import PresetQuestions
from meshtui.client.safe import clean_log_line, clean_struct, decode
from meshtui.domain.codec import from_json
from meshtui.domain.controller import (
    ControllerEvent,
    ControllerInfo,
    EndpointStatus,
    ModelOption,
    RunRecorded,
)
from meshtui.domain.errors import MeshtuiError, Unavailable
from meshtui.domain.generation import (
    ChatRequest,
    Run,
    RunEnded,
    RunEvent,
    RunNotice,
    RunWaiting,
)
from meshtui.domain.runtime import RuntimeStatus
from meshtui.domain.server import ServerStatus
from meshtui.settings.paths import controller_log_path, socket_path

T = TypeVar("T")

_ANSWER_LOST = "The controller went away while the answer was coming; what had arrived is kept."
# Nobody looks for more words than that, and it stands in a URL, which is bounded.
_MAX_SEARCH_CHARS = 500
# How the line of that event begins: the tag comes first.
_RUN_RECORDED = b'{"type":"run",'


class VersionMismatch(MeshtuiError):
    """The running controller is of another version, and busy or newer than this program, so it
    was not replaced."""

    code = "version-mismatch"
    http_status = 409


class _Greeting(msgspec.Struct, frozen=True):
    """The part of `ControllerInfo` that every version will answer with."""

    version: str
    pid: int
    busy: tuple[str, ...] = ()


class ControllerClient(
    CacheQuestions,
    CheckQuestions,
    ConnectionQuestions,
    ImageQuestions,
    PoolingQuestions,
    PresetQuestions,
):
    """The door to the controller. What concerns the model cache stands in `CacheQuestions`,
    the checker in `CheckQuestions`, connections in `ConnectionQuestions`, presets in
    `PresetQuestions`, embedding, ranking and classifying in `PoolingQuestions`, and pictures in
    `ImageQuestions`.

    Methods raise `Unavailable` when no controller answers; after that, `connect` may be called
    again and starts a new one. Every other `MeshtuiError` is the controller's own answer.
    """

    def __init__(self, socket: Path | None = None) -> None:
        self._own_socket = socket
        self._channel: Channel | None = None
        # The version that starting a controller gives, where that is not this one.
        self._installed: str | None = None

    async def connect(self, *, spawn: bool = True, timeout_s: float = 20.0) -> ControllerInfo:
        """Finds the controller, starts it where none answers, and settles its version.

        An idle controller of another version is replaced (servers live on); a busy one raises
        `VersionMismatch`. With `spawn` False nothing is started or replaced: whichever runs is
        talked to. Raises `Unavailable` where none can be reached or started.
        """
        greeting = await self._greeting()
        if greeting is None:
            if not spawn:
                raise Unavailable(
                    "The controller is not running.",
                    hint="It starts with meshtui, or with any command that needs it.",
                )
            greeting = await self._start_own(timeout_s)
        if greeting.version != meshtui.__version__ and spawn:
            if greeting.version == self._installed:
                raise _outdated(greeting)
            if greeting.busy:
                raise _mismatch(greeting)
            await self.stop_controller()
            await self._start_own(timeout_s)
        return await self.info()

    async def _start_own(self, timeout_s: float) -> _Greeting:
        """Starts a controller of this version. Where another one comes up, meshtui was changed
        while this program runs: replacing that one again and again would help nobody."""
        greeting = await self._start(timeout_s)
        if greeting.version != meshtui.__version__:
            self._installed = greeting.version
            raise _outdated(greeting)
        return greeting

    async def _greeting(self) -> _Greeting | None:
        """What the controller says of itself, or None where none answers."""
        channel = await self._open()
        try:
            return await channel.call(_Greeting, "GET", "/controller", timeout_s=5)
        except Unavailable:
            elsewhere = None if self._own_socket else await asyncio.to_thread(launch.told_socket)
            if elsewhere is None or elsewhere == channel.socket:
                return None
        await channel.move_to(elsewhere)
        try:
            return await channel.call(_Greeting, "GET", "/controller", timeout_s=5)
        except Unavailable:
            await channel.move_to(socket_path())
            return None

    async def _start(self, timeout_s: float) -> _Greeting:
        """Starts a controller, or finds the one that another client is just starting."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._start_and_greet()
        except TimeoutError:
            if pid := await asyncio.to_thread(launch.running_pid):
                raise Unavailable(
                    f"The controller (process {pid}) runs, but does not answer.",
                    hint=f"If it stays so: kill -9 {pid} (running servers live on). "
                    f"Its log: {controller_log_path()}",
                ) from None
            raise Unavailable(
                f"The controller did not start within {timeout_s:g} s.",
                hint=f"See its log: {controller_log_path()}",
            ) from None

    async def _start_and_greet(self) -> _Greeting:
        channel = await self._open()
        while True:
            await channel.move_to(await launch.start_controller(channel.socket))
            # One that was found running may be about to listen, or about to end: then the next
            # turn of the outer loop starts another.
            for pause_s in launch.PAUSES_S:
                if (greeting := await self._greeting()) is not None:
                    return greeting
                await asyncio.sleep(pause_s)

    async def _open(self) -> Channel:
        if self._channel is None:
            self._channel = Channel(self._own_socket or socket_path())
        await self._channel.open()
        return self._channel

    async def close(self) -> None:
        """Closes all connections, streams included."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def __aenter__(self) -> "ControllerClient":
        await self.connect()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    # The controller itself

    async def info(self) -> ControllerInfo:
        return await self._get(ControllerInfo, "/controller")

    async def stop_controller(self) -> None:
        """Ends the controller and waits until its process is gone. Servers live on."""
        channel = await self._open()
        greeting = await channel.call(_Greeting, "GET", "/controller")
        await channel.send("POST", "/controller/stop")
        await launch.wait_until_gone(greeting.pid)

    async def events(self) -> AsyncGenerator[ControllerEvent, None]:
        """First an `Overview`, then every change. Another `Overview` stands for changes that
        were too many to tell. Raises `Unavailable` when the controller goes away."""
        channel = await self._open()
        async with channel.stream("GET", "/events") as response:
            async for line in lines(response):
                if line.startswith(_RUN_RECORDED):
                    # A run holds text that is kept as the model gave it.
                    yield RunRecorded(_clean_run(from_json(line, RunRecorded).run))
                elif line:
                    yield decode(line, ControllerEvent)
        raise Unavailable("The controller was stopped.", hint="Running servers live on.")

    # Models

    async def models(self) -> list[ModelOption]:
        """Every enabled model with its server, as the picker shows them."""
        return await self._get(list[ModelOption], "/models")

    # Servers

    async def servers(self) -> list[ServerStatus]:
        return await self._get(list[ServerStatus], "/servers")

    async def server(self, server_id: str) -> ServerStatus:
        return await self._get(ServerStatus, f"/servers/{quote(server_id, safe='')}")

    async def start_server(self, model: str, connection: str | None = None) -> ServerStatus:
        """Starts the server of an enabled model; returns at once."""
        body = {"model": model, "connection": connection}
        channel = await self._open()
        return await channel.call(ServerStatus, "POST", "/servers", body=body)

    async def stop_server(self, server_id: str) -> ServerStatus:
        channel = await self._open()
        path = f"/servers/{quote(server_id, safe='')}/stop"
        return await channel.call(ServerStatus, "POST", path, timeout_s=120)

    async def remove_server(self, server_id: str) -> None:
        """Forgets a server that is over, with its logs."""
        channel = await self._open()
        await channel.send("DELETE", f"/servers/{quote(server_id, safe='')}")

    def server_log(
        self, server_id: str, *, tail: int = 1000, follow: bool = False, previous: bool = False
    ) -> AsyncGenerator[str, None]:
        """The last `tail` lines, sanitised; with `follow` also what comes, until the server is
        over. `previous`: the log of the start before this one."""
        return self._log(f"/servers/{quote(server_id, safe='')}/log", tail, follow, previous)

    # Runtimes

    async def runtimes(self) -> list[RuntimeStatus]:
        return await self._get(list[RuntimeStatus], "/runtimes")

    async def runtime(self, name: str) -> RuntimeStatus:
        return await self._get(RuntimeStatus, f"/runtimes/{quote(name, safe='')}")

    async def build_runtime(self, name: str, rebuild: bool = False) -> RuntimeStatus:
        """Starts the build; returns at once. `rebuild`: from nothing."""
        channel = await self._open()
        path = f"/runtimes/{quote(name, safe='')}/build"
        body = {"rebuild": rebuild}
        return await channel.call(RuntimeStatus, "POST", path, body=body)

    async def cancel_runtime_build(self, name: str) -> RuntimeStatus:
        channel = await self._open()
        path = f"/runtimes/{quote(name, safe='')}/cancel"
        return await channel.call(RuntimeStatus, "POST", path)

    async def delete_runtime(self, name: str) -> None:
        channel = await self._open()
        path = f"/runtimes/{quote(name, safe='')}"
        # Gigabytes in a hundred thousand files take a while to delete.
        await channel.send("DELETE", path, timeout_s=300)

    def runtime_log(
        self, name: str, tail: int = 1000, follow: bool = False
    ) -> AsyncGenerator[str, None]:
        """The build's log, as `server_log`."""
        return self._log(f"/runtimes/{quote(name, safe='')}/log", tail, follow, False)

    async def _log(
        self, path: str, tail: int, follow: bool, previous: bool
    ) -> AsyncGenerator[str, None]:
        params = {
            "tail": str(tail),
            "follow": "1" if follow else "0",
            "previous": "1" if previous else "0",
        }
        channel = await self._open()
        text = codecs.getincrementaldecoder("utf-8")("replace")
        async with channel.stream("GET", path, params=params) as response:
            async for line in lines(response):
                yield clean_log_line(text.decode(line, final=True))

    # Prompts

    async def prompt(self, request: ChatRequest) -> AsyncGenerator[RunEvent, None]:
        """Runs a prompt, starting the server where needed. Close the iterator (`aclose`) to
        cancel: the engine stops generating. `RunText` is raw text of the model."""
        channel = await self._open()
        ended = False
        async with channel.stream("POST", "/runs", body=request, away=_ANSWER_LOST) as response:
            async for line in lines(response):
                if not line:
                    continue
                event: RunEvent = from_json(line, RunEvent)  # type: ignore[arg-type]
                if isinstance(event, RunWaiting | RunNotice):
                    event = clean_struct(event)
                elif isinstance(event, RunEnded):
                    ended = True
                    event = RunEnded(_clean_run(event.run))
                yield event
        if not ended:
            raise Unavailable(_ANSWER_LOST, hint="Running servers live on: send it again.")

    async def runs(
        self, limit: int = 100, search: str | None = None, before: str | None = None
    ) -> list[Run]:
        """History, newest first. `before` is the id of the last run of the page before."""
        params = {"limit": str(limit)}
        if search:
            params["search"] = search[:_MAX_SEARCH_CHARS]
        if before:
            params["before"] = before
        channel = await self._open()
        runs = await channel.call(list[Run], "GET", "/runs", params=params, raw=True)
        return [_clean_run(run) for run in runs]

    async def run(self, run_id: str) -> Run:
        channel = await self._open()
        path = f"/runs/{quote(run_id, safe='')}"
        return _clean_run(await channel.call(Run, "GET", path, raw=True))

    async def delete_run(self, run_id: str) -> None:
        await (await self._open()).send("DELETE", f"/runs/{quote(run_id, safe='')}")

    async def star_run(self, run_id: str, starred: bool) -> Run:
        channel = await self._open()
        path = f"/runs/{quote(run_id, safe='')}/star"
        body = {"starred": starred}
        return _clean_run(await channel.call(Run, "POST", path, body=body, raw=True))

    # The endpoint for programs

    async def endpoint(self, with_key: bool = False) -> EndpointStatus:
        return await self._get(EndpointStatus, "/endpoint", {"key": "1" if with_key else "0"})

    async def set_endpoint(self, on: bool, port: int | None = None) -> EndpointStatus:
        """Switches the OpenAI-compatible endpoint; `port` None keeps the one it had."""
        channel = await self._open()
        body = {"on": on, "port": port}
        return await channel.call(EndpointStatus, "POST", "/endpoint", body=body)

    async def _get(self, kind: type[T], path: str, params: dict[str, str] | None = None) -> T:
        channel = await self._open()
        return await channel.call(kind, "GET", path, params=params)


def _clean_run(run: Run) -> Run:
    """A run whose own words are sanitised; messages and answer stay as they are."""
    if run.error is None:
        return run
    return msgspec.structs.replace(run, error=clean_struct(run.error))


def _outdated(greeting: _Greeting) -> VersionMismatch:
    return VersionMismatch(
        f"meshtui {greeting.version} was installed while this program, of version "
        f"{meshtui.__version__}, was running.",
        hint="End it and start it again.",
    )


def _mismatch(greeting: _Greeting) -> VersionMismatch:
    doing = "; ".join(greeting.busy)
    return VersionMismatch(
        f"The running controller is version {greeting.version}, this is {meshtui.__version__}."
        + (f" It is busy: {doing}." if doing else ""),
        hint="When it is done: meshtui controller restart (running servers live on).",
    )
