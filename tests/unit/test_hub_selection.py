"""Only what an engine needs is fetched."""

import pytest

from meshtui.hub.selection import select_files

COMMON = ["config.json", "tokenizer.json", "README.md", "chat_template.jinja"]


@pytest.mark.parametrize(
    ("present", "left_out"),
    [
        (["model.safetensors"], [".gitattributes"]),
        (
            ["model.safetensors"],
            ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "rust_model.ot"],
        ),
        (["pytorch_model.bin"], ["tf_model.h5", "onnx/model.onnx", "onnx/config.json"]),
        (
            ["model-00001-of-00002.safetensors", "model.safetensors.index.json"],
            ["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"],
        ),
        (
            ["model-00001-of-00001.safetensors"],
            ["original/consolidated.00.pth", "original/params.json", "consolidated.safetensors"],
        ),
        (["consolidated.safetensors", "params.json"], []),
        (["model.safetensors"], ["model.fp16.safetensors", "model-00001-of-00002.safetensors"]),
        (["pytorch_model.bin"], ["training_args.bin", "optimizer.pt", "runs/x/events.tfevents.1"]),
        (["model.safetensors", "1_Pooling/config.json", "modeling_own.py"], ["q4.gguf"]),
        (["model.safetensors", "unet/weights.bin"], []),
    ],
)
def test_one_format_of_the_weights(present: list[str], left_out: list[str]) -> None:
    assert select_files([*left_out, *present, *COMMON]) == [*present, *COMMON]


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a//b", "a\\b", "", "a/."])
def test_paths_that_lead_elsewhere_are_left_out(path: str) -> None:
    assert select_files([path, "config.json"]) == ["config.json"]
