"""Reading a model's configuration: defaults of its class, and no trust in what is written."""

import json
from typing import Any

import pytest

from meshtui.compat.configuration import (
    MOST_BYTES,
    Configuration,
    class_defaults,
    read_configuration,
)
from meshtui.compat.quantization import read_quantization
from meshtui.domain.errors import InvalidInput
from meshtui.settings.shipped import json_data
from tests.support.memory_data import all_configurations, configuration
from tests.support.mutations import mutated, wrong_values


def read(config: dict[str, Any], **files: Any) -> Configuration:
    written = {"config.json": config, **{k.replace("__", "."): v for k, v in files.items()}}
    return read_configuration({name: json.dumps(v).encode() for name, v in written.items()})


def known(model: str) -> Configuration:
    found = configuration(model)
    assert found is not None
    return found


def test_what_is_left_out_is_what_its_class_says() -> None:
    text = known("google/gemma-3-4b-it").text
    assert "num_attention_heads" not in text.raw
    assert (text.num_heads, text.get_int("vocab_size"), text.head_dim) == (8, 262208, 256)


def test_nested_parts_take_the_type_that_their_parent_gives_them() -> None:
    text = read({"model_type": "mistral3", "architectures": []}).text
    assert text.model_type == "mistral"
    assert (text.num_layers, text.head_dim, text.sliding_window) == (40, 128, None)


def test_standard_names_and_the_names_of_a_class_are_the_same() -> None:
    for config in ({"n_layer": 5, "n_embd": 64}, {"num_hidden_layers": 5, "hidden_size": 64}):
        text = read({"model_type": "gpt2", **config}).text
        assert (text.num_layers, text.get_int("hidden_size")) == (5, 64)


def test_values_that_follow_from_others_follow() -> None:
    text = read({"model_type": "llama", "num_attention_heads": 8, "hidden_size": 512}).text
    assert text.get_int("num_key_value_heads") == 8
    assert text.head_dim == 64
    named = read({"model_type": "qwen3", "num_attention_heads": 8, "hidden_size": 512}).text
    assert named.head_dim == 128


def test_an_explicit_null_is_no_default() -> None:
    assert read({"model_type": "mistral"}).text.sliding_window == 4096
    assert read({"model_type": "mistral", "sliding_window": None}).text.sliding_window is None


def test_a_window_that_is_switched_off_does_not_count() -> None:
    off = {"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": False}
    assert read(off).text.sliding_window is None
    assert read({**off, "use_sliding_window": True}).text.sliding_window == 64


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "gemma2"}, "sfsf"),
        ({"model_type": "gemma3_text", "sliding_window_pattern": 2}, "sfsf"),
        ({"model_type": "cohere2"}, "sssf"),
        ({"model_type": "gpt_oss"}, "sfsf"),
        ({"model_type": "qwen3_next", "full_attention_interval": 2}, "lflf"),
        ({"model_type": "cwm"}, "fsss"),
        ({"model_type": "gemma4_text", "num_hidden_layers": 4}, "sssf"),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8,
             "max_window_layers": 3},
            "fffs",
        ),
        ({"model_type": "llama4_text"}, "cccf"),
        ({"model_type": "muse_glimmer_text"}, "sssf"),
        ({"model_type": "kimi_linear", "layer_types": ["mamba", "attention"] * 2}, "lflf"),
    ],
)  # fmt: skip
def test_the_kinds_of_layers_follow_the_rule_of_the_class(
    config: dict[str, Any], expected: str
) -> None:
    types = read({"num_hidden_layers": 4, **config}).text.layer_types
    assert "".join(kind[0] for kind in types) == expected


def test_quantization_is_found_where_engines_look_for_it() -> None:
    beside = {"producer": {"name": "modelopt"}, "quantization": {
        "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "group_size": 16}}  # fmt: skip
    found = read({"model_type": "llama"}, hf_quant_config__json=beside).quantization
    assert found is not None
    assert (found.method, found.bits, found.group_size, found.kv_cache) == (
        "modelopt_fp4", 4, 16, "fp8"
    )  # fmt: skip
    own = {"quant_method": "awq", "bits": 4, "group_size": 128}
    first = read({"quantization_config": own}, hf_quant_config__json=beside).quantization
    assert first is not None and first.method == "awq"
    nested = read({"model_type": "llava", "text_config": {"quantization_config": own}})
    assert nested.quantization is not None and nested.quantization.group_size == 128


@pytest.mark.parametrize("value", wrong_values())
def test_wrong_quantization_is_none_or_read(value: Any) -> None:
    grouped = {"quant_method": "gptq", "config_groups": {"g": value}, "ignore": value}
    for section in (
        value,
        {"quant_method": value},
        {"quant_method": "fp8", "bits": value},
        grouped,
    ):
        found = read_quantization(section)
        assert found is None or found.method


def test_broken_files_are_refused_in_words() -> None:
    deep = b"[" * 200_000
    for content in (b"", b"{", b"[]", b"\xff\xfe", deep, b'{"a": ' + b"9" * 5000 + b"}"):
        with pytest.raises(InvalidInput):
            read_configuration({"config.json": content})
    with pytest.raises(InvalidInput, match="larger"):
        read_configuration({"config.json": b" " * (MOST_BYTES + 1)})


def test_no_model_has_a_million_layers() -> None:
    with pytest.raises(InvalidInput, match="layers"):
        _ = read({"model_type": "llama", "num_hidden_layers": 10**6}).text.num_layers


def test_every_class_of_the_tables_can_be_read() -> None:
    for table in ("model_defaults/transformers-5.19.json", "model_defaults/vllm-0.32.json"):
        for model_type in json_data(table)["model_types"]:
            text = read({"model_type": model_type}).text
            for name in (*class_defaults(model_type).same_as, "head_dim", "sliding_window"):
                text.value(name)
            _ = (text.layer_types, text.head_dim, text.num_heads)


def test_spoilt_configurations_are_read_or_refused() -> None:
    for model, files in all_configurations().items():
        source = json.loads(files["config.json"])
        for seed in range(3):
            spoilt = mutated(source, seed)
            text = read(spoilt).text
            try:
                _ = (text.num_layers, text.layer_types, text.per_layer("mlp_layer_types"))
            except InvalidInput:
                continue
            finally:
                _ = (text.num_heads, text.head_dim, text.sliding_window, model)
