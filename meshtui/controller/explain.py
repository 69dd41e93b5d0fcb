"""Errors as explanations of a failed run, and as answers over HTTP."""

from meshtui.domain.errors import ErrorInfo, MeshtuiError
from meshtui.domain.server import Explanation
from meshtui.domain.text import one_line
from meshtui.settings.paths import controller_log_path

_RETRY = "Try again; if it happens again, look at the server's log."


def explanation_of(error: Exception) -> Explanation:
    """Why something failed, from the error. What was not meant for people is named, and the log
    that holds the rest."""
    if isinstance(error, MeshtuiError):
        explanation = getattr(error, "explanation", None)
        if isinstance(explanation, Explanation):
            return explanation
        return Explanation(cause=one_line(error.message, 2000), fix=one_line(error.hint or _RETRY))
    info = internal_error(error)
    return Explanation(cause=info.message, fix=info.hint or "")


def internal_error(error: Exception) -> ErrorInfo:
    """What is said of an error that nobody expected."""
    return ErrorInfo(
        code="internal",
        message=f"Something in meshtui went wrong ({type(error).__name__}).",
        hint=f"The log has the details: {controller_log_path()}",
    )
