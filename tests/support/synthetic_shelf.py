"""Shelves of thousands of models with next to no content, made fast: the files are as the store
and the Hub's client leave them, and hard links of a few."""

import hashlib
import json
import os
from pathlib import Path

from meshtui.cache.metadata import new_metadata, write_metadata
from meshtui.cache.names import folder_name
from meshtui.cache.store import METADATA, MODEL
from meshtui.domain.model_ref import ModelRef
from tests.support.models import files

TASKS = ("text-generation", "feature-extraction", "text-classification", "text-to-image")


def fill_cache(root: Path, count: int) -> list[ModelRef]:
    """`count` entries of a managed cache."""
    content = _prototypes(root.parent / "prototypes", files(README__md=b"# Model"))
    refs = []
    for number in range(count):
        ref = ModelRef(f"org{number % 97}/model-{number}")
        folder = root / folder_name(ref)
        (folder / MODEL).mkdir(parents=True)
        metadata = new_metadata(
            ref,
            commit_hash=f"{number:040x}",
            download_date=1_700_000_000_000 + number,
            downloaded_by="ana",
            last_dss_usage=1_710_000_000_000 + number,
            pipeline_name=TASKS[number % len(TASKS)],
            library_name="transformers",
            size_in_bytes=number * 1_000_003,
            tags=("safetensors", "license:mit", "text-generation-inference"),
        )
        (folder / METADATA).write_bytes(write_metadata(metadata))
        for name, source in content.items():
            os.link(source, folder / MODEL / name)
        refs.append(ref)
    return refs


def fill_hub_cache(root: Path, count: int, files_each: int = 10) -> None:
    """`count` repositories of the standard Hugging Face cache, each with one snapshot of its
    default branch."""
    content = files()
    content |= {f"extra-{number}.json": b"{}" for number in range(files_each - len(content))}
    sources = _prototypes(root.parent / "blobs-of-all", content)
    for number in range(count):
        repo = root / f"models--org{number % 97}--model-{number}"
        commit = f"{number:040x}"
        snapshot = repo / "snapshots" / commit
        for folder in (snapshot, repo / "refs", repo / "blobs"):
            folder.mkdir(parents=True)
        (repo / "refs" / "main").write_text(commit)
        for name, source in sources.items():
            blob = blob_name(name, content[name] + name.encode())
            os.link(source, repo / "blobs" / blob)
            (snapshot / name).symlink_to(f"../../blobs/{blob}")


def fill_hub_repo(
    root: Path, model: str, content: dict[str, bytes], *, commit: str = "c" * 40, ref: str = "main"
) -> Path:
    """One repository with its content; gives the snapshot's folder."""
    repo = root / f"models--{model.replace('/', '--')}"
    snapshot = repo / "snapshots" / commit
    (repo / "blobs").mkdir(parents=True, exist_ok=True)
    snapshot.mkdir(parents=True)
    if ref:
        (repo / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (repo / "refs" / ref).write_bytes(os.fsencode(commit))
    for path, data in content.items():
        blob = blob_name(path, data)
        (repo / "blobs" / blob).write_bytes(data)
        (snapshot / path).parent.mkdir(parents=True, exist_ok=True)
        up = "../" * (2 + path.count("/"))
        (snapshot / path).symlink_to(f"{up}blobs/{blob}")
    return snapshot


def list_tree(snapshot: Path, content: dict[str, bytes]) -> None:
    """Writes the list of the commit's files, as the Hub's client keeps it."""
    listed: dict[str, dict[str, object]] = {}
    for path, data in content.items():
        listed[path] = {"size": len(data), "blob_id": git_sha1(data)}
        if _is_large(path):
            listed[path] |= {"lfs_sha256": hashlib.sha256(data).hexdigest(), "lfs_size": len(data)}
    trees = snapshot.parent.parent / "trees"
    trees.mkdir(exist_ok=True)
    document = {"format_version": 1, "files": listed}
    (trees / f"{snapshot.name}.json").write_text(json.dumps(document))


def blob_name(path: str, data: bytes) -> str:
    """As the Hub names content: SHA-256 of large files, git's SHA-1 of others."""
    return hashlib.sha256(data).hexdigest() if _is_large(path) else git_sha1(data)


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".bin"))


def _prototypes(folder: Path, content: dict[str, bytes]) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in content}
