"""One result of looking at a model: what was seen, and what to do about it."""

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    BLOCKER = "blocker"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule found. `rule` is a stable name that programs test; `message` says what was
    seen and why it matters; `fix` what to do about it."""

    rule: str
    level: Level
    message: str
    fix: str = ""
