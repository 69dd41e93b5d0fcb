"""May it be fetched, and under which terms?"""

from collections.abc import Iterator

from meshtui.compat.rules.say import blocker, ok, warning
from meshtui.compat.setting import Setting
from meshtui.compat.subject import Subject
from meshtui.domain.finding import Finding
from meshtui.domain.text import one_line

RULE = "access"


def access(subject: Subject, _setting: Setting) -> Iterator[Finding]:
    """Gated and private repositories, with the token of the connection; the licence."""
    licence = f"licence: {one_line(subject.licence, 60)}" if subject.licence else "no licence named"
    if subject.access.stale:
        yield warning(
            RULE,
            f"{one_line(subject.access.stale)} This is what the Hub said before.",
            "Check again when it answers.",
        )
    if subject.access.refusal:
        yield blocker(RULE, subject.access.refusal, subject.access.fix)
    elif subject.access.gated or subject.access.private:
        kind = "gated" if subject.access.gated else "private"
        yield ok(RULE, f"{kind}; the access token has access; {licence}")
    elif subject.source == "hub":
        yield ok(RULE, f"open to everyone; {licence}")
    elif subject.licence:
        yield ok(RULE, f"on this machine; {licence}")
