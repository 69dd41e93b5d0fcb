"""File systems for tests: small ones that fill up, read-only ones, those that clone or overlay."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

needs_mounts = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


@contextmanager
def mounted(place: Path, *words: str) -> Iterator[Path]:
    """`mount WORDS PLACE`, for as long as the context lasts."""
    place.mkdir(parents=True, exist_ok=True)
    _run("mount", *words, str(place))
    try:
        yield place
    finally:
        # Lazily: what still has a file open there has failed already, and need not hang this.
        _run("umount", "--lazy", str(place))


def small_disk(place: Path, size_bytes: int) -> AbstractContextManager[Path]:
    """An empty disk of that size."""
    return mounted(place, "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs")


def fill(disk: Path) -> Path:
    """Takes all room that is left there; gives the file that has it."""
    filler = disk / "filler"
    block = bytes(1 << 20)
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(block)
            if os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize < len(block):
                block = bytes(4096)
    return filler


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """What is mounted there cannot be written to in the context."""
    _run("mount", "-o", "remount,ro", str(place))
    try:
        yield
    finally:
        _run("mount", "-o", "remount,rw", str(place))


@contextmanager
def overlay(lower: Path, work: Path) -> Iterator[Path]:
    """What is in `lower`, as it is in a container whose image it came with. `work` is an empty
    folder."""
    with small_disk(work, 50_000_000):
        upper, inner = work / "upper", work / "inner"
        upper.mkdir()
        inner.mkdir()
        options = f"lowerdir={lower},upperdir={upper},workdir={inner}"
        with mounted(work / "merged", "-t", "overlay", "-o", options, "overlay") as place:
            yield place


def sharing_blocks() -> list[str]:
    """The file systems that can be made here and share blocks between files."""
    known = Path("/proc/filesystems").read_text().split()
    made = {system for system in ("xfs", "btrfs") if shutil.which(f"mkfs.{system}")}
    return [system for system in sorted(made) if system in known and os.geteuid() == 0]


@contextmanager
def formatted(place: Path, image: Path, size_bytes: int, system: str) -> Iterator[Path]:
    """A disk in the file `image` with that file system."""
    with image.open("wb") as file:
        file.truncate(size_bytes)
    _run(f"mkfs.{system}", "-q", str(image))
    with mounted(place, "-o", "loop", str(image)):
        yield place


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
