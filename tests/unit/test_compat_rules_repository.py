"""Rules about what a repository holds: its configuration, weights, tokenizer and access."""

import json

import pytest

from meshtui.compat.rules.access import access
from meshtui.compat.rules.configuration import configuration
from meshtui.compat.rules.tokenizer import tokenizer
from meshtui.compat.rules.weights import weights
from meshtui.compat.subject import Access, Subject
from tests.support.memory_data import DATA
from tests.support.subjects import found, on, said, subject

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def pixtral() -> Subject:
    params = (DATA / "configs" / "mistralai__Pixtral-12B-2409.params.json").read_bytes()
    return subject(
        "mistralai/Pixtral-12B-2409",
        texts={"params.json": params},
        files=("params.json", "tekken.json", "consolidated.safetensors"),
    )


def test_a_standard_repository_is_named_by_its_class() -> None:
    assert said(configuration, subject(like=LLAMA)) == ("ok", "config.json, LlamaForCausalLM", "")


def test_mistrals_own_format_names_the_repackaged_model() -> None:
    level, message, fix = said(configuration, pixtral())
    assert level == "blocker" and "params.json" in message
    assert "mistral-community/pixtral-12b" in fix
    unknown = subject("acme/other", texts={"params.json": b"{}"}, files=("params.json",))
    assert "repackaged" in said(configuration, unknown)[2]


def test_a_pipeline_is_known_by_its_index() -> None:
    index = (DATA / "configs" / "black-forest-labs__FLUX.1-schnell.model_index.json").read_bytes()
    flux = subject(texts={"model_index.json": index}, files=("model_index.json",))
    assert flux.is_pipeline
    assert said(configuration, flux)[:2] == ("ok", "model_index.json, FluxPipeline of diffusers")


@pytest.mark.parametrize(
    ("model", "level", "message", "fix"),
    [
        (subject(files=()), "blocker", "no config.json", "Check the name"),
        (subject(config={"model_type": "llama"}), "blocker", "names no architecture", "complete"),
        (
            subject(
                texts={"adapter_config.json": b'{"base_model_name_or_path": "acme/base"}'},
                files=("adapter_config.json",),
            ),
            "blocker",
            "an adapter of acme/base",
            "base model",
        ),
        (
            subject(files=("model.Q4_K_M.gguf",)),
            "blocker",
            "GGUF files only",
            "converted from",
        ),
        (
            subject(texts={"config.json": b"{"}),
            "blocker",
            "config.json is not valid JSON",
            "Download the model again",
        ),
    ],
)
def test_what_is_no_repository_of_transformers(
    model: Subject, level: str, message: str, fix: str
) -> None:
    one = said(configuration, model)
    assert one[0] == level and message in one[1] and fix in one[2]


def test_files_beside_the_configuration_that_are_broken_are_told() -> None:
    model = subject(like=LLAMA, texts={"tokenizer_config.json": b"[1", "chat_template.json": b"3"})
    findings = found(configuration, model)
    assert [f.level.value for f in findings] == ["ok", "warning", "warning"]
    assert "tokenizer_config.json" in findings[1].message
    # The configuration itself can still be judged.
    assert model.configuration.architectures == ("LlamaForCausalLM",)


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"num_hidden_layers": 10**30}, "num_hidden_layers"),
        ({"hidden_size": "4096", "vocab_size": -5}, "hidden_size, vocab_size"),
        ({"num_attention_heads": 1.5}, "num_attention_heads"),
        ({"max_position_embeddings": {}}, "max_position_embeddings"),
        ({"text_config": {"head_dim": True}}, "head_dim"),
        ({"num_hidden_layers": 2, "intermediate_size": [128, 256], "head_dim": None}, ""),
        ({"max_position_embeddings": 4096.0, "num_key_value_heads": 0}, ""),
    ],
)
def test_numbers_that_no_model_has_are_told(sizes: dict[str, object], named: str) -> None:
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **sizes}
    messages = [f.message for f in found(configuration, subject(config=config))]
    told = [message for message in messages if "no possible number" in message]
    assert bool(told) == bool(named) and all(f"for {named}:" in message for message in told)


