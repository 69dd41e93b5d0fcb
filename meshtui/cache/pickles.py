"""What a pickle would import when it is loaded, found without loading it.

The opcodes are walked (`pickletools.genops`); names that weights need are allowed, every other one
is reported. A list of what is allowed, not of what is known to be bad: the latter always leak.
"""

import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from meshtui.domain.text import one_line

# A pickle of weights holds names and shapes; the numbers lie beside it in a torch archive. Older
# torch files and joblib's hold the numbers as well: only so much of them is walked.
_MOST_BYTES = 64_000_000
_MOST_OPCODES = 5_000_000
_MOST_STRING_CHARS = 300
_ALLOWED = {
    "collections": {"OrderedDict"},
    "torch": {
        "FloatStorage", "HalfStorage", "BFloat16Storage", "DoubleStorage", "LongStorage",
        "IntStorage", "ShortStorage", "CharStorage", "ByteStorage", "BoolStorage", "Size",
        "float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8",
        "bool", "device", "Tensor",
    },
    "torch._utils": {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"},
    "torch.storage": {"UntypedStorage", "TypedStorage"},
    "torch.nn.parameter": {"Parameter"},
    "torch.serialization": {"_get_layout"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"scalar", "_reconstruct"},
    "numpy._core.multiarray": {"scalar", "_reconstruct"},
    "_codecs": {"encode"},
}  # fmt: skip


def foreign_imports(path: Path) -> list[str]:
    """The imports of a pickle file or torch archive that weights do not need, as `module.name`,
    sorted. `?` stands for one that cannot be told. Raises `OSError`; blocks."""
    found: set[str] = set()
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    if member.filename.endswith(".pkl"):
                        with archive.open(member) as stream:
                            found.update(_imports(stream))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError):
            found.add("?")
    else:
        with path.open("rb") as file:
            found.update(_imports(file))
    return sorted(found)


def _imports(stream: IO[bytes]) -> Iterator[str]:
    """Of all pickles that stand one behind the other in a stream."""
    data = io.BytesIO(stream.read(_MOST_BYTES))
    while data.read(1):
        data.seek(-1, io.SEEK_CUR)
        start = data.tell()
        try:
            yield from _of_one(data)
        except Exception:
            # What does not parse as a pickle is numbers (behind the first one), or hides
            # something (at the very beginning).
            if start == 0:
                yield "?"
            return


def _of_one(data: io.BytesIO) -> Iterator[str]:
    """`pushed` are the strings that the last opcodes put on the stack, one behind the other: what
    stands there after any other opcode is not guessed at."""
    pushed: list[str] = []
    memo: dict[int, str | None] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if count > _MOST_OPCODES:
            yield "?"
            return
        match opcode.name:
            case "GLOBAL" | "INST":
                module, _, name = str(argument).partition(" ")
                yield from _judged(module, name)
            case "STACK_GLOBAL":
                yield from _judged(pushed[-2], pushed[-1]) if len(pushed) > 1 else ("?",)
            case "EXT1" | "EXT2" | "EXT4":
                yield "?"
            case "MEMOIZE":
                memo[len(memo)] = pushed[-1] if pushed else None
                continue
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                memo[int(argument or 0)] = pushed[-1] if pushed else None
                continue
            case "BINGET" | "LONG_BINGET" | "GET":
                text = memo.get(int(argument or 0))
                pushed = [*pushed[-1:], text] if text is not None else []
                continue
            case _ if isinstance(argument, str) and "UNICODE" in opcode.name:
                pushed = [*pushed[-1:], argument]
                continue
        pushed = []


def _judged(module: str, name: str) -> Iterator[str]:
    if name not in _ALLOWED.get(module, ()):
        yield one_line(f"{module}.{name}", _MOST_STRING_CHARS)
