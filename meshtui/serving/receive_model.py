"""Takes a model in that somebody sends, into the volume of models. Runs in a pod, beside Python
alone (3.10 or newer).

`hold` keeps the pod there for as long as somebody sends; `receive` does what it is asked, line by
line of JSON on standard input, and answers so on standard output:

`begin`: the model's lock is taken (others wait for it), and what is there is told;
`put`: a file, whose bytes follow; what an earlier attempt left of it is kept;
`commit`: the model appears under its name, in one step;
`look`: what a folder holds.

A model grows in `.staging/NAME.partial`, with the layout of the workstation's cache.
"""

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

BLOCK_BYTES = 1 << 20
FLUSH_BYTES = 16 << 20
STAGING, LOCKS, MODEL, CHECKSUMS = ".staging", ".locks", "model", "checksums.json"
# How often whoever sends hears that we are there, and how far.
TELL_S = 1.0
# An owner that died took its connections with it; the pod is then of no use to anybody.
IDLE_S = 120.0
# What a file system needs beside the files.
MARGIN_BYTES = 16 << 20
_F_SETPIPE_SZ = 1031
MOST_NAMES = 100
_CONFIG = {"config.json"}


class Refused(Exception):
    """An answer that is no success: its `error` is a word, other fields say more."""

    def __init__(self, error: str, **fields: object) -> None:
        super().__init__(error)
        self.answer = {"error": error, **fields}


class Receiver:
    """One connection. `root` is the volume's folder."""

    def __init__(
        self, root: Path, asked: "io.BufferedReader[io.FileIO]", answers: BinaryIO
    ) -> None:
        self._root = root
        self._asked = asked
        self._answers = answers
        self._telling = threading.Lock()
        self._going = {"path": "", "at": 0}
        self._held: IO[bytes] | None = None

    def run(self) -> None:
        """Until nobody asks any more."""
        threading.Thread(target=self._tell_that_we_are_here, daemon=True).start()
        while line := self._asked.readline():
            request = json.loads(line)
            try:
                answer = getattr(self, f"do_{request['do']}")(request)
            except Refused as refused:
                answer = refused.answer
            except OSError as error:
                answer = {"error": _word(error), "message": str(error)}
            self._tell(answer)
            # Bytes of a file that was refused half way may follow: they are no requests.
            if request["do"] == "put" and answer.get("error", "damaged") != "damaged":
                return

    def do_begin(self, request: dict[str, Any]) -> dict[str, Any]:
        name = _plain(request["name"])
        locks = self._root / LOCKS
        locks.mkdir(parents=True, exist_ok=True)
        self._lock(locks / name)
        entry, stage = self._root / name, self._stage(name)
        if _digest(entry) == request["digest"]:
            return {"state": "present"}
        have = {str(p.relative_to(stage)): p.stat().st_size for p in _files(stage)}
        wanted = request["files"]
        needed = sum(max(0, size - have.get(path, 0)) for path, size in wanted.items())
        found = os.statvfs(self._root)
        free = found.f_bavail * found.f_frsize
        if needed and needed + MARGIN_BYTES > free:
            raise Refused("no-room", free_bytes=free, needed_bytes=needed + MARGIN_BYTES)
        return {"state": "begun", "have": {p: s for p, s in have.items() if p in wanted}}

    def do_put(self, request: dict[str, Any]) -> dict[str, Any]:
        path = self._stage(_plain(request["name"])) / _below(request["path"])
        size, sha256 = request["size"], hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o664)
        with os.fdopen(handle, "r+b", buffering=0) as file:
            # A connection that broke may still have its end here.
            _flock(file)
            if os.fstat(handle).st_size > size:
                os.ftruncate(handle, 0)
            block = memoryview(bytearray(BLOCK_BYTES))
            at = 0
            while count := file.readinto(block):
                sha256.update(block[:count])
                at += count
                self._going = {"path": request["path"], "at": at}
            self._tell({"offset": at})
            flushed = at
            while at < size:
                count = self._asked.readinto1(block[: min(BLOCK_BYTES, size - at)])
                if not count:
                    raise SystemExit(1)
                _write_all(handle, block[:count])
                sha256.update(block[:count])
                at += count
                self._going = {"path": request["path"], "at": at}
                if at - flushed >= FLUSH_BYTES:
                    # Lets the disk begin, so that there is little left to wait for at the end.
                    os.posix_fadvise(handle, flushed, at - flushed, os.POSIX_FADV_DONTNEED)
                    flushed = at
            if sha256.hexdigest() != request["sha256"]:
                # What is wrong of it is not known: it has to come anew.
                os.ftruncate(handle, 0)
                raise Refused("damaged", path=request["path"])
        return {"done": request["path"]}

    def do_commit(self, request: dict[str, Any]) -> dict[str, Any]:
        name = _plain(request["name"])
        entry, stage, wanted = self._root / name, self._stage(name), request["files"]
        for path in list(_files(stage)):
            if str(path.relative_to(stage)) not in wanted:
                path.unlink()  # of another state of the model
        for file, size in wanted.items():
            if (stage / _below(file)).stat().st_size != size:
                raise Refused("damaged", path=file)
        # All at once: for the disk, many files are then little more than one.
        for path in _files(stage):
            _sync(path)
        for folder, _, _ in os.walk(stage):
            _sync(Path(folder))
        gone = self._root / STAGING / f"{name}.replaced"
        shutil.rmtree(gone, ignore_errors=True)
        if entry.exists():
            entry.rename(gone)
        stage.rename(entry)
        _sync(self._root)
        # Servers that have its files open keep them.
        shutil.rmtree(gone, ignore_errors=True)
        return {"done": name}

    def do_look(self, request: dict[str, Any]) -> dict[str, Any]:
        """The names in a folder, or at the top of the volume where there is no such folder."""
        folder = self._root / request["path"].lstrip("/")
        found = folder.is_dir()
        names = sorted(path.name for path in (folder if found else self._root).iterdir())
        shown = [name for name in names if not name.startswith(".")]
        return {"found": found, "top": [*shown[:MOST_NAMES], *_CONFIG.intersection(shown)]}

    def _stage(self, name: str) -> Path:
        return self._root / STAGING / f"{name}.partial"

    def _lock(self, path: Path) -> None:
        """Held until this connection ends."""
        self._held = path.open("ab")
        if not _flock(self._held, wait=False):
            self._tell({"waiting": True})
            _flock(self._held)

    def _tell(self, answer: dict[str, Any]) -> None:
        with self._telling:
            self._answers.write(json.dumps(answer).encode() + b"\n")
            self._answers.flush()

    def _tell_that_we_are_here(self) -> None:
        while True:
            time.sleep(TELL_S)
            self._tell({**self._going})


