"""A scripted controller with connections that can be changed."""

import asyncio

import msgspec

from meshtui.domain.connection import BrokenObject, Connection, EnabledModel
from meshtui.domain.controller import ConnectionsChanged, ModelOption, Overview
from meshtui.domain.editing import EditableConnection, Fault, TokenOwner
from meshtui.domain.errors import BadToken, FileChanged, MeshtuiError
from meshtui.domain.finding import Finding, Level
from meshtui.domain.generation import GenerationParameters
from meshtui.domain.hub_search import FoundModel
from meshtui.domain.preset import Capability, Preset, Purpose
from meshtui.domain.task import Task
from tests.tui import check_reports
from tests.tui.scripted import CPU, GPU, INFO, ScriptedClient, server

LLAMA, BASE = check_reports.LLAMA, check_reports.BASE
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
LOCAL = Connection(
    name="local",
    enabled_models=(
        EnabledModel(
            model="HuggingFaceTB/SmolLM2-135M-Instruct",
            max_tokens=8192,
            generation=GenerationParameters(temperature=0.0, max_tokens=1024),
        ),
    ),
)
CLUSTER = Connection(
    name="gpu-cluster",
    execution="a10",
    access_token="env:HF_TOKEN",
    use_managed_cache=False,
    properties={"engine.completion": "VLLM", "note": "for the seminar"},
    enabled_models=(
        EnabledModel(model=LLAMA, max_tokens=32768),
        EnabledModel(model=BASE, tensor_parallel_size=2),
        EnabledModel(model=MINILM, task=Task.FEATURE_EXTRACTION),
    ),
)
BROKEN = BrokenObject(
    path="/home/ana/.config/meshtui/connections/old.toml", line=7, reason="Invalid value"
)
PRESET = Preset(
    name="qwen3-4b",
    model="Qwen/Qwen3-4B",
    label="Qwen3 4B",
    purpose=Purpose.CHAT,
    task=Task.TEXT_GENERATION,
    licence="apache-2.0",
    parameters=4_022_000_000,
    capabilities=(Capability.TOOL,),
)
FOUND = FoundModel(
    model="acme/summariser-7b",
    task="text-generation",
    licence="mit",
    gated=True,
    downloads=12_345,
    parameters=7_100_000_000,
)
TESTED = [
    Finding(rule="cluster-version", level=Level.OK, message="Kubernetes v1.36.2 answers."),
    Finding(
        rule="gpu-free",
        level=Level.WARNING,
        message="No GPU of a10 is free now.",
        fix="Servers wait until one is.",
    ),
    Finding(rule="token", level=Level.OK, message="The access token is of the account ana."),
]


class ConnectionsClient(ScriptedClient):
    """Saves what it is told. `error` is raised by the next command; while `may_look` is not set,
    nobody is told what is wrong; while `hub_answers` is not, no search ends."""

    def __init__(self, *more: Connection) -> None:
        self.own = {one.name: one for one in (CLUSTER, LOCAL, *more)}
        super().__init__(self._overview())
        self.error: MeshtuiError | None = None
        self.revisions = dict.fromkeys(self.own, 1)
        self.may_look = asyncio.Event()
        self.may_look.set()
        self.locked = ""
        self.hub_answers = asyncio.Event()
        self.hub_answers.set()

    def _overview(self) -> Overview:
        return Overview(
            controller=INFO,
            connections=tuple(self.own.values()),
            models=self._models(),
            servers=(server(connection="local"),),
            broken=(BROKEN,),
            runtimes=(CPU, GPU),
        )

    def _models(self) -> tuple[ModelOption, ...]:
        return tuple(
            ModelOption(connection=one.name, enabled=enabled)
            for one in self.own.values()
            for enabled in one.enabled_models
        )

    def _changed(self, name: str) -> None:
        self.revisions[name] = self.revisions.get(name, 0) + 1
        connections = tuple(self.own.values())
        self.tell(ConnectionsChanged(connections, (BROKEN,), self._models()))

    def _command(self, *words: str) -> None:
        error, self.error = self.error, None
        if error:
            raise error
        self.commands.append(words)

    def change_elsewhere(self, name: str) -> None:
        """Somebody else saves it."""
        self.revisions[name] += 1

    async def editable_connection(self, name: str) -> EditableConnection:
        return EditableConnection(
            connection=self.own[name],
            revision=str(self.revisions[name]),
            shipped=name == "local",
            locked=self.locked,
            path=f"/home/ana/.config/meshtui/connections/{name}.toml",
        )

    async def execution_names(self) -> list[str]:
        return ["local", "a10"]

    async def connection_faults(
        self, connection: Connection, name: str | None = None
    ) -> list[Fault]:
        await self.may_look.wait()
        found = []
        if not connection.name.isidentifier() and connection.name not in self.own:
            found.append(Fault(("name",), "Use letters and digits."))
        elif connection.name != name and connection.name in self.own:
            found.append(Fault(("name",), "there is a connection of this name"))
        if connection.access_token and ":" not in connection.access_token:
            found.append(Fault(("access_token",), "This is not a reference to a token."))
        for index, enabled in enumerate(connection.enabled_models):
            if enabled.max_tokens is not None and enabled.max_tokens < 1:
                found.append(Fault(("enabled_models", index, "max_tokens"), "must be at least 1"))
        return found

    async def create_connection(self, connection: Connection) -> EditableConnection:
        self._command("create", connection.name)
        return await self._saved(connection)

    async def save_connection(
        self, name: str, connection: Connection, revision: str | None
    ) -> EditableConnection:
        if revision != str(self.revisions[name]):
            raise FileChanged(f"{name}.toml was changed by somebody else meanwhile.")
        self._command("save", name, connection.name)
        if connection.name != name:
            del self.own[name]
        return await self._saved(connection)

    async def _saved(self, connection: Connection) -> EditableConnection:
        self.own[connection.name] = connection
        self._changed(connection.name)
        return await self.editable_connection(connection.name)

    async def duplicate_connection(self, name: str, new: str) -> EditableConnection:
        self._command("duplicate", name, new)
        return await self._saved(msgspec.structs.replace(self.own[name], name=new))

    async def delete_connection(self, name: str, revision: str = "*") -> None:
        self._command("delete", name, revision)
        del self.own[name]
        self._changed(name)

    async def test_connection(self, connection: Connection) -> list[Finding]:
        self._command("test", connection.name)
        return TESTED

    async def token_owner(self, reference: str, connection: Connection | None = None) -> TokenOwner:
        if reference != "env:HF_TOKEN":
            raise BadToken("The Hub does not accept the access token.")
        return TokenOwner(account="ana", role="read")

    async def presets(self) -> list[Preset]:
        return [PRESET]

    async def search_models(
        self,
        text: str,
        *,
        task: Task | None = None,
        connection: str | None = None,
        limit: int = 20,
    ) -> list[FoundModel]:
        await self.hub_answers.wait()
        return [FOUND] if text in FOUND.model else []
