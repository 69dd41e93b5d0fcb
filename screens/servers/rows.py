"""Servers, enabled models and runtimes as rows of tables."""

import time

from meshtui.domain.runtime import BuildPhase, RuntimeStatus
from meshtui.domain.server import Phase, ServerStatus
from meshtui.domain.text import one_line

from .. import words
from ..state import State
from ..widgets.table import Column, Row
from ..widgets.tones import Part

SERVER_COLUMNS = (
    Column("", 1),
    Column("NAME", 22, most=40),
    Column("ENGINE", 19, drop=3),
    Column("WHERE", 10, drop=5),
    Column("PHASE", 24, most=64),
    Column("PORT", 5, right=True, drop=6),
    Column("REQ", 3, right=True, drop=4),
    Column("MEMORY", 7, right=True, drop=1),
    Column("UP", 7, right=True, drop=2),
    Column("IDLE", 13, drop=7),
)

RUNTIME_COLUMNS = (
    Column("", 1),
    Column("RUNTIME", 10),
    Column("STATE", 30, most=64),
    Column("VLLM", 8, drop=2),
    Column("TRANSFORMERS", 12, drop=3),
    Column("PYTHON", 8, drop=4),
    Column("SIZE", 7, right=True, drop=1),
)

_DASH: Part = ("–", "$muted")


def server_rows(state: State) -> list[Row]:
    """Servers by name, so that no row jumps when a server changes its state; then the enabled
    models that never had one. Keys are server ids, or `connection<newline>model` where there is
    no server."""
    now = time.time()
    servers = sorted(
        state.servers.values(), key=lambda s: (_name(state, s).casefold(), s.connection)
    )
    rows = [_server_row(state, server, now) for server in servers]
    for option in state.models:
        if state.server_of(option.connection, option.enabled.model) is None:
            cells: tuple[Part, ...] = (
                (words.ABSENT, "$muted"),
                (one_line(option.label), ""),
                _DASH,
                (one_line(option.connection), "$muted"),
                ("not started", "$muted"),
                *([_DASH] * 5),
            )
            rows.append(Row(f"{option.connection}\n{option.enabled.model}", cells))
    return rows


def _name(state: State, server: ServerStatus) -> str:
    option = state.option(server.connection, server.model)
    return one_line(option.label if option else server.model.rpartition("/")[2])


def _server_row(state: State, server: ServerStatus, now: float) -> Row:
    sign, tone = words.phase_sign(server.phase)
    phase = words.phase_text(server)
    if server.phase is Phase.FAILED and server.explanation:
        phase = f"failed: {one_line(server.explanation.cause)}"
    alive = not server.phase.is_over
    memory = server.memory_bytes if alive else None
    return Row(
        server.id,
        (
            (sign, tone),
            (_name(state, server), "$strong"),
            (words.engine_text(server.engine, server.engine_version), ""),
            (one_line(server.connection), "$muted"),
            (phase, tone if server.phase is not Phase.READY else ""),
            (str(server.port), "") if server.port and alive else _DASH,
            (str(server.active_requests), "") if server.phase is Phase.READY else _DASH,
            (words.size(memory), "") if memory else _DASH,
            (up_text(server, now), "") if alive else _DASH,
            (idle_text(server, now), "$muted"),
        ),
    )


def up_text(server: ServerStatus, now: float) -> str:
    """Since when it is ready, or how long its start takes already."""
    if server.ready_at and server.phase is Phase.READY:
        return words.span(now - server.ready_at)
    began = server.phases[0].started_at if server.phases else server.created_at
    return words.clock(now - began)


def idle_text(server: ServerStatus, now: float) -> str:
    """When it will stop of itself, or when it stopped."""
    if server.phase is Phase.READY and server.stops_at:
        return f"stops in {words.span(server.stops_at - now)}"
    if server.phase is Phase.READY:
        return "busy" if server.active_requests else "never stops"
    if server.phase.is_over and server.stopped_at:
        return f"{words.span(now - server.stopped_at)} ago"
    return "–"


def runtime_rows(state: State) -> list[Row]:
    """The runtimes of this machine. Keys are names."""
    return [_runtime_row(runtime) for runtime in state.runtimes.values()]


def _runtime_row(runtime: RuntimeStatus) -> Row:
    sign, tone = words.build_sign(runtime.phase)
    return Row(
        runtime.name,
        (
            (sign, tone),
            (one_line(runtime.name), "$strong"),
            (build_text(runtime), tone if runtime.phase is not BuildPhase.READY else ""),
            (runtime.vllm_version or "–", "" if runtime.vllm_version else "$muted"),
            (runtime.version("transformers") or "–", ""),
            (runtime.python or "–", "$muted"),
            (words.size(runtime.size_bytes), ""),
        ),
    )


def build_text(runtime: RuntimeStatus) -> str:
    """How a runtime stands, in words."""
    if runtime.phase is BuildPhase.BUILDING:
        progress = f"{words.percent(runtime.progress)} " if runtime.progress is not None else ""
        return f"building {progress}{one_line(runtime.step)}"
    if runtime.phase is BuildPhase.FAILED:
        return f"failed: {one_line(runtime.explanation.cause) if runtime.explanation else ''}"
    if runtime.phase is BuildPhase.READY:
        return "ready, but its definition has changed" if runtime.outdated else "ready"
    return one_line(runtime.description) or "not built"
