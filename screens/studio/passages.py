"""What a block says besides the answer: the way to a ready server, and why it failed."""

import shlex
from collections.abc import Iterable

from meshtui.domain.server import Explanation, Phase, PhaseRecord, ServerStatus
from meshtui.domain.text import one_line, sanitise

from .. import words
from ..widgets.tones import Part
from ..widgets.wrapping import fit_cells, wrap

Line = list[Part]

_BAR_CELLS = 12
_SHORT_BAR_CELLS = 8
_NAME_CELLS = 15
_SHORT_PHASE_S = 0.5


def way_there(
    server: ServerStatus | None,
    label: str,
    connection: str,
    now: float,
    waited_s: float,
    width: int,
) -> list[Line]:
    """The phases of a start: those lived through with their times, then those to come. Of a
    server that is ready, only that its first token is waited for."""
    if server and server.phase is Phase.READY:
        clock = words.clock(waited_s)
        return [_title(words.WORKING, "$warning", "Waiting for the first token", clock, width)]
    lines: list[Line] = [
        _title(words.WORKING, "$warning", f"{label} on {connection}", words.clock(waited_s), width)
    ]
    lived = server.phases if server else ()
    for record in lived:
        last = record is lived[-1]
        took = (record.ended_at or now) - record.started_at
        if last or record.phase is not Phase.QUEUED or took >= _SHORT_PHASE_S:
            lines.append(phase_line(record, now, width, going_on=last))
    if not lived:
        lines.append(_step(words.WORKING, "$warning", "Ask controller", "", "", width))
    for phase in words.still_to_come(tuple(record.phase for record in lived)):
        lines.append(_step(words.ABSENT, "$muted", words.to_do(phase), "", "", width))
    hint = "  Your prompt runs when it is ready. You can close the terminal."
    end = "esc cancels"
    if len(hint) + len(end) + 2 <= width:
        hint += " " * (width - len(hint) - len(end)) + end
    return [*lines, [(hint, "$muted")]]


def phase_line(record: PhaseRecord, now: float, width: int, *, going_on: bool) -> Line:
    """One phase: sign, name, progress or message, and how long it took or takes."""
    took = words.clock((record.ended_at or now) - record.started_at)
    message = one_line(record.message)
    name = words.to_do(record.phase)
    if record.phase is Phase.FAILED:
        return _step(words.FAILED, "$error", name, message, "", width)
    if going_on and record.phase is not Phase.READY and not record.phase.is_over:
        return _step(words.WORKING, "$warning", name, message, took, width, record.progress)
    return _step(words.READY, "$success", name, message, took, width)


def failure(
    explanation: Explanation, server: ServerStatus | None, verb: str, width: int, *, kept: bool
) -> list[Line]:
    """What happened, why, and what helps. `kept`: there is a partial answer above it."""
    headline = _headline(server, verb) + ("; what had arrived is kept" if kept else "")
    lines: list[Line] = [
        [(f"{words.FAILED} " if not n else "  ", "$error"), (row, "$strong bold")]
        for n, row in enumerate(wrap(headline, max(10, width - 2)))
    ]
    for text, tone in ((explanation.cause, ""), (explanation.fix, "$muted")):
        for line in sanitise(text).replace("\t", "    ").split("\n"):
            lines += [[("  " + row, tone)] for row in wrap(line, max(10, width - 2))]
    if excerpt := excerpt_lines(explanation):
        lines.append([])
        lines += [
            [("  ", ""), (fit_cells(one_line(line), width - 2), "$muted")] for line in excerpt[-4:]
        ]
    return [*lines, []]


def excerpt_lines(explanation: Explanation) -> list[str]:
    """The lines of the log that it rests on, without one that says the cause again."""
    lines = sanitise(explanation.excerpt).split("\n")
    cause = sanitise(explanation.cause).strip()
    return [line for line in lines if line.strip() and line.strip() != cause]


def key_line(keys: Iterable[tuple[str, str]]) -> Line:
    """Keys and what they do."""
    line: Line = [("  ", "")]
    for key, text in keys:
        line += [(key, "$key bold"), (f" {text}   ", "$muted")]
    return line


def report(explanation: Explanation | None, server: ServerStatus | None, model: str) -> str:
    """A failure as text for an issue or a colleague. The command line holds no secret."""
    lines = [f"model: {model}"]
    if server:
        lines += [
            f"connection: {server.connection}",
            f"engine: {words.engine_text(server.engine, server.engine_version)}",
            "phases: "
            + ", ".join(
                f"{words.doing(r.phase)} {words.clock((r.ended_at or r.started_at) - r.started_at)}"
                for r in server.phases
            ),
            f"command: {shlex.join(server.command)}",
        ]
    if explanation:
        lines += [f"cause: {explanation.cause}", f"fix: {explanation.fix}", explanation.excerpt]
    return sanitise("\n".join(lines)).rstrip() + "\n"


def _headline(server: ServerStatus | None, verb: str) -> str:
    if server is None or server.phase is not Phase.FAILED:
        return verb
    before = [record for record in server.phases if record.phase is not Phase.FAILED]
    if not before:
        return verb
    if before[-1].phase is Phase.READY:
        return "The server broke down"
    end = server.stopped_at or before[-1].ended_at or server.phases[-1].started_at
    after = words.clock(end - before[0].started_at)
    return f"Failed while {words.doing(before[-1].phase)}, after {after}"


def _title(sign: str, tone: str, text: str, right: str, width: int) -> Line:
    room = width - 2 - len(right) - 1
    return [(f"{sign} ", tone), (fit_cells(text, room), "$strong bold"), (f" {right}", "$muted")]


def _step(
    sign: str,
    tone: str,
    name: str,
    message: str,
    took: str,
    width: int,
    progress: float | None = None,
) -> Line:
    line: Line = [
        (f"  {sign} ", tone),
        (f"{name:{_NAME_CELLS}}", "$muted" if sign == words.ABSENT else ""),
    ]
    used = 4 + _NAME_CELLS
    if progress is not None:
        if width >= 60:
            cells = _BAR_CELLS if width >= 90 else _SHORT_BAR_CELLS
            full, rest = words.bar(progress, cells)
            line += [(full, tone), (rest, "$faint"), (" ", "")]
            used += cells + 1
        line.append((f"{words.percent(progress):>4}  ", ""))
        used += 6
    room = max(0, width - used - 8)
    line += [(fit_cells(message, room), "$muted"), (f"{took:>8}", "$muted")]
    return line
