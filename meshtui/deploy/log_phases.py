"""Turns what an engine logs while it starts into the phases of its server."""

import logging
from collections.abc import Iterable

from meshtui.deploy.server import Server
from meshtui.domain.server import Phase
from meshtui.engines.base import LogReader

_ORDER = (Phase.STARTING, Phase.LOADING_WEIGHTS, Phase.WARMING)

_log = logging.getLogger(__name__)


def read_log(server: Server, reader: LogReader, lines: Iterable[str]) -> None:
    """Takes in the next lines of the log of the present start."""
    for line in lines:
        try:
            update = reader.feed(line)
        except Exception:  # a log line must never end a start
            _log.exception("cannot read a log line of %s", server.status.id)
            continue
        if update is None or not server.phase.is_starting:
            continue
        # An adopted start is read again from its beginning, and does not go back.
        if update.phase in _ORDER and _place(update.phase) > _place(server.phase):
            server.enter(update.phase)
        if update.phase in (None, server.phase):
            server.report(update.progress, update.message)
        if update.context_length is not None:
            server.change(context_length=update.context_length)
        if update.engine_version is not None:
            server.change(engine_version=update.engine_version)


def _place(phase: Phase | None) -> int:
    return _ORDER.index(phase) if phase in _ORDER else -1
