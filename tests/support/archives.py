"""Archives as others make them, and as nobody should."""

import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from meshtui.cache.metadata import new_metadata, write_metadata
from meshtui.domain.model_ref import ModelRef
from tests.support.models import files

ROOT = "some-folder"


def metadata(model: str = "acme/x", **changes: Any) -> bytes:
    """`model_metadata.json`; a change to None takes a field away."""
    content = json.loads(write_metadata(new_metadata(ModelRef.parse(model))))
    content |= changes
    return json.dumps({key: value for key, value in content.items() if value is not None}).encode()


def entry(root: str = ROOT, **more: bytes) -> dict[str, bytes]:
    """The members of a sound archive, metadata first; `more` are files of the model."""
    prefix = f"{root}/" if root else ""
    return {
        f"{prefix}model_metadata.json": metadata(),
        **{f"{prefix}model/{name}": data for name, data in files(**more).items()},
    }


def zip_file(
    path: Path,
    members: Mapping[str, bytes] | Iterable[tuple[str | zipfile.ZipInfo, bytes]],
    method: int = zipfile.ZIP_STORED,
) -> Path:
    pairs = members.items() if isinstance(members, Mapping) else members
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in pairs:
            archive.writestr(name, data, method)
    return path


def tar_file(
    path: Path,
    members: Mapping[str, bytes] | Iterable[tuple[str | tarfile.TarInfo, bytes]],
    mode: str = "w",
) -> Path:
    pairs = members.items() if isinstance(members, Mapping) else members
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in pairs:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            if info.isreg():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def unpacked(folder: Path, members: Mapping[str, bytes]) -> Path:
    """The same as a folder."""
    for name, data in members.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
