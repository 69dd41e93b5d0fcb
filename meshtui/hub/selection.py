"""Which of a repository's files an engine needs."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

# Other formats of the same weights, conversions, and what training left behind.
_NEVER = re.compile(
    r"(?:^|/)(?:original|onnx|openvino|coreml|gguf|metal|runs|logs|checkpoint-\d+)/"
    r"|\.(?:gguf|ggml|onnx|onnx_data|h5|msgpack|ot|tflite|mlmodel|mlpackage|engine|pb|tfevents.*)$"
    r"|(?:^|/)(?:\.gitattributes|\.gitignore|\.DS_Store)$"
    r"|(?:^|/)(?:training_args\.bin|optimizer\.(?:pt|bin)|scheduler\.(?:pt|bin)|rng_state.*\.pth)$",
    re.IGNORECASE,
)
_PICKLED = re.compile(r"\.(?:bin|pt|pth|ckpt)(?:\.index\.json)?$", re.IGNORECASE)
_SHARD = re.compile(r"^(?P<stem>.+)-\d{5}-of-\d{5}(?P<suffix>\.[a-z]+)$")
# `model.fp16.safetensors` is a variant of `model.safetensors`.
_VARIANT = re.compile(r"^(?P<stem>[^.]+)\.[a-z0-9]+(?P<rest>(?:-\d{5}-of-\d{5})?\.safetensors)$")


def select_files(paths: Iterable[str]) -> list[str]:
    """The files to fetch, in their order: one format of the weights (safetensors before pickled
    ones), one variant, no second copy of them, and everything that is no weights."""
    wanted = [path for path in paths if _is_safe(path) and not _NEVER.search(path)]
    folders: dict[PurePosixPath, set[str]] = {}
    for path in wanted:
        folders.setdefault(PurePosixPath(path).parent, set()).add(PurePosixPath(path).name)
    return [
        path
        for path in wanted
        if not _is_second_copy(PurePosixPath(path).name, folders[PurePosixPath(path).parent])
    ]


def _is_safe(path: str) -> bool:
    """A plain path below the model's folder; the Hub gives no others, a broken mirror might."""
    parts = path.split("/")
    return "\\" not in path and "\0" not in path and all(p not in ("", ".", "..") for p in parts)


def _is_second_copy(name: str, siblings: set[str]) -> bool:
    safetensors = {sibling for sibling in siblings if sibling.endswith(".safetensors")}
    usual = {sibling for sibling in safetensors if not sibling.startswith("consolidated")}
    if _PICKLED.search(name):
        return bool(usual)
    if name.startswith("consolidated"):
        return bool(usual) and not name.endswith(".json")
    if variant := _VARIANT.match(name):
        return variant["stem"] + variant["rest"] in safetensors
    if shard := _SHARD.match(name):
        return shard["stem"] + shard["suffix"] in siblings
    return False
