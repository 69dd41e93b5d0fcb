"""What the app remembers from one day to the next: the theme, the prompt being written, and what
was checked.

Small, private and replaceable: a file that cannot be read counts as absent.
"""

import os
from pathlib import Path

import msgspec
from platformdirs import PlatformDirs


class Memory(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`user` None: nothing was ever written. `checked` are the models that were checked last,
    the newest first."""

    theme: str | None = None
    connection: str | None = None
    model: str | None = None
    system: str = ""
    user: str | None = None
    parameters: dict[str, str] = {}
    chat: bool = False
    checked: list[str] = []


def memory_path() -> Path:
    return Path(PlatformDirs("meshtui", appauthor=False).user_state_dir) / "workstation.json"


def recall() -> Memory:
    try:
        return msgspec.json.decode(memory_path().read_bytes(), type=Memory)
    except (OSError, msgspec.MsgspecError):
        return Memory()


def remember(memory: Memory) -> None:
    """Writes atomically, readable by the user only; raises `OSError`."""
    path = memory_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(memory))
    temporary.replace(path)
