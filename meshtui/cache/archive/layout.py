"""Where things stand in an entry: what each path of an archive is for."""

from enum import Enum, auto

from meshtui.cache.archive.names import Parts
from meshtui.cache.store import CHECKSUMS, METADATA, MODEL

# What `git clone` and download tools leave beside a model's files. It is no part of the model.
_TOOLS = (".git", ".cache")
_MACOS = "__MACOSX"


class Role(Enum):
    """What a member is for."""

    METADATA = auto()
    CHECKSUMS = auto()
    MODEL = auto()
    LEFT_OUT = auto()
    OTHER = auto()


def is_left_out(parts: Parts) -> bool:
    """Whether it belongs to other tools, whichever folder is the root."""
    if parts[:1] == (_MACOS,):
        return True
    return any(parts[at : at + 1] == (MODEL,) and parts[at + 1 : at + 2] == (tool,)
               for at in (0, 1) for tool in _TOOLS)  # fmt: skip


def may_be(parts: Parts, name: str) -> bool:
    """Whether it is a file of that name in a root folder, or beside all others."""
    return len(parts) <= 2 and parts[-1:] == (name,)


def role_of(parts: Parts, root: Parts) -> tuple[Role, str]:
    """What a path is for in an archive with that root folder (none: everything lies open), and
    its path below `model`."""
    inner = parts[len(root) :]
    if is_left_out(parts):
        return Role.LEFT_OUT, ""
    if parts[: len(root)] != root:
        return Role.OTHER, ""
    if inner == (METADATA,):
        return Role.METADATA, ""
    if inner == (CHECKSUMS,):
        return Role.CHECKSUMS, ""
    if inner[:1] == (MODEL,) and len(inner) > 1:
        return Role.MODEL, "/".join(inner[1:])
    return Role.OTHER, ""
