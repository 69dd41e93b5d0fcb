"""Findings of the preflight, made short."""

from meshtui.domain.finding import Finding, Level


def blocker(rule: str, message: str, fix: str) -> Finding:
    """What has to be seen to before any server can run."""
    return Finding(rule=rule, level=Level.BLOCKER, message=message, fix=fix)


def ok(rule: str, message: str) -> Finding:
    """What is as it should be."""
    return Finding(rule=rule, level=Level.OK, message=message)


def some(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
