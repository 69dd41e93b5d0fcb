"""Are the weights there, and in a format that engines load?"""

from collections.abc import Iterator
from pathlib import PurePosixPath

from meshtui.compat.rules.quantization import reads_gguf
from meshtui.compat.rules.say import blocker, ok, warning
from meshtui.compat.setting import Setting
from meshtui.compat.subject import Subject
from meshtui.domain.finding import Finding
from meshtui.domain.text import one_line

RULE = "weights"
_PICKLED = (".bin", ".pt", ".ckpt")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
# Formats of other programs, and what to look for instead.
_FOREIGN = {
    ".gguf": ("GGUF", "the repository that the GGUF files were converted from"),
    ".onnx": ("ONNX", "the repository that it was exported from"),
    ".pth": ("original PyTorch", "a repository that was converted for transformers"),
    ".msgpack": ("Flax", "a repository with safetensors files"),
    ".h5": ("TensorFlow", "a repository with safetensors files"),
}


def weights(subject: Subject, setting: Setting) -> Iterator[Finding]:
    """safetensors before pickled files; every shard of the index; headers that can be true."""
    if subject.files is None or subject.has("adapter_config.json"):
        return
    if subject.source == "configuration":
        yield warning(
            RULE,
            "Only configuration files are here: sizes are estimated from them.",
            "Bring the weights before you deploy it.",
        )
        return
    safetensors = subject.paths(".safetensors")
    pickled = [path for path in subject.paths(*_PICKLED) if "training_args" not in path]
    if subject.wrong_headers:
        path, reason = next(iter(subject.wrong_headers.items()))
        yield blocker(
            RULE,
            f"{one_line(path, 80)} is damaged: {one_line(reason, 200)}",
            "Verify the model in the cache, or download it again.",
        )
    missing = _missing_shards(subject)
    if missing:
        yield blocker(
            RULE,
            f"{len(missing)} of the files that the index names are missing: "
            f"{one_line(', '.join(missing[:3]), 200)}.",
            "Download the model again, with all of its files.",
        )
    elif safetensors:
        total = sum(f.size_bytes for f in subject.files if f.path.endswith(".safetensors"))
        count = "1 file" if len(safetensors) == 1 else f"{len(safetensors)} files"
        if not subject.wrong_headers:
            yield ok(RULE, f"safetensors, {count}, {total / 1e9:.1f} GB")
    elif pickled:
        yield warning(
            RULE,
            f"{one_line(pickled[0], 80)} is a pickle: loading it can run code.",
            "Prefer a repository with safetensors files, or convert it: the Hub's convert bot "
            "opens a pull request whose revision can be used.",
        )
    else:
        yield _nothing(subject, setting)


def _nothing(subject: Subject, setting: Setting) -> Finding:
    if (gguf := subject.paths(".gguf")) and reads_gguf(setting).possible:
        return warning(
            RULE,
            f"The weights are GGUF files ({one_line(gguf[0], 80)}): vLLM reads them, more slowly "
            "than other formats, and not every kind.",
            "Prefer the repository that they were converted from.",
        )
    for suffix, (name, instead) in _FOREIGN.items():
        if found := subject.paths(suffix):
            return blocker(
                RULE,
                f"The weights are {name} files only ({one_line(found[0], 80)}), which vLLM and "
                "transformers do not load as they are.",
                f"Use {instead}.",
            )
    return blocker(
        RULE, "There are no weights in it.", "Check the name and the revision of the model."
    )


def _missing_shards(subject: Subject) -> list[str]:
    """What the first index that applies names and the model lacks."""
    present = {file.path for file in subject.files or ()}
    for index in _INDEXES:
        if index not in subject.texts:
            continue
        of_index = subject.json(index).get("weight_map")
        if not isinstance(of_index, dict):
            return []
        named = {name for name in of_index.values() if isinstance(name, str)}
        plain = {name for name in named if PurePosixPath(name).name == name}
        if missing := sorted(plain - present) + sorted(named - plain):
            # A repository may keep the index of a format whose files it dropped.
            suffix = ".safetensors" if "safetensors" in index else ".bin"
            if len(missing) < len(named) or not subject.paths(".safetensors", ".bin"):
                return missing
            if any(path.endswith(suffix) for path in present):
                return []
            continue
        return []
    return []
