"""The answer stream of `transformers serve` as vLLM would send it.

It differs: the stop text is part of the answer, usage stands on the last chunk, the model is named
after its folder, there is no `[DONE]`, and an error is a string that nobody escaped.
(transformers 5.19, cli/serving/chat_completion.py)
"""

from typing import Any

import msgspec

from meshtui.engines.answers import error_answer, from_payload
from meshtui.engines.base import PreparedRequest
from meshtui.engines.sse import EventSplitter, EventTooLong
from meshtui.engines.stop_text import StopCutter

_ERROR_PREFIX = b'{"error": "'


class TransformersTranslator:
    """`StreamTranslator` of `transformers serve`."""

    def __init__(self, prepared: PreparedRequest) -> None:
        self._model = prepared.model
        self._context_length = prepared.context_length
        self._cutter = StopCutter(prepared.body.get("stop") or ())
        self._events = EventSplitter()
        self._over = False

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        chunks: list[dict[str, Any]] = []
        try:
            events = self._events.feed(data)
        except EventTooLong as error:
            self._over = True
            return [error_answer(f"The engine's answer cannot be read: {error}.")]
        for event in events:
            if self._over:
                break
            chunks += self._event(event)
        return chunks

    def finish(self) -> list[dict[str, Any]]:
        if self._over:
            return []
        self._over = True
        rest = self._events.rest()
        if rest.startswith(_ERROR_PREFIX):
            return [error_answer(_unescaped_error(rest))]
        return [error_answer("The engine broke off before the answer was complete.")]

    def _event(self, event: bytes) -> list[dict[str, Any]]:
        try:
            chunk = msgspec.json.decode(event)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._over = True
            if event.startswith(_ERROR_PREFIX):
                return [error_answer(_unescaped_error(event))]
            return [error_answer(f"The engine sent what is not JSON: {event[:200]!r}")]
        if not isinstance(chunk, dict) or "error" in chunk:
            self._over = True
            return [from_payload(chunk) or error_answer("The engine sent an unknown chunk.")]
        return self._chunk(chunk)

    def _chunk(self, chunk: dict[str, Any]) -> list[dict[str, Any]]:
        head = {
            "id": chunk.get("id", ""),
            "object": "chat.completion.chunk",
            "created": chunk.get("created", 0),
            "model": self._model or chunk.get("model", ""),
        }
        usage = chunk.get("usage")
        chunks: list[dict[str, Any]] = []
        for choice in chunk.get("choices") or ():
            delta = dict(choice.get("delta") or {})
            if delta.get("role") == "assistant" and "content" not in delta:
                delta["content"] = ""
            if "reasoning_content" in delta:
                delta["reasoning"] = delta.pop("reasoning_content")
            reason = choice.get("finish_reason")
            if delta.get("content"):
                delta["content"] = self._cutter.feed(delta["content"])
                if not delta["content"] and set(delta) == {"content"} and reason is None:
                    continue
            if reason is not None:
                rest = self._cutter.finish()
                if rest:
                    chunks.append({**head, "choices": [_choice({"content": rest}, None)]})
                self._over = True
            finished = _choice(delta, reason)
            if reason is not None and self._cutter.matched is not None:
                finished |= {"finish_reason": "stop", "stop_reason": self._cutter.matched}
            chunks.append({**head, "choices": [finished]})
        if isinstance(usage, dict):
            chunks += self._usage(head, usage)
        return chunks

    def _usage(self, head: dict[str, Any], usage: dict[str, Any]) -> list[dict[str, Any]]:
        """The usage chunk; or an error where the engine took more than the model can read, which
        it does without a word."""
        prompt = usage.get("prompt_tokens", 0)
        if self._context_length is not None and prompt >= self._context_length:
            return [
                error_answer(
                    f"The conversation takes {prompt} tokens; this model's context is "
                    f"{self._context_length} tokens. The answer above is not to be trusted.",
                    code=400,
                    param="messages",
                )
            ]
        return [{**head, "choices": [], "usage": usage}]


def _choice(delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _unescaped_error(event: bytes) -> str:
    """The message of `{"error": "message"}` where quotes in the message broke the JSON."""
    text = event.removeprefix(_ERROR_PREFIX).decode("utf-8", errors="replace")
    return text.removesuffix('"}')
