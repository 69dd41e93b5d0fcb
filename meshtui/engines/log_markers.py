"""Reads start-up logs with the markers of `config/engines/`: lines in, phases out."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from meshtui.domain.server import Phase
from meshtui.domain.text import one_line, sanitise
from meshtui.engines.base import LogUpdate
from meshtui.settings.shipped import applies

# `(EngineCore pid=12) INFO 11-22 18:45:34 [core.py:133] ` and uvicorn's `INFO:     `.
PREFIX = re.compile(
    r"^(?:\([\w .:-]+pid=\d+\)\s+)?"
    r"(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)"
    r"(?:\s+\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? \[[^\]]*\]|:)\s?)?"
)


class _Marker(msgspec.Struct, frozen=True):
    pattern: re.Pattern[str]
    phase: Phase
    message: str


class MarkerLogReader:
    """A `LogReader` driven by marker tables.

    Phases never go back: a late line of an earlier phase (several worker processes write into one
    log) only counts while nothing later was seen.
    """

    _ORDER = (Phase.STARTING, Phase.LOADING_WEIGHTS, Phase.WARMING)

    def __init__(
        self, markers: Iterable[Mapping[str, Any]], *, engine_version: str | None = None
    ) -> None:
        self._markers = [
            _Marker(re.compile(entry["pattern"]), Phase(entry["phase"]), entry["message"])
            for entry in markers
            if applies(entry, engine_version)
        ]
        self._reached = 0

    def feed(self, line: str) -> LogUpdate | None:
        text = sanitise(line)
        for marker in self._markers:
            match = marker.pattern.search(text)
            if match:
                return self._update(marker, match)
        return None

    def _update(self, marker: _Marker, match: re.Match[str]) -> LogUpdate:
        groups = {name: value or "" for name, value in match.groupdict().items()}
        place = self._ORDER.index(marker.phase)
        current = place >= self._reached
        self._reached = max(place, self._reached)
        percent = groups.get("percent")
        context = groups.get("context")
        return LogUpdate(
            phase=marker.phase if current else None,
            progress=min(int(percent) / 100, 1.0) if percent and current else None,
            message=one_line(marker.message.format(**groups), 120) if current else None,
            context_length=int(context) if context else None,
            engine_version=groups.get("version") or None,
        )
