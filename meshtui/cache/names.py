"""Keys of cached models and the folder names that stand for them.

`hf@org/name[@revision]` is the key that archives carry (`modelDefinition.key`). A folder's name is
its part behind `hf@` with every UTF-8 byte outside `[A-Za-z0-9.-]` written as `_` and two
lower-case hexadecimal digits, so `_` itself is `_5f` and the name can be read back. A leading `.`
is escaped too: such folders would be hidden, and are our private ones.

A folder whose name stands for no model is called by its path from the cache, `./name`, which no
model can be called.
"""

import contextlib
import re

from meshtui.domain.errors import InvalidInput
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line

KEY_PREFIX = "hf@"
MAX_NAME_BYTES = 255
# Ids have at most 96 characters and revisions 255; more is not worth quoting back.
_MAX_KEY_CHARS = 400

_HERE = "./"

# What is not plain; and a dot where it would hide the folder.
_OTHER = re.compile(rb"[^A-Za-z0-9.-]|\A\.")
_ESCAPE = re.compile(rb"_([0-9a-f]{2})")
_ESCAPED = re.compile(r"(?:[A-Za-z0-9.-]|_[0-9a-f]{2})+")


def escape(text: str) -> str:
    """The folder name for a text; raises `InvalidInput` where it is empty or too long."""
    data = text.encode("utf-8", "surrogateescape")
    name = _OTHER.sub(lambda found: b"_%02x" % found[0][0], data).decode("ascii")
    if not name or len(name) > MAX_NAME_BYTES:
        raise InvalidInput(f"A model's folder cannot be named for {text[:80]!r}.")
    return name


def unescape(name: str) -> str:
    """What a folder's name stands for; raises `InvalidInput` for names that `escape` never
    gives."""
    if _ESCAPED.fullmatch(name):
        data = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), name.encode())
        text = data.decode("utf-8", "surrogateescape")
        if escape(text) == name:
            return text
    raise InvalidInput(f"{name[:80]!r} is not the name of a cached model's folder.")


def folder_name(ref: ModelRef) -> str:
    """`sentence-transformers_2fall-MiniLM-L6-v2` for that model."""
    return escape(str(ref))


def called(name: str) -> str:
    """What lists call a folder: the model that its name stands for, or `./name`, in which what
    cannot be shown as it is, is escaped as in Python. No two folders are called the same."""
    with contextlib.suppress(InvalidInput):
        text = unescape(name)
        if str(ModelRef.parse(text)) == text:
            return text
    if one_line(name) == name and "\\" not in name:
        return f"{_HERE}{name}"
    escaped = name.encode("unicode_escape").decode("ascii").replace(" ", r"\x20")
    return f"{_HERE}{escaped}"


def folder_called(name: str) -> str:
    """The folder of what is `called` so, or would be; raises `InvalidInput`."""
    if not name.startswith(_HERE):
        return folder_name(ModelRef.parse(name))
    folder = name.removeprefix(_HERE).rstrip("/")
    if "\\" in folder:
        try:
            folder = folder.encode("ascii").decode("unicode_escape")
        except UnicodeError:
            folder = ""
    if not folder or folder.startswith(".") or "/" in folder or "\0" in folder:
        raise InvalidInput(f"{one_line(name, 80)!r} is no folder of the model cache.")
    return folder


def key_of(ref: ModelRef) -> str:
    """`hf@org/name[@revision]`."""
    return f"{KEY_PREFIX}{ref}"


def ref_of(key: str) -> ModelRef:
    """The model of a key; raises `InvalidInput`. Ids cannot hold `@`, revisions may hold `/`."""
    if not key.startswith(KEY_PREFIX) or len(key) > _MAX_KEY_CHARS:
        raise InvalidInput(f"{key[:80]!r} is not a model's key.", hint="Keys begin with hf@.")
    return ModelRef.parse(key.removeprefix(KEY_PREFIX))
