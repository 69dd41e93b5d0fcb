"""Short ways to a finding."""

from meshtui.domain.finding import Finding, Level


def ok(rule: str, message: str, fix: str = "") -> Finding:
    return Finding(rule=rule, level=Level.OK, message=message, fix=fix)


def warning(rule: str, message: str, fix: str = "") -> Finding:
    return Finding(rule=rule, level=Level.WARNING, message=message, fix=fix)


def blocker(rule: str, message: str, fix: str = "") -> Finding:
    return Finding(rule=rule, level=Level.BLOCKER, message=message, fix=fix)
