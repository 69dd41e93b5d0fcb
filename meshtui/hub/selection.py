"""Which of a repository's files an engine needs."""

import re
import unicodedata
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
_MOST_PATH_BYTES = 1000
_PICKLED = re.compile(r"\.(?:bin|pt|pth|ckpt)(?:\.index\.json)?$", re.IGNORECASE)
_SHARD = re.compile(r"^(?P<stem>.+)-\d{5}-of-\d{5}(?P<suffix>\.[a-z]+)$")
# `model.fp16.safetensors` is a variant of `model.safetensors`.
_VARIANT = re.compile(r"^(?P<stem>[^.]+)\.[a-z0-9]+(?P<rest>(?:-\d{5}-of-\d{5})?\.safetensors)$")


def select_files(paths: Iterable[str]) -> list[str]:
    """The files to fetch, in their order: one format of the weights (safetensors before pickled
    ones), one variant, no second copy of them, and everything that is no weights."""
    return [path for path, reason in why_left_out(paths).items() if reason is None]


def why_left_out(paths: Iterable[str]) -> dict[str, str | None]:
    """Why each file is not needed; None for those that are."""
    found: dict[str, str | None] = {}
    folders: dict[PurePosixPath, set[str]] = {}
    for path in paths:
        found[path] = None if is_safe(path) else "its name is no plain path"
        if found[path] is None and _NEVER.search(path):
            found[path] = "another format, or a leftover of training"
        if found[path] is None:
            folders.setdefault(PurePosixPath(path).parent, set()).add(PurePosixPath(path).name)
    for path, reason in found.items():
        place = PurePosixPath(path)
        if reason is None:
            found[path] = _why_second_copy(place.name, folders[place.parent])
    return found


def is_safe(path: str) -> bool:
    """A plain path below the model's folder; the Hub gives no others, a broken mirror might."""
    parts = path.split("/")
    return (
        len(path.encode("utf-8", "surrogatepass")) <= _MOST_PATH_BYTES
        and all(p not in ("", ".", "..") and len(p.encode("utf-8", "surrogatepass")) <= 255
                for p in parts)
        and "\\" not in path
        and not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in path)
    )  # fmt: skip


def _why_second_copy(name: str, siblings: set[str]) -> str | None:
    safetensors = {sibling for sibling in siblings if sibling.endswith(".safetensors")}
    usual = {sibling for sibling in safetensors if not sibling.startswith("consolidated")}
    if _PICKLED.search(name):
        return "pickled; the same weights come as safetensors" if usual else None
    if name.startswith("consolidated"):
        return "the same weights once more" if usual and not name.endswith(".json") else None
    if variant := _VARIANT.match(name):
        is_copy = variant["stem"] + variant["rest"] in safetensors
        return "a variant of the same weights" if is_copy else None
    if shard := _SHARD.match(name):
        is_copy = shard["stem"] + shard["suffix"] in siblings
        return "a part of weights that come as one file" if is_copy else None
    return None
