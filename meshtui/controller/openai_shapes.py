"""OpenAI's shapes: errors, lists of models, streamed and whole answers."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from meshtui.controller.explain import internal_error
from meshtui.domain.errors import MeshtuiError

DONE = b"data: [DONE]\n\n"


def error_body(message: str, kind: str, code: str | int | None, param: str | None = None) -> Any:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_of(error: Exception) -> tuple[int, dict[str, Any]]:
    """Status and body for an error, in OpenAI's shape."""
    own = getattr(error, "error", None)
    if isinstance(own, dict) and isinstance(own.get("error"), dict):
        code = own["error"].get("code")
        return (code if isinstance(code, int) and 400 <= code < 600 else 502), own
    if isinstance(error, MeshtuiError):
        kind = "invalid_request_error" if error.http_status < 500 else "server_error"
        return error.http_status, error_body(str(error), kind, error.code.replace("-", "_"))
    info = internal_error(error)
    return 500, error_body(f"{info.message} {info.hint}", "server_error", info.code)


def error_response(error: Exception) -> web.Response:
    status, body = error_of(error)
    return json_response(body, status)


def json_response(body: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json"
    )


def model_list(models: Iterable[tuple[str, str, str]], created: float) -> dict[str, Any]:
    """`models` are triples of id, owner and task; the task is our own addition."""
    return {
        "object": "list",
        "data": [
            {
                "id": name,
                "object": "model",
                "created": int(created),
                "owned_by": owner,
                "task": task,
            }
            for name, owner, task in models
        ],
    }


def sse(chunk: object) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


class Completion:
    """Puts streamed chunks together to the answer of a request that did not ask for a stream."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._text: dict[int, list[str]] = {}
        self._calls: dict[int, dict[int, dict[str, Any]]] = {}
        self._finish: dict[int, str] = {}
        self._usage: Mapping[str, Any] | None = None

    def add(self, chunk: Mapping[str, Any]) -> None:
        self._head = self._head or {key: chunk.get(key) for key in ("id", "created", "model")}
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            index = choice.get("index", 0)
            pieces = self._text.setdefault(index, [])
            delta = choice.get("delta") or {}
            if text := delta.get("content"):
                pieces.append(text)
            for piece in delta.get("tool_calls") or ():
                self._add_call(self._calls.setdefault(index, {}), piece)
            if reason := choice.get("finish_reason"):
                self._finish[index] = reason

    @staticmethod
    def _add_call(calls: dict[int, dict[str, Any]], piece: Mapping[str, Any]) -> None:
        """The first piece of a tool call has its name, the others have more of its arguments."""
        function = piece.get("function") or {}
        call = calls.setdefault(
            piece.get("index", len(calls)),
            {"id": "", "type": "function", "function": {"name": "", "arguments": ""}},
        )
        call["id"] = piece.get("id") or call["id"]
        for field in ("name", "arguments"):
            call["function"][field] += function.get(field) or ""

    def _message(self, index: int) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._text[index])}
        if calls := self._calls.get(index):
            message["content"] = message["content"] or None
            message["tool_calls"] = [call for _, call in sorted(calls.items())]
        return message

    def body(self) -> dict[str, Any]:
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [
                {
                    "index": index,
                    "message": self._message(index),
                    "logprobs": None,
                    "finish_reason": self._finish.get(index, "stop"),
                }
                for index in sorted(self._text)
            ],
            "usage": self._usage,
        }
