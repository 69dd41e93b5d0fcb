"""Errors that a person reads: what happened, and what to do about it.

Every error that may reach a screen, a command's stderr or an HTTP answer is a `MeshtuiError`.
`code` is stable and is what programs test; `http_status` is how the controller answers with it.
"""

import msgspec

from meshtui.domain.server import Explanation


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A `MeshtuiError` as data: how it travels over the controller's socket."""

    code: str
    message: str
    hint: str | None = None


class MeshtuiError(Exception):
    """Base of all errors with a message for people."""

    code = "error"
    http_status = 500

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def info(self) -> ErrorInfo:
        return ErrorInfo(code=self.code, message=self.message, hint=self.hint)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class InvalidInput(MeshtuiError):
    """What was typed or sent cannot be used."""

    code = "invalid-input"
    http_status = 400


class NotFound(MeshtuiError):
    """No such model, server, runtime, connection or run."""

    code = "not-found"
    http_status = 404


class Conflict(MeshtuiError):
    """It exists already, is in use, or is in a state that does not allow this."""

    code = "conflict"
    http_status = 409


class FileChanged(Conflict):
    """A file of settings is not the one any more that was looked at."""

    code = "file-changed"


class NotAllowed(MeshtuiError):
    """This person may not do that here."""

    code = "not-allowed"
    http_status = 403


class BrokenFile(MeshtuiError):
    """A configuration file that does not parse or validate; names the file and the line."""

    code = "broken-file"
    http_status = 500


class NoRoom(MeshtuiError):
    """Too little disk space or memory."""

    code = "no-room"
    http_status = 507


class Unavailable(MeshtuiError):
    """Something outside does not answer: the Hub, an engine, the controller."""

    code = "unavailable"
    http_status = 503


class StartFailed(MeshtuiError):
    """A server did not become ready; `explanation` says why, where that is known."""

    code = "start-failed"
    http_status = 503

    def __init__(
        self, message: str, *, hint: str | None = None, explanation: Explanation | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.explanation = explanation


class EngineError(MeshtuiError):
    """An engine refused or broke off a request."""

    code = "engine-error"
    http_status = 502


class HubUnreachable(Unavailable):
    """No network, a proxy that refuses, a Hub that is down, or offline mode."""

    code = "hub-unreachable"
    # How long the Hub asked to wait, where it did.
    retry_after_s: float | None = None


class ModelNotOnHub(NotFound):
    """No such model or revision; a private one looks the same without a token."""

    code = "model-not-on-hub"


class GatedModel(MeshtuiError):
    """The model's terms were not accepted by the user of the token, or there is no token."""

    code = "gated-model"
    http_status = 403


class BadToken(MeshtuiError):
    """The Hub does not accept the token."""

    code = "bad-token"
    http_status = 401


class BrokenDownload(MeshtuiError):
    """A file that came is not the one that the Hub promised."""

    code = "broken-download"
    http_status = 502


def error_from_info(info: ErrorInfo) -> MeshtuiError:
    """The error that `info` was made from, as its own class again."""
    for kind in _subclasses(MeshtuiError):
        if kind.code == info.code:
            return kind(info.message, hint=info.hint)
    return MeshtuiError(info.message, hint=info.hint)


def _subclasses(kind: type[MeshtuiError]) -> list[type[MeshtuiError]]:
    return [kind, *(deeper for sub in kind.__subclasses__() for deeper in _subclasses(sub))]
