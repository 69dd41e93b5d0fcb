"""What was read of models on the Hub, kept on disk, so that asking again costs one short answer.

One file for each model, revision, Hub and token; the names are hashes, so that a folder of them
tells nothing. What cannot be read or written counts as not kept.
"""

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

import msgspec

from meshtui.domain.errors import ErrorInfo
from meshtui.domain.model_ref import ModelRef
from meshtui.hub.model_files import HubModel

# Headers of large models take megabytes; a few hundred models have room.
_MOST_BYTES = 512 * 1024 * 1024
_MOST_FILE_BYTES = 256 * 1024 * 1024


class HeaderText(msgspec.Struct, frozen=True):
    """The JSON of a safetensors header (empty where it has none that can be: `problem`)."""

    text: bytes
    problem: str = ""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A model on the Hub without its weights.

    `etag` is that of the answer about the model. `texts` are small files by name, `told` what the
    Hub says of some of them to everybody, `unreadable` why others did not come; `headers` are
    those of safetensors files by path, not all of them where it is not `complete`. `refusal` is
    why the Hub gives no content although it tells of the model. `checked_at` is when the Hub was
    asked last; `problem` why it could not be asked again since, where what was kept stands in.
    """

    model: HubModel
    etag: str | None = None
    texts: dict[str, bytes] = {}
    told: dict[str, bytes] = {}
    unreadable: dict[str, str] = {}
    headers: dict[str, HeaderText] = {}
    complete: bool = True
    refusal: ErrorInfo | None = None
    checked_at: float = 0.0
    problem: str | None = None


class Looks:
    """The folder that holds them. Methods block for as long as the disk does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Look | None:
        path = self._folder / key
        try:
            if path.stat().st_size > _MOST_FILE_BYTES:
                return None
            return msgspec.msgpack.decode(path.read_bytes(), type=Look)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def put(self, key: str, look: Look) -> None:
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside = self._folder / f".{key}.{secrets.token_hex(4)}"
            try:
                opened = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(opened, "wb") as file:
                    file.write(msgspec.msgpack.encode(look))
                beside.rename(self._folder / key)
            finally:
                beside.unlink(missing_ok=True)
            self._shrink()

    def _shrink(self) -> None:
        """The oldest go where they are too much together."""
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    stat = entry.stat(follow_symlinks=False)
                    found.append((stat.st_mtime, stat.st_size, entry.path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= _MOST_BYTES:
                return
            with contextlib.suppress(OSError):
                Path(path).unlink()
                total -= size


def key_of(ref: ModelRef, endpoint: str, token: str | None) -> str:
    """The name under which a look is kept: another token may see something else."""
    said = "\0".join((endpoint, ref.model_id, ref.revision or "", token or ""))
    return hashlib.sha256(said.encode()).hexdigest()[:40]
