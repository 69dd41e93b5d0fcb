"""Exit statuses of the command line: an interface, so they keep their meaning."""

from meshtui.domain.errors import Conflict, InvalidInput, MeshtuiError, NotFound, Unavailable

OK = 0
FAILED = 1
USAGE = 2
UNAVAILABLE = 3
NOT_FOUND = 4
CONFLICT = 5
INTERRUPTED = 130

MEANINGS = {
    OK: "done",
    FAILED: "it failed: a server did not start, a transfer broke off, files are damaged",
    USAGE: "the command line or its input cannot be used",
    UNAVAILABLE: "the controller does not answer; trying again may help",
    NOT_FOUND: "no such model, server, runtime or connection",
    CONFLICT: "its state does not allow this now",
    INTERRUPTED: "interrupted with Ctrl-C",
}


def of(error: MeshtuiError) -> int:
    """The exit status that an error ends the command with."""
    match error:
        case InvalidInput():
            return USAGE
        case NotFound():
            return NOT_FOUND
        case Conflict():
            return CONFLICT
        case Unavailable():
            return UNAVAILABLE
        case _:
            return FAILED
