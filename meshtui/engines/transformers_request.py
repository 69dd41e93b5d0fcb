"""OpenAI chat requests in the dialect of `transformers serve`.

It accepts OpenAI's fields and ignores many of them with status 200, refuses all others, and samples
only when the generation configuration says so. Here every field is honoured, translated, dropped
with a notice, or refused because the answer would look right and be wrong. (transformers 5.19,
cli/serving/chat_completion.py and utils.py)
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from meshtui.domain.errors import InvalidInput
from meshtui.engines.base import PreparedRequest
from meshtui.engines.model_facts import ModelFacts
from meshtui.settings.shipped import toml_data

_USE_VLLM = "The transformers engine cannot do it; serve this model with vLLM where that can."

# Fields that change nothing about the answer's text.
_HARMLESS = frozenset(
    {
        *("model", "stream", "stream_options", "user", "metadata", "store", "service_tier"),
        *("safety_identifier", "prompt_cache_key", "logprobs", "top_logprobs", "n"),
        *("response_format", "tool_choice", "max_completion_tokens", "max_tokens"),
    }
)
# Fields that go on as they are.
_PASSED = ("messages", "seed", "stop", "tools", "chat_template_kwargs")
# Fields of vLLM and of OpenAI that are settings of generation under transformers.
_GENERATION = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "min_tokens": "min_new_tokens",
}
_SAMPLING = ("temperature", "top_p", "top_k", "min_p")
# What stays of a model's generation_config.json: what `GenerationConfig` takes as settings.
_PRIVATE = (
    "_from_model_config",
    "transformers_version",
    "output_attentions",
    "output_hidden_states",
    "max_length",
)

# Without a tokenizer the prompt's tokens can only be bounded. No natural language reaches this
# many characters a token in any vocabulary in use (English has 4 to 5); runs of one character,
# which can, are shortened before counting.
_MAX_CHARACTERS_PER_TOKEN = 8
# A guess that is rather too high, for the default length of an answer.
_USUAL_CHARACTERS_PER_TOKEN = 3
_RUN = re.compile(r"(.)\1{3,}", re.DOTALL)
# What `transformers serve` generates at most unless told otherwise.
_DEFAULT_MAX_TOKENS = 1024


def prepare(
    body: Mapping[str, Any], facts: ModelFacts, context_length: int | None
) -> PreparedRequest:
    """The request for `transformers serve`; raises `InvalidInput` for what it would get wrong."""
    _refuse_unsupported(body, facts)
    messages = body.get("messages")
    characters = _check_messages(messages, facts)
    max_tokens = _max_tokens(body, characters, context_length)
    config = _generation_config(body, facts, max_tokens)
    notices = [*_dropped(body), *_tool_notices(body, facts)]
    sent = {name: body[name] for name in _PASSED if body.get(name) is not None}
    if body.get("tool_choice") == "none":
        sent.pop("tools", None)
    sent["stream"] = True
    if "eos_token_id" in config:
        sent["generation_config"] = json.dumps(config)
    else:
        # Only the engine knows where this model's answers end, and it forgets that when it is sent
        # a configuration.
        sent["max_tokens"] = max_tokens
        if config["do_sample"]:
            notices.append("The transformers engine cannot sample from this model's tokens.")
    stop = sent.get("stop")
    if isinstance(stop, str):
        sent["stop"] = [stop]
    sent["stop"] = [text for text in sent.get("stop") or () if text]
    if not sent["stop"]:
        del sent["stop"]
    return PreparedRequest(
        path="/v1/chat/completions",
        body=sent,
        notices=tuple(notices),
        model=str(body.get("model", "")),
        context_length=context_length,
    )


def _refuse_unsupported(body: Mapping[str, Any], facts: ModelFacts) -> None:
    response_format = body.get("response_format")
    if isinstance(response_format, Mapping) and response_format.get("type") != "text":
        raise InvalidInput(
            "Answers in a JSON format (response_format) are not possible.", hint=_USE_VLLM
        )
    if body.get("structured_outputs") or body.get("guided_json"):
        raise InvalidInput("Structured outputs are not possible.", hint=_USE_VLLM)
    if body.get("tool_choice") not in (None, "auto", "none"):
        raise InvalidInput("A forced tool call (tool_choice) is not possible.", hint=_USE_VLLM)
    if body.get("n") not in (None, 1):
        raise InvalidInput("More than one answer at once (n) is not possible.", hint=_USE_VLLM)
    if body.get("logprobs") or body.get("top_logprobs"):
        raise InvalidInput("Log probabilities (logprobs) are not possible.", hint=_USE_VLLM)
    _check_number(body, "temperature", 0, 100)
    _check_number(body, "top_p", 0, 1)
    _check_number(body, "seed", -(2**63), 2**63 - 1, whole=True)
    stop = body.get("stop")
    if stop is not None and not (
        isinstance(stop, str)
        or (isinstance(stop, list | tuple) and all(isinstance(s, str) for s in stop))
    ):
        raise InvalidInput("stop must be a text or a list of texts.")


def _check_number(
    body: Mapping[str, Any], name: str, low: float, high: float, *, whole: bool = False
) -> None:
    """`transformers serve` answers wrong values with a bare 500, or in the middle of the stream."""
    value = body.get(name)
    if value is None:
        return
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise InvalidInput(f"{name} must be {kind} from {low} to {high}, not {value!r}.")


def _check_messages(messages: Any, facts: ModelFacts) -> int:
    """The characters of the conversation; raises `InvalidInput` for what is none. What the engine
    would leave out without a word (a picture for a model of text) is refused."""
    if not isinstance(messages, list | tuple) or not messages:
        raise InvalidInput("messages must be a list with at least one message.")
    characters = 0
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InvalidInput("Each message needs a role and a content.")
        content = message.get("content")
        if content is None or isinstance(content, str):
            characters += _characters(content or "")
            continue
        if not isinstance(content, list | tuple):
            raise InvalidInput("A message's content must be a text or a list of parts.")
        for part in content:
            kind = part.get("type") if isinstance(part, Mapping) else None
            if kind == "text" and isinstance(part.get("text"), str):
                characters += _characters(part["text"])
            elif kind != "image_url" or not facts.has_vision:
                raise InvalidInput(f"The model cannot take a message part of the type {kind!r}.")
    return characters


def _characters(text: str) -> int:
    return len(_RUN.sub(r"\1\1\1", text))


def _max_tokens(body: Mapping[str, Any], characters: int, context_length: int | None) -> int:
    wanted = body.get("max_completion_tokens")
    if wanted is None:
        wanted = body.get("max_tokens")
    if wanted is not None and (
        isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1
    ):
        raise InvalidInput(f"max_tokens must be a whole number of at least 1, not {wanted!r}.")
    if context_length is None:
        return wanted or _DEFAULT_MAX_TOKENS
    if characters / _MAX_CHARACTERS_PER_TOKEN > context_length:
        raise InvalidInput(
            f"The conversation is too long: {characters} characters cannot fit into this model's "
            f"context of {context_length} tokens.",
            hint="Shorten it.",
        )
    if wanted is not None:
        if wanted > context_length:
            raise InvalidInput(
                f"max_tokens={wanted} is more than this model's context of {context_length} "
                "tokens.",
                hint="Ask for fewer tokens.",
            )
        return int(wanted)
    return max(context_length - characters // _USUAL_CHARACTERS_PER_TOKEN, 1)


def _generation_config(
    body: Mapping[str, Any], facts: ModelFacts, max_tokens: int
) -> dict[str, Any]:
    """A whole configuration: the engine uses the one in the request instead of the model's, so
    the model's own values (the end-of-text tokens above all) are repeated in it."""
    config = {key: value for key, value in facts.special_tokens.items() if value is not None}
    config |= {k: v for k, v in facts.generation.items() if k not in _PRIVATE and v is not None}
    if config.get("pad_token_id") is None and config.get("eos_token_id") is not None:
        eos = config["eos_token_id"]
        config["pad_token_id"] = eos[0] if isinstance(eos, list) else eos
    config["max_new_tokens"] = max_tokens
    for name, setting in _GENERATION.items():
        if body.get(name) is not None:
            config[setting] = body[name]
    temperature = body.get("temperature")
    if temperature is not None:
        config["do_sample"] = temperature > 0
    elif any(body.get(name) is not None for name in _SAMPLING):
        config["do_sample"] = True
    if config.get("do_sample"):
        # transformers samples among the 50 likeliest tokens by default, OpenAI and vLLM among all.
        config["top_k"] = max(config.get("top_k") or 0, 0)
    else:
        for name in _SAMPLING:
            config.pop(name, None)
        config["do_sample"] = False
    return config


def _dropped(body: Mapping[str, Any]) -> list[str]:
    """Notices about fields that are left out and would have changed the answer."""
    known = _HARMLESS | frozenset(_PASSED) | frozenset(_GENERATION)
    return [
        f"The transformers engine does not support {name}; it was left out."
        for name, value in body.items()
        if name not in known and value not in (None, 0, False, [], {}, "")
    ]


def _tool_notices(body: Mapping[str, Any], facts: ModelFacts) -> list[str]:
    if not body.get("tools") or body.get("tool_choice") == "none" or facts.parses_tools:
        return []
    if facts.model_type in toml_data("engines/transformers.toml")["tools"]["model_types"]:
        return []
    return ["The transformers engine cannot read this model's tool calls: they come as text."]
