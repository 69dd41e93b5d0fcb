"""Fetches a model from the Hub into the volume of models, once. Runs in a pod, beside
huggingface_hub alone.

`MESHTUI_MODEL`, `MESHTUI_REVISION` (may be empty) and `MESHTUI_TARGET` say what and where to. The
folder has the layout of the workstation's cache, appears in one step when every file of it was
hashed, and grows in `.staging/` beside it, also over several attempts. Several pods may ask for
the same one: one of them fetches it.
"""

import errno
import fcntl
import fnmatch
import hashlib
import json
import os
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MODEL, METADATA, CHECKSUMS = "model", "model_metadata.json", "checksums.json"
# Weights in formats that the engine does not load.
NOT_NEEDED = ["*.msgpack", "*.h5", "*.ot", "*.onnx", "*.onnx_data", "original/*", "openvino/*"]
# How the process ends; `config/kubernetes/defaults.toml` says after which a Job is not tried again.
BAD_TOKEN, GATED, NOT_THERE, NO_ROOM, UNREACHABLE, DAMAGED = 64, 65, 66, 67, 68, 69
_TELL_S = 2.0
_TOGETHER = 4
# Kubernetes hands on what stands there; it makes the file.
_LAST_WORDS = Path("/dev/termination-log")


class Failed(Exception):
    """Ends the process with that status, and words for a person."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


def main() -> None:
    os.umask(0o002)  # others of the volume's group go on where this one ends
    model, target = os.environ["MESHTUI_MODEL"], Path(os.environ["MESHTUI_TARGET"])
    revision = os.environ.get("MESHTUI_REVISION") or None
    locks = target.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / target.name).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            print("This volume knows no locks: going on without.", file=sys.stderr)
        moved = 0
        if (target / CHECKSUMS).exists():
            print(f"{model} is in {target}.")
        else:
            moved = _fetch(model, revision, target)
            print(f"{model} is complete.")
        _say_last(target, moved)


def _fetch(model: str, revision: str | None, target: Path) -> int:
    """How many bytes came."""
    from huggingface_hub import HfApi

    # Not snapshot_download: where the Hub does not answer it is content with any folder.
    info = HfApi().model_info(model, revision=revision, files_metadata=True)
    files = [file for file in info.siblings or [] if not _is_needless(file.rfilename)]
    if not files:
        raise Failed(NOT_THERE, f"{model} has no files on the Hub that an engine loads.")
    stage = target.parent / ".staging" / f"{target.name}.partial"
    folder = stage / MODEL
    folder.mkdir(parents=True, exist_ok=True)
    total, before = sum(file.size or 0 for file in files), _size(folder)
    done: list[str] = []
    ended = threading.Event()
    telling = threading.Thread(target=_tell, args=(folder, done, len(files), total, ended))
    telling.start()
    try:
        with ThreadPoolExecutor(_TOGETHER) as pool:
            coming = [pool.submit(_fetch_file, model, info.sha, file, folder) for file in files]
            try:
                for file, one in zip(files, coming, strict=True):
                    one.result()
                    done.append(file.rfilename)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        ended.set()
        telling.join()
    moved = max(0, total - before)
    # What the library notes for itself is no part of the model.
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    print(f"Hashing {len(files)} files.", flush=True)
    digests = {file.rfilename: _checked(folder / file.rfilename, file) for file in files}
    _write(stage / METADATA, _metadata(model, revision, info.sha, total))
    _write(stage / CHECKSUMS, {"algorithm": "sha256", "files": dict(sorted(digests.items()))})
    os.sync()
    if target.exists():  # of an attempt that did not count
        shutil.rmtree(target)
    stage.rename(target)
    return moved


def _fetch_file(model: str, revision: str | None, file: Any, folder: Path) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download(model, file.rfilename, revision=revision, local_dir=folder)


def _checked(path: Path, file: Any) -> str:
    """The SHA-256 of a file that is what the Hub promised; one that is not goes away, so that it
    comes anew."""
    found = hashlib.sha256()
    size = 0
    with path.open("rb") as opened:
        while block := opened.read(1 << 20):
            found.update(block)
            size += len(block)
    promised = file.lfs.sha256 if file.lfs else None
    if (file.size is not None and size != file.size) or promised not in (None, found.hexdigest()):
        path.unlink()
        raise Failed(DAMAGED, f"{file.rfilename} is not what the Hub promised: it arrived damaged.")
    return found.hexdigest()


def _tell(folder: Path, done: list[str], files: int, total: int, ended: threading.Event) -> None:
    """How far it is, for whoever reads the log."""
    while True:
        over = ended.wait(_TELL_S)
        came = min(_size(folder), total)
        print(f"{len(done)} of {files} files, {came} of {total} bytes", flush=True)
        if over:
            return


def _size(folder: Path) -> int:
    total = 0
    for at, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(at, name).stat().st_size
            except OSError:
                continue  # it has just got its name
    return total


def _metadata(model: str, revision: str | None, commit: str | None, size: int) -> dict[str, Any]:
    return {
        "commitHash": commit,
        "downloadDate": int(time.time() * 1000),
        "modelDefinition": {"key": f"hf@{model}" + (f"@{revision}" if revision else "")},
        "sizeInBytes": size,
        "version": 0,
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2))


def _say_last(target: Path, moved: int) -> None:
    files = json.loads((target / CHECKSUMS).read_bytes())["files"]
    lines = "".join(f"{digest} {path}\n" for path, digest in sorted(files.items()))
    digest = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
    if _LAST_WORDS.exists():
        _LAST_WORDS.write_text(json.dumps({"digest": digest, "moved_bytes": moved}))


def _is_needless(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in NOT_NEEDED)


def _explained(error: Exception) -> Failed | None:
    """What ended it, where that is known."""
    from huggingface_hub import errors

    model = os.environ["MESHTUI_MODEL"]
    if isinstance(error, Failed):
        return error
    if isinstance(error, errors.GatedRepoError):
        return Failed(GATED, f"{model} is gated: its terms are to be accepted first. {error}")
    if isinstance(error, (errors.RepositoryNotFoundError, errors.RevisionNotFoundError)):
        return Failed(NOT_THERE, f"The Hub has no such model, or the token may not see it. {error}")
    if isinstance(error, errors.HfHubHTTPError):
        status = getattr(error.response, "status_code", 0)
        refused = status in (401, 403)
        return Failed(BAD_TOKEN if refused else UNREACHABLE, f"The Hub answers {status}. {error}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Failed(NO_ROOM, f"The volume has no room for {model}: {error}")
    network = type(error).__module__.startswith(("httpx", "httpcore", "requests"))
    known = (ConnectionError, TimeoutError, errors.LocalEntryNotFoundError)
    if network or isinstance(error, known):
        return Failed(UNREACHABLE, f"The Hub does not answer: {type(error).__name__}: {error}")
    return None


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        failed = _explained(error)
        if failed is None:
            raise
        print(" ".join(str(failed).split()), file=sys.stderr)
        sys.exit(failed.status)