def test_safetensors_are_what_is_wanted() -> None:
    level, message, _ = said(weights, subject(like=LLAMA))
    assert (level, message) == ("ok", "safetensors, 1 file, 0.0 GB")


@pytest.mark.parametrize(
    ("files", "level", "message"),
    [
        (("config.json", "pytorch_model.bin"), "warning", "a pickle"),
        (("config.json", "model.gguf"), "blocker", "GGUF"),
        (("config.json", "onnx/model.onnx"), "blocker", "ONNX"),
        (("config.json", "consolidated.00.pth"), "blocker", "original PyTorch"),
        (("config.json", "flax_model.msgpack"), "blocker", "Flax"),
        (("config.json", "tf_model.h5"), "blocker", "TensorFlow"),
        (("config.json", "training_args.bin"), "blocker", "no weights"),
        (("config.json",), "blocker", "no weights"),
    ],
)
def test_formats_of_weights(files: tuple[str, ...], level: str, message: str) -> None:
    one = said(weights, subject(like=LLAMA, files=files))
    assert one[0] == level and message in one[1] and one[2]


def test_gguf_depends_on_what_the_runtime_reads() -> None:
    model = subject(files=("model.Q4_K_M.gguf",))
    assert said(weights, model, on(vllm="0.32.0"))[0] == "blocker"
    assert said(weights, model, on(vllm="0.9.0.1"))[0] == "warning"
    with_plugin = on(vllm="0.32.0", packages=frozenset({"vllm-gguf-plugin"}))
    assert said(weights, model, with_plugin)[0] == "warning"


def test_every_shard_of_the_index_must_be_there() -> None:
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    texts = {"model.safetensors.index.json": json.dumps(index).encode()}
    whole = ("config.json", "model-1-of-2.safetensors", "model-2-of-2.safetensors")
    assert said(weights, subject(like=LLAMA, texts=texts, files=whole))[0] == "ok"
    level, message, _ = said(weights, subject(like=LLAMA, texts=texts, files=whole[:2]))
    assert level == "blocker" and "model-2-of-2.safetensors" in message
    # The index of a format whose files were dropped says nothing.
    bins = {"pytorch_model.bin.index.json": json.dumps({"weight_map": {"a": "x.bin"}}).encode()}
    assert said(weights, subject(like=LLAMA, texts=bins))[0] == "ok"


def test_headers_that_cannot_be_true_are_told() -> None:
    damaged = subject(like=LLAMA, wrong_headers={"model.safetensors": "It is cut off."})
    level, message, fix = said(weights, damaged)
    assert level == "blocker" and "It is cut off." in message and "again" in fix


def test_a_configuration_alone_is_no_fault() -> None:
    level, message, _ = said(weights, subject(like=LLAMA, source="configuration"))
    assert level == "warning" and "estimated" in message


def test_without_a_tokenizer_no_prompt_can_be_read() -> None:
    files = ("config.json", "model.safetensors")
    assert said(tokenizer, subject(like=LLAMA, files=files))[0] == "blocker"
    for name in ("tokenizer.json", "tokenizer.model", "vocab.txt", "tekken.json"):
        assert not found(tokenizer, subject(like=LLAMA, files=(*files, name)))
    own = {"architectures": ["X"], "auto_map": {"AutoTokenizer": "x.Y"}}
    assert said(tokenizer, subject(config=own, files=files))[0] == "warning"


def test_access_and_licence() -> None:
    assert said(access, subject(licence="mit"))[1] == "open to everyone; licence: mit"
    gated = subject(licence="llama3.1", access=Access(gated=True))
    assert said(access, gated)[:2] == (
        "ok",
        "gated; the access token has access; licence: llama3.1",
    )
    refused = subject(access=Access(gated=True, refusal="It is gated.", fix="Open the page."))
    assert said(access, refused) == ("blocker", "It is gated.", "Open the page.")
    before = subject(access=Access(stale="The Hub is away."))
    assert [f.level.value for f in found(access, before)] == ["warning", "ok"]
    assert not found(access, subject(source="folder"))
