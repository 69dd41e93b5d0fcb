"""`transformers serve` behind its adapter behaves as vLLM does, or says that it cannot."""

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from meshtui.domain.errors import InvalidInput
from meshtui.engines.base import PreparedRequest
from meshtui.engines.transformers_serve import TransformersAdapter

STREAMS = Path(__file__).parent.parent / "data" / "engine_streams"
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
ADAPTER = TransformersAdapter()


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    config = {"model_type": "llama", "max_position_embeddings": 8192, "eos_token_id": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    generation = {
        "_from_model_config": True,
        "bos_token_id": 1,
        "eos_token_id": [2, 3],
        "temperature": 0.6,
        "top_p": 0.9,
        "transformers_version": "5.19.0",
    }
    (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    return tmp_path


def prepare(model_dir: Path, context_length: int | None = None, **fields: Any) -> PreparedRequest:
    body = {"model": MODEL, "messages": MESSAGES, **fields}
    return ADAPTER.prepare_chat(body, model_dir=model_dir, context_length=context_length)


def generation(prepared: PreparedRequest) -> dict[str, Any]:
    return dict(json.loads(prepared.body["generation_config"]))


def test_requests_hold_known_fields_only_and_always_stream(model_dir: Path) -> None:
    prepared = prepare(
        model_dir,
        stream=False,
        stream_options={"include_usage": True},
        user="me",
        n=1,
        logprobs=False,
        presence_penalty=0.5,
        frequency_penalty=0.0,
        top_k=7,
        surprise="x",
    )
    assert set(prepared.body) == {"messages", "stream", "generation_config"}
    assert prepared.body["stream"] is True
    assert generation(prepared)["top_k"] == 7
    assert prepared.notices == (
        "The transformers engine does not support presence_penalty; it was left out.",
        "The transformers engine does not support surprise; it was left out.",
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {}}},
        {"structured_outputs": {"choice": ["a"]}},
        {"tool_choice": "required", "tools": [{}]},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"n": 2},
        {"logprobs": True},
        {"top_logprobs": 3},
    ],
)
def test_what_would_be_ignored_silently_is_refused(model_dir: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        prepare(model_dir, **fields)
    assert "vLLM" in (refused.value.hint or "")


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": "hi"},
        {"messages": [{"content": "no role"}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"messages": [{"role": "user", "content": ["text"]}]},
        {"temperature": -1},
        {"temperature": "hot"},
        {"temperature": float("nan")},
        {"top_p": 1.5},
        {"seed": 0.5},
        {"seed": 2**64},
        {"stop": 5},
        {"stop": ["a", None]},
        {"max_tokens": 0},
        {"max_tokens": "many"},
        {"max_tokens": True},
        {"max_tokens": 8193},
    ],
)
def test_values_that_it_answers_with_a_bare_500_are_refused_first(
    model_dir: Path, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        prepare(model_dir, **fields)


def test_sampling_is_switched_on_by_asking_for_it(model_dir: Path) -> None:
    config = generation(prepare(model_dir, temperature=1.3, top_p=0.5, seed=7))
    assert config["do_sample"] is True
    assert (config["temperature"], config["top_p"]) == (1.3, 0.5)
    # OpenAI and vLLM sample among all tokens, transformers among 50 unless told.
    assert config["top_k"] == 0


def test_temperature_zero_takes_the_likeliest_token(model_dir: Path) -> None:
    config = generation(prepare(model_dir, temperature=0, top_p=0.5))
    assert config["do_sample"] is False
    assert not {"temperature", "top_p", "top_k"} & set(config)


def test_without_a_temperature_the_models_own_settings_hold(model_dir: Path) -> None:
    assert generation(prepare(model_dir))["do_sample"] is False
    own = {"do_sample": True, "temperature": 0.6, "top_k": 20, "eos_token_id": 2}
    (model_dir / "generation_config.json").write_text(json.dumps(own))
    config = generation(prepare(model_dir))
    assert (config["do_sample"], config["temperature"], config["top_k"]) == (True, 0.6, 20)


def test_the_end_of_text_is_told_since_the_request_replaces_the_models_settings(
    model_dir: Path,
) -> None:
    config = generation(prepare(model_dir))
    assert config["eos_token_id"] == [2, 3]
    assert config["pad_token_id"] == 2
    assert not any(key.startswith("_") for key in config)


def test_a_model_whose_end_of_text_is_unknown_keeps_its_own_settings(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    prepared = prepare(tmp_path, max_tokens=5)
    assert set(prepared.body) == {"messages", "stream", "max_tokens"}
    assert prepared.notices == ()
    assert "cannot sample" in prepare(tmp_path, temperature=1).notices[0]


def test_the_answers_length(model_dir: Path) -> None:
    assert generation(prepare(model_dir, max_tokens=5))["max_new_tokens"] == 5
    assert generation(prepare(model_dir, max_completion_tokens=6))["max_new_tokens"] == 6
    both = prepare(model_dir, max_completion_tokens=6, max_tokens=5)
    assert generation(both)["max_new_tokens"] == 6
    free = generation(prepare(model_dir))["max_new_tokens"]
    assert 8000 < free < 8192


def test_a_conversation_that_cannot_fit_is_refused(model_dir: Path) -> None:
    words = "Lorem ipsum dolor sit amet, consectetur adipiscing elit. " * 2000
    long = [{"role": "user", "content": words}]
    with pytest.raises(InvalidInput, match="8192 tokens"):
        prepare(model_dir, messages=long)
    with pytest.raises(InvalidInput, match="100 tokens"):
        prepare(model_dir, context_length=100, messages=[{"role": "user", "content": words[:900]}])


def test_runs_of_one_character_are_few_tokens(model_dir: Path) -> None:
    spaces = [{"role": "user", "content": "x" + " " * 100_000 + "=" * 100_000}]
    assert prepare(model_dir, messages=spaces).body["messages"] == spaces


def test_tool_calls_that_cannot_be_read_back_are_announced(model_dir: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert "come as text" in prepare(model_dir, tools=tools).notices[0]
    assert prepare(model_dir, tools=tools, tool_choice="auto").body["tools"] == tools
    assert "tools" not in prepare(model_dir, tools=tools, tool_choice="none").body
    (model_dir / "tokenizer_config.json").write_text('{"response_template": {}}')
    assert prepare(model_dir, tools=tools).notices == ()


def translate(name: str, prepared: PreparedRequest, cuts: list[int]) -> list[dict[str, Any]]:
    data = (STREAMS / name).read_bytes()
    translator = ADAPTER.translator(prepared)
    borders = [0, *(cut % (len(data) + 1) for cut in sorted(cuts)), len(data)]
    chunks = [chunk for a, b in pairwise(sorted(borders)) for chunk in translator.feed(data[a:b])]
    return chunks + translator.finish()


def text(chunks: list[dict[str, Any]]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )


REQUEST = PreparedRequest(path="/", body={}, model=MODEL)


def test_a_real_stream_comes_out_in_vllms_form() -> None:
    chunks = translate("transformers-5.19.0-chat.txt", REQUEST, [])
    assert text(chunks) == "The capital of France is Paris."
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {
        "completion_tokens": 8,
        "prompt_tokens": 37,
        "total_tokens": 45,
    }
    assert {chunk["model"] for chunk in chunks} == {MODEL}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_the_stop_text_is_cut_off_wherever_the_stream_is_cut() -> None:
    prepared = PreparedRequest(path="/", body={"stop": ["is Par"]}, model=MODEL)
    chance = random.Random(3)
    for _ in range(200):
        cuts = [chance.randrange(10_000) for _ in range(5)]
        chunks = translate("transformers-5.19.0-stop.txt", prepared, cuts)
        assert text(chunks) == "The capital of France "
        finish = chunks[-2]["choices"][0]
        assert (finish["finish_reason"], finish["stop_reason"]) == ("stop", "is Par")


def test_held_back_text_comes_before_the_end() -> None:
    prepared = PreparedRequest(path="/", body={"stop": ["Paris.!"]}, model=MODEL)
    chunks = translate("transformers-5.19.0-chat.txt", prepared, [])
    assert text(chunks) == "The capital of France is Paris."
    assert "stop_reason" not in chunks[-2]["choices"][0]


def test_an_error_in_the_stream() -> None:
    *before, last = translate("transformers-5.19.0-error.txt", REQUEST, [])
    assert "has to be a strictly positive float" in last["error"]["message"]
    assert all("error" not in chunk for chunk in before)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'data: {"error": "bad \\"quotes\\""}\n\n', 'bad "quotes"'),
        (b'data: {"error": "the "unescaped" one"}\n\n', 'the "unescaped" one'),
        (b'data: {"error": "C:\\path"}\n\n', "C:\\path"),
        (b'data: {"error": "first line\nsecond line"}\n\n', "first line"),
        (b'data: {"error": "first\n\nsecond"}\n\n', "first"),
        (b'data: {"error": "cut o', "cut o"),
        (b'data: {"error": ""}\n\n', "The engine gave no reason."),
    ],
)
def test_errors_that_nobody_escaped(data: bytes, message: str) -> None:
    translator = ADAPTER.translator(REQUEST)
    chunks = translator.feed(data) + translator.finish()
    assert [chunk["error"]["message"] for chunk in chunks] == [message]


def test_a_stream_that_breaks_off_is_no_answer() -> None:
    data = (STREAMS / "transformers-5.19.0-chat.txt").read_bytes()
    translator = ADAPTER.translator(REQUEST)
    translator.feed(data[: data.index(b"finish_reason")])
    (error,) = translator.finish()
    assert "broke off" in error["error"]["message"]


def test_a_prompt_longer_than_the_context_is_found_out_at_the_latest_by_its_usage() -> None:
    prepared = PreparedRequest(path="/", body={}, model=MODEL, context_length=20)
    chunks = translate("transformers-5.19.0-chat.txt", prepared, [])
    assert "37 tokens" in chunks[-1]["error"]["message"]
    assert chunks[-1]["error"]["code"] == 400


@pytest.mark.parametrize("data", [b"data: [1]\n\n", b"data: nonsense\n\n", b"data: \xff\n\n"])
def test_nonsense_becomes_an_error(data: bytes) -> None:
    (chunk,) = ADAPTER.translator(REQUEST).feed(data)
    assert chunk["error"]["message"]
