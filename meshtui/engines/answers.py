"""Errors of engines in one shape: `{"error": {"message", "type", "param", "code"}}`."""

from typing import Any

import msgspec

from meshtui.domain.text import one_line

_TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    405: "BadRequestError",
    413: "BadRequestError",
    422: "BadRequestError",
    429: "RateLimitError",
}
# What a person can use of an error page.
_MESSAGE_CHARS = 2000


def error_answer(
    message: str, *, code: int = 500, kind: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """The one shape; `kind` defaults to what the status code means."""
    return {
        "error": {
            "message": one_line(message, _MESSAGE_CHARS) or "The engine gave no reason.",
            "type": kind or _TYPES.get(code, "InternalServerError"),
            "param": param,
            "code": code,
        }
    }


def normalise_error(status: int, body: bytes) -> dict[str, Any]:
    """The error of an answer with a status other than 200, in any of the shapes that engines,
    FastAPI and Starlette use: an object or a string under `error`, a string or a list under
    `detail`, plain text, nothing."""
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body.decode("utf-8", errors="replace").strip()
        return error_answer(text or f"HTTP status {status}", code=status)
    return from_payload(data, status) or error_answer(f"HTTP status {status}", code=status)


def from_payload(data: Any, status: int = 500) -> dict[str, Any] | None:
    """The error in a decoded JSON value, or None where it holds none."""
    if isinstance(data, str) and data:
        return error_answer(data, code=status)
    if not isinstance(data, dict):
        return None
    error = data.get("error")
    if isinstance(error, dict):
        code, kind = error.get("code"), error.get("type")
        return error_answer(
            str(error.get("message") or ""),
            code=code if isinstance(code, int) else status,
            # vLLM calls what its validation refuses "Bad Request" and all else "...Error".
            kind=kind if isinstance(kind, str) and kind and " " not in kind else None,
            param=str(error["param"]) if error.get("param") is not None else None,
        )
    if isinstance(error, str):
        return error_answer(error, code=status)
    detail = data.get("detail")
    if isinstance(detail, list):
        return error_answer("; ".join(map(_field_error, detail)), code=status)
    if detail is not None:
        return error_answer(str(detail), code=status)
    return None


def _field_error(item: Any) -> str:
    """One entry of FastAPI's validation errors: where, and what is wrong there."""
    if not isinstance(item, dict):
        return str(item)
    where = ".".join(str(part) for part in item.get("loc") or ())
    message = str(item.get("msg", item))
    return f"{where}: {message}" if where else message
