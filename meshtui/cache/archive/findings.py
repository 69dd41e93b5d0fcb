"""Findings of this part, briefly."""

from meshtui.cache.archive.names import Refused
from meshtui.domain.errors import InvalidInput
from meshtui.domain.finding import Finding, Level


def blocker(rule: str, message: str, fix: str = "") -> Finding:
    return Finding(rule=rule, level=Level.BLOCKER, message=message, fix=fix)


def warning(rule: str, message: str, fix: str = "") -> Finding:
    return Finding(rule=rule, level=Level.WARNING, message=message, fix=fix)


def refusal(error: InvalidInput, rule: str = "damaged") -> Finding:
    """The finding for an error; `rule` is for those that have no name of their own."""
    if isinstance(error, Refused):
        rule = error.rule
    return blocker(rule, error.message, error.hint or "")
