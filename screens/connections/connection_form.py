"""The form of a connection."""

import shlex
from collections.abc import Awaitable, Sequence
from typing import ClassVar

import msgspec
from textual.binding import Binding, BindingType

from meshtui.domain.connection import Connection
from meshtui.domain.described import help_of
from meshtui.domain.editing import EditableConnection
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.task import EngineChoice
from meshtui.domain.text import one_line

from ..frame import workstation
from ..work import start
from .form import Form, Line, options

_ENGINE, _HUB, _PROXY = "engine.completion", "hub.endpoint", "hub.proxy"
# Properties with a field of their own.
_OWN = {_ENGINE: "engine", _HUB: "hub", _PROXY: "proxy"}
_YES_NO = (("yes", "yes"), ("no", "no"))


class ConnectionForm(Form):
    """A new connection (`seen` None), or one that is there."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+t", "token", "Whose token", id="connection_form.token"),
    ]
    KEYS = (("enter", "Save"), ("^t", "Whose token"), ("esc", "Cancel"))

    def __init__(self, seen: EditableConnection | None, executions: Sequence[str]) -> None:
        super().__init__()
        self._seen = seen
        self._before = seen.connection if seen else Connection(name="")
        self._executions = executions
        self.value = self._before
        name = one_line(self._before.name)
        self.HEADING = f"Connection {name}" if seen else "A new connection"

    def locked(self) -> str:
        return self._seen.locked if self._seen else ""

    def lines(self) -> Sequence[Line]:
        before, says = self._before, help_of(Connection)
        properties = before.properties
        rest = {name: value for name, value in properties.items() if name not in _OWN}
        runtimes = workstation(self).state.runtimes
        choice = properties.get(_ENGINE, "AUTO").upper()
        return (
            Line("name", "name", before.name, says["name"], hint="lab",
                 locked=self._seen is not None and self._seen.shipped),
            Line("execution", "runs on", before.execution, says["execution"],
                 options(before.execution, self._executions)),
            Line("runtime", "runtime", before.runtime or "", says["runtime"],
                 options(before.runtime or "", [*runtimes], (("", "by the machine"),))),
            Line("access_token", "access token", before.access_token or "", says["access_token"],
                 hint="env:HF_TOKEN"),
            Line("use_managed_cache", "managed cache", "yes" if before.use_managed_cache else "no",
                 says["use_managed_cache"], _YES_NO),
            Line("engine", "engine", choice,
                 "AUTO takes vLLM where it runs a model, else transformers.",
                 options(choice, [*EngineChoice])),
            Line("hub", "Hub", properties.get(_HUB, ""),
                 "The address of a mirror of the Hub; empty: as HF_ENDPOINT says, or the Hub.",
                 hint="https://huggingface.co"),
            Line("proxy", "proxy", properties.get(_PROXY, ""),
                 "The proxy on the way to the Hub; one with a password is named: env:NAME."),
            Line("properties", "more", shlex.join(f"{k}={v}" for k, v in rest.items()),
                 "Further properties: name=value, with spaces between them.",
                 hint="hub.ca_bundle=/etc/ssl/lab.pem"),
        )  # fmt: skip

    def gather(self) -> dict[str, str]:
        before, faults = self._before, dict[str, str]()
        properties = {_ENGINE: self.text("engine")}
        if properties[_ENGINE] == "AUTO" and _ENGINE not in before.properties:
            del properties[_ENGINE]
        for name in (_HUB, _PROXY):
            if value := self.kept(_OWN[name], before.properties.get(name)):
                properties[name] = value
        rest = {name: value for name, value in before.properties.items() if name not in _OWN}
        shown = shlex.join(f"{name}={value}" for name, value in rest.items())
        if self.text("properties") == one_line(shown).strip():
            properties |= rest
        else:
            try:
                pairs = [word.partition("=") for word in shlex.split(self.text("properties"))]
            except ValueError:
                faults["properties"] = "a quotation mark is missing"
            else:
                if any(not name or not equals for name, equals, _value in pairs):
                    faults["properties"] = "write name=value"
                properties |= {name: value for name, _equals, value in pairs}
        self.value = msgspec.structs.replace(
            before,
            name=self.text("name"),
            execution=self.text("execution"),
            runtime=self.text("runtime") or None,
            access_token=self.kept("access_token", before.access_token),
            use_managed_cache=self.text("use_managed_cache") == "yes",
            properties=properties,
        )
        return faults

    def is_changed(self) -> bool:
        return self.value != self._before

    async def look(self) -> dict[str, str]:
        name = self._seen.connection.name if self._seen else None
        found = await workstation(self).client.connection_faults(self.value, name)
        fields = {}
        for fault in reversed(found):
            key = str(fault.at[0])
            if key == "properties":
                key = _OWN.get(str(fault.at[-1]), key)
            fields[key] = fault.reason
        return fields

    def save(self) -> Awaitable[str]:
        return self._saved()

    async def _saved(self) -> str:
        client, seen = workstation(self).client, self._seen
        if seen is None:
            made = await client.create_connection(self.value)
        else:
            made = await client.save_connection(seen.connection.name, self.value, seen.revision)
        return made.connection.name

    def action_token(self) -> None:
        """Asks the Hub whose the token is."""
        start(self, self._whose, group="token", latest=True)

    async def _whose(self) -> None:
        app, reference = workstation(self), self.value.access_token
        if reference is None:
            app.say("No access token is named: that of HF_TOKEN or hf auth login is used.")
            return
        try:
            owner = await app.client.token_owner(reference, self.value)
        except MeshtuiError as error:
            app.say(str(error), "error")
            return
        role = f", with the role {owner.role}" if owner.role else ""
        app.say(f"The token is of the account {owner.account}{role}.")