def hold() -> None:
    """Keeps the pod there while processes of `receive` run beside this one, the first of its
    container."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    idle_s = 0.0
    while idle_s < IDLE_S:
        time.sleep(1)
        pids = [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]
        others = [pid for pid in pids if int(pid) != os.getpid()]
        idle_s = 0.0 if others else idle_s + 1


def _digest(entry: Path) -> str | None:
    """What the files of a complete model are, in one word; None where there is none."""
    try:
        files = json.loads((entry / CHECKSUMS).read_bytes())["files"]
    except (OSError, ValueError, KeyError):
        return None
    if any(not (entry / MODEL / path).is_file() for path in files):
        return None
    lines = "".join(f"{digest} {path}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (Path(at, name) for at, _, names in os.walk(folder) for name in names)


def _flock(file: IO[bytes], *, wait: bool = True) -> bool:
    """False where another holds it and nobody is to wait. Some volumes know no locks: going on
    without them is better than not at all."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        print(f"This volume knows no locks ({error}).", file=sys.stderr)
    return True


def _write_all(handle: int, block: memoryview) -> None:
    while block:
        block = block[os.write(handle, block) :]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot
            raise
    finally:
        os.close(handle)


def _plain(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise Refused("invalid", message=f"{name!r} is no name of a model's folder")
    return name


def _below(path: str) -> Path:
    if path.startswith("/") or not all(part not in ("", ".", "..") for part in path.split("/")):
        raise Refused("invalid", message=f"{path!r} is no plain path")
    return Path(path)


def _word(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "no-room"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "not-allowed"
    return "failed"


def receive() -> None:
    os.umask(0o002)  # others of the volume's group go on where this one ends
    with contextlib.suppress(OSError):  # a smaller pipe is slower, that is all
        fcntl.fcntl(0, _F_SETPIPE_SZ, BLOCK_BYTES)
    root = Path(os.environ["MESHTUI_VOLUME"])
    asked = io.BufferedReader(io.FileIO(0, closefd=False))
    Receiver(root, asked, sys.stdout.buffer).run()


if __name__ == "__main__":
    hold() if sys.argv[1:] == ["hold"] else receive()
