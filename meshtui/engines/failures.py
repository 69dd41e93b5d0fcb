"""Says in a person's words why something failed, from its log.

The signatures are data (`config/failures.json`), each with an example and its source. `rank` orders
them: what is a consequence of something else in the same log stands behind it, and messages that
only wrap another process's failure come last.
"""

import re
import signal
from functools import cache

import msgspec

from meshtui.domain.server import Explanation
from meshtui.domain.text import one_line, sanitise
from meshtui.engines.log_markers import PREFIX
from meshtui.settings.shipped import json_data

_EXCERPT_LINES = 6
_LINE_CHARS = 300
# Longer lines are dumps of configurations; a cause stands near a line's beginning.
_SEARCHED_CHARS = 4000
# Settings are printed here, and settings look like causes (`trust_remote_code=True`).
_SETTINGS = ("DEBUG", "INFO")
# `ValueError: text`, `torch.OutOfMemoryError: text`, `Value error, text` (pydantic),
# `error: text` (argparse).
_ERROR_LINE = re.compile(
    r"^\s*(?:[\w.]*(?:Error|Exception|Interrupt|Exit)\b(?:: | \[|$)|Value error, |\S*: ?error: |"
    r"error: |ERROR: |Fatal Python error)"
)
_POINTER = re.compile(r"^[\s^~]*$|^\s*For further information visit ")
_FRAME = re.compile(r'^\s*File "[^"]+", line \d+|^\s*Traceback \(most recent call last\)')


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the catalogue. `fix_with` is used where all groups that it names matched."""

    id: str
    signature: str
    where: tuple[str, ...]
    cause: str
    fix: str
    fix_with: str | None = None
    rank: int = 0
    source: str
    evidence: str
    example: str

    def pattern(self) -> re.Pattern[str]:
        return _compiled(self.signature)

    def suggestion(self, match: re.Match[str]) -> str:
        groups = {name: value for name, value in match.groupdict().items() if value}
        if self.fix_with is None:
            return self.fix
        try:
            return one_line(self.fix_with.format(**groups))
        except KeyError:
            return self.fix


@cache
def _compiled(signature: str) -> re.Pattern[str]:
    return re.compile(signature)


@cache
def catalogue() -> tuple[Failure, ...]:
    """All entries, in the order in which they are tried."""
    entries = msgspec.convert(json_data("failures.json"), type=tuple[Failure, ...])
    return tuple(sorted(entries, key=lambda entry: entry.rank))


class _Line(msgspec.Struct, frozen=True):
    text: str
    level: str


def explain(log_tail: str, *, where: str = "engine") -> Explanation:
    """Why the engine (or the `hub`, a `pod`, an `http` answer) failed, and what to do.

    Always says something: where no signature matches, the last error in the log. Give it at least
    the last 64 KiB: vLLM reports a failure once per process, the cause first.
    """
    lines = _lines(log_tail)
    entries = [entry for entry in catalogue() if where in entry.where]
    # A cause is reported as an error, or without a level; a warning is one where nothing else is.
    errors = [at for at, line in enumerate(lines) if line.level not in (*_SETTINGS, "WARNING")]
    warnings = [at for at, line in enumerate(lines) if line.level == "WARNING"]
    for places in (errors, warnings):
        for entry in entries:
            for at in places:
                match = entry.pattern().search(lines[at].text[:_SEARCHED_CHARS])
                if match:
                    return Explanation(
                        cause=entry.cause,
                        fix=entry.suggestion(match),
                        failure_id=entry.id,
                        excerpt=_excerpt(lines, at),
                    )
    return _unknown(lines)


def explain_exit(code: int | None, log_tail: str) -> Explanation:
    """Why a process that was not asked to ended. `code` is its exit status, negative for a signal
    (as `subprocess` counts) or None where it is not known."""
    found = explain(log_tail)
    if found.failure_id is not None and found.failure_id != "vllm-probe-killed":
        return found
    # Shells and containers report signal N as 128 + N.
    number = -code if code is not None and code < 0 else code - 128 if code and code > 128 else 0
    if number == signal.SIGKILL:
        return msgspec.structs.replace(
            found,
            cause="The system killed the engine, most likely because memory ran out.",
            fix="Stop other servers, choose a smaller model, or lower its max tokens. The kernel's "
            "log (dmesg) says whether it was memory.",
            failure_id="killed",
        )
    if number in (signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE):
        name = signal.Signals(number).name
        fixes = {
            signal.SIGILL: "The processor lacks instructions that the engine was built with: set "
            "the engine to TRANSFORMERS.",
            signal.SIGBUS: "The shared memory (/dev/shm) or the disk may be full.",
        }
        return msgspec.structs.replace(
            found,
            cause=f"The engine crashed ({name}).",
            fix=fixes.get(
                signal.Signals(number), "Start it again; if it stays, rebuild the runtime."
            ),
            failure_id="crashed",
        )
    if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        return msgspec.structs.replace(
            found,
            cause=f"Another program ended the engine ({signal.Signals(number).name}).",
            fix="Start it again.",
            failure_id="terminated",
        )
    if not found.excerpt and code is not None:
        return msgspec.structs.replace(
            found, cause=f"The engine ended with status {code} and left no message."
        )
    return found


def _lines(log_tail: str) -> list[_Line]:
    """The log's lines without terminal codes and without the prefixes that engines put before
    them."""
    lines = []
    for raw in sanitise(log_tail).splitlines():
        prefix = PREFIX.match(raw)
        text = raw[prefix.end() :] if prefix else raw
        if not _POINTER.match(text):
            lines.append(_Line(text, (prefix and prefix["level"]) or ""))
    return lines


def _excerpt(lines: list[_Line], at: int) -> str:
    """The line that matched and the error lines around it; frames of tracebacks help nobody."""
    chosen = [
        line.text
        for line in lines[max(0, at - 2) : at + _EXCERPT_LINES]
        if not _FRAME.match(line.text)
        and line.level not in _SETTINGS
        and not line.text.startswith("    ")
    ]
    if lines[at].text not in chosen:
        chosen = [lines[at].text]
    return "\n".join(one_line(text, _LINE_CHARS) for text in chosen[:_EXCERPT_LINES])


def _unknown(lines: list[_Line]) -> Explanation:
    errors = [at for at, line in enumerate(lines) if _ERROR_LINE.search(line.text)]
    fix = "Read the log; search it for the first error."
    if errors:
        at = errors[-1]
        return Explanation(
            cause=one_line(lines[at].text, _LINE_CHARS), fix=fix, excerpt=_excerpt(lines, at)
        )
    written = [at for at, line in enumerate(lines) if line.text.strip()]
    tail = "\n".join(one_line(lines[at].text, _LINE_CHARS) for at in written[-3:])
    return Explanation(
        cause="The engine ended without saying why." if written else "The engine wrote nothing.",
        fix=fix if written else "Start it again; if it stays, rebuild the runtime.",
        excerpt=tail,
    )
