"""What is known of a server or a runtime, line by line."""

import shlex
from collections.abc import Iterator

from textual.content import Content

from meshtui.domain.runtime import RuntimeStatus
from meshtui.domain.server import ServerStatus
from meshtui.domain.text import one_line, sanitise

from .. import words
from ..studio import passages
from .rows import build_text, idle_text, up_text


def server_lines(server: ServerStatus, now: float, width: int) -> Iterator[Content]:
    """Name and state, why it failed, phases, figures, command."""
    sign, tone = words.phase_sign(server.phase)
    yield Content.assemble(
        (f"{sign} ", tone),
        (one_line(server.model), "$strong bold"),
        (f"   {one_line(server.connection)} · {words.phase_text(server)}", "$muted"),
    )
    if server.explanation:
        yield Content("")
        yield Content.styled(sanitise(server.explanation.cause), "$error")
        yield Content(sanitise(server.explanation.fix))
        excerpt = passages.excerpt_lines(server.explanation)
        if excerpt:
            yield Content.styled("\n".join(excerpt), "$muted")
    yield Content("")
    yield Content.styled("Phases", "$key")
    for record in server.phases:
        last = record is server.phases[-1]
        yield Content.assemble(*passages.phase_line(record, now, width, going_on=last))
    yield Content("")
    yield Content.styled("Now", "$key")
    for name, value in _facts(server, now):
        yield Content.assemble((f"  {name:<15}", "$muted"), value)
    for notice in server.notices:
        yield Content.assemble((f"  {words.ATTENTION} ", "$warning"), one_line(notice))
    if server.command:
        yield Content("")
        yield Content.styled("Command", "$key")
        yield Content(f"  {one_line(shlex.join(server.command), 8000)}")


def _facts(server: ServerStatus, now: float) -> Iterator[tuple[str, str]]:
    yield "engine", words.engine_text(server.engine, server.engine_version)
    if server.engine_reason:
        yield "chosen because", one_line(server.engine_reason)
    if server.context_length:
        yield "context", words.plural(server.context_length, "token")
    if not server.phase.is_over:
        yield "up", up_text(server, now)
        if server.port:
            yield "listens on", f"127.0.0.1:{server.port}"
        if server.memory_bytes:
            yield "memory", words.size(server.memory_bytes)
        yield "requests", f"{server.active_requests} now"
    if (idle := idle_text(server, now)) != "–":
        yield "idle", idle
    if server.last_used_at:
        yield "last used", words.time_of_day(server.last_used_at)
    yield "id", one_line(server.id)


def runtime_lines(runtime: RuntimeStatus) -> Iterator[Content]:
    """Name and state, why its build failed, what is in it."""
    sign, tone = words.build_sign(runtime.phase)
    yield Content.assemble(
        (f"{sign} ", tone),
        (one_line(runtime.name), "$strong bold"),
        (f"   {build_text(runtime)}", "$muted"),
    )
    if runtime.explanation:
        yield Content("")
        yield Content.styled(sanitise(runtime.explanation.cause), "$error")
        yield Content(sanitise(runtime.explanation.fix))
    yield Content("")
    for name, value in (
        ("for", runtime.description),
        ("python", runtime.python),
        ("size", words.size(runtime.size_bytes) if runtime.size_bytes else None),
        ("in", runtime.path),
        ("packages", ", ".join(f"{p.name} {p.version}" for p in runtime.packages)),
    ):
        if value:
            yield Content.assemble((f"  {name:<15}", "$muted"), one_line(value, 4000))
