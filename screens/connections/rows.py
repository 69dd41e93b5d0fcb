"""The rows of the two tables, and what is known of a connection in a few lines."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from textual.content import Content

from meshtui.domain.check import CheckReport
from meshtui.domain.codec import to_json
from meshtui.domain.connection import BrokenObject, Connection, EnabledModel
from meshtui.domain.finding import Finding, Level
from meshtui.domain.text import one_line

from .. import words
from ..check.verdict import headline, level_sign, verdict_sign
from ..state import State
from ..widgets.table import Column, Row
from ..widgets.tones import Part

CONNECTION_COLUMNS = (
    Column("", 1),
    Column("CONNECTION", 12, most=20),
    Column("RUNS ON", 8, most=12, drop=1),
    Column("MODELS", 6, right=True),
    Column("SERVERS", 7, right=True, drop=2),
    Column("STATE", 18, most=80),
)
MODEL_COLUMNS = (
    Column("", 1),
    Column("ENABLED MODEL", 20, most=46),
    Column("TASK", 9, drop=2),
    Column("CONTEXT", 7, right=True, drop=1),
    Column("VERDICT", 26, most=60),
)
BROKEN = "broken\n"


def connection_rows(state: State, tests: Mapping[str, Sequence[Finding]]) -> list[Row]:
    """The connections, then files that hold none because they are broken."""
    broken = {Path(item.path).stem: item for item in _broken(state)}
    rows = [_row(one, state, tests.get(one.name), broken.pop(one.name, None))
            for one in state.connections]  # fmt: skip
    rows += [_broken_row(name, item) for name, item in broken.items()]
    return rows


def _broken(state: State) -> Iterator[BrokenObject]:
    yield from (item for item in state.broken if Path(item.path).parent.name == "connections")


def _row(
    connection: Connection,
    state: State,
    tested: Sequence[Finding] | None,
    broken: BrokenObject | None,
) -> Row:
    name = connection.name
    servers = sum(server.connection == name for server in state.alive)
    sign, tone, said = _state(tested)
    if broken is not None:
        sign, tone, said = words.FAILED, "$error", f"file is broken, {_place(broken)}"
    return Row(
        name,
        (
            (sign, tone),
            (one_line(name), "$strong"),
            (one_line(connection.execution), ""),
            (str(len(connection.enabled_models)), ""),
            (str(servers) if servers else "–", "" if servers else "$muted"),
            (one_line(said), tone),
        ),
    )


def _broken_row(name: str, item: BrokenObject) -> Row:
    cells: tuple[Part, ...] = (
        (words.FAILED, "$error"),
        (one_line(name), "$strong"),
        *((("–", "$muted"),) * 3),
        (f"file is broken, {_place(item)}", "$error"),
    )
    return Row(BROKEN + name, cells)


def _place(item: BrokenObject) -> str:
    where = f"line {item.line}: " if item.line else ""
    return one_line(where + item.reason)


def _state(tested: Sequence[Finding] | None) -> tuple[str, str, str]:
    """Sign, tone and words of a connection's last test."""
    if tested is None:
        return words.ABSENT, "$muted", "not tested"
    for level in (Level.BLOCKER, Level.WARNING):
        found = [finding for finding in tested if finding.level is level]
        if found:
            sign, tone = level_sign(level)
            more = f" (+{len(found) - 1})" if len(found) > 1 else ""
            return sign, tone, f"{found[0].message}{more}"
    return words.READY, "$success", "all answers"


def key_of(connection: Connection, enabled: EnabledModel) -> bytes:
    """What tells an enabled model with these settings, where it is, from any other."""
    return to_json((connection.name, connection.execution, connection.runtime, enabled))


def model_rows(
    connection: Connection | None, state: State, verdicts: Mapping[bytes, CheckReport | str]
) -> list[Row]:
    """The enabled models; before each name the sign of its server. `verdicts` are by `key_of`."""
    if connection is None:
        return []
    return [_model_row(connection, one, state, verdicts.get(key_of(connection, one)))
            for one in connection.enabled_models]  # fmt: skip


def _model_row(
    connection: Connection, enabled: EnabledModel, state: State, verdict: CheckReport | str | None
) -> Row:
    server = state.server_of(connection.name, enabled.model)
    if isinstance(verdict, CheckReport):
        sign, tone = verdict_sign(verdict.verdict)
        said = (f"{sign} {one_line(headline(verdict), 200)}", tone)
    else:
        said = (f"{words.WORKING} checking…" if verdict is None else one_line(verdict), "$muted")
    context = f"{enabled.max_tokens:,}" if enabled.max_tokens else "auto"
    return Row(
        enabled.model,
        (
            words.phase_sign(server.phase if server else None),
            (one_line(enabled.model), "$strong"),
            (words.task(enabled.task.value), ""),
            (context, "" if enabled.max_tokens else "$muted"),
            said,
        ),
    )


def facts(connection: Connection) -> Content:
    """What the connection says of itself."""
    properties = dict(connection.properties)
    engine = properties.pop("engine.completion", "AUTO")
    lines = [
        ("runs on", connection.execution),
        ("runtime", connection.runtime or "by the machine"),
        ("access token", connection.access_token or "that of HF_TOKEN or hf auth login"),
        ("models come", "through the model cache" if connection.use_managed_cache else "directly"),
        ("engine", engine),
        *sorted(properties.items()),
    ]
    return Content("\n").join(
        Content.assemble((f"{one_line(label, 24):<15}", "$muted"), one_line(value, 200))
        for label, value in lines
    )


def finding_lines(findings: Sequence[Finding]) -> Iterator[Content]:
    """What a test found, one finding a paragraph."""
    for finding in findings:
        sign, tone = level_sign(finding.level)
        yield Content.assemble((f"{sign} ", tone), one_line(finding.message, 1000))
        if finding.fix and finding.level is not Level.OK:
            yield Content.styled(f"  {one_line(finding.fix, 1000)}", "$muted")
