"""Reads what uv and pip print when no terminal listens, as steps and fractions."""

import re
from typing import Protocol

import msgspec

_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_SIZE = r"\((?P<number>[\d.]+) ?(?P<unit>[kKMG]?i?B)\)"


class Progress(msgspec.Struct, frozen=True):
    """A step in a few words, and how much of it is done (None: nothing honest can be said)."""

    step: str
    fraction: float | None = None


class ProgressReader(Protocol):
    def feed(self, line: str) -> Progress | None:
        """The new state of affairs, if the line tells one."""
        ...


class UvReader:
    """uv announces each larger download with its size when it starts, about fifty at once, and
    says when it is complete, so the fraction is that of completed bytes: it never promises."""

    _ANNOUNCED = re.compile(rf"Downloading (?P<name>\S+) {_SIZE}")
    _COMPLETED = re.compile(r" *Downloaded (?P<name>\S+)")
    _SUMMARY = re.compile(r"(?P<what>Resolved|Prepared|Installed) (?P<count>\d+) packages?")

    def __init__(self) -> None:
        self._announced: dict[str, int] = {}
        self._completed: set[str] = set()
        self._fraction = 0.0

    def feed(self, line: str) -> Progress | None:
        if found := self._ANNOUNCED.match(line):
            self._announced[found["name"]] = _size_bytes(found)
        elif found := self._COMPLETED.match(line):
            self._completed.add(found["name"])
        elif found := self._SUMMARY.match(line):
            return self._summary(found["what"], found["count"])
        elif line.lstrip().startswith("Building "):
            return Progress(line.strip().partition(" @ ")[0], self._fraction or None)
        else:
            return None
        total = sum(self._announced.values())
        done = sum(size for name, size in self._announced.items() if name in self._completed)
        # A late announcement adds to the total; what was shown is not taken back.
        self._fraction = max(self._fraction, done / total if total else 0.0)
        return Progress(
            f"Downloaded {len(self._completed)} of {len(self._announced)} large packages, "
            f"{format_bytes(done)} of {format_bytes(total)}",
            self._fraction,
        )

    @staticmethod
    def _summary(what: str, count: str) -> Progress:
        match what:
            case "Resolved":
                return Progress(f"Fetching what is missing of {count} packages")
            case "Prepared":
                return Progress(f"Putting {count} packages in place")
            case _:
                return Progress(f"Installed {count} packages", 1.0)


class PipReader:
    """pip downloads one file after the other and does not know the total beforehand; from
    version 24.1 on it tells how far the current one is."""

    _COLLECTING = re.compile(r"\s*Collecting (?P<name>[^\s=<>~!;(\[]+)")
    _DOWNLOADING = re.compile(rf"\s*Downloading (?P<name>\S+?)-\d.* {_SIZE}")
    _CACHED = re.compile(r"\s*Using cached \S+")
    _BYTES = re.compile(r"Progress (?P<done>\d+) of (?P<total>\d+)")

    def __init__(self) -> None:
        self._current = ""
        self._files = 0
        self._bytes = 0

    def feed(self, line: str) -> Progress | None:
        if found := self._BYTES.match(line):
            done, total = int(found["done"]), int(found["total"])
            return self._state(f"{self._current}: {format_bytes(done)} of {format_bytes(total)}")
        if found := self._DOWNLOADING.match(line):
            self._current = found["name"]
            self._files += 1
            size = _size_bytes(found)
            self._bytes += size
            return self._state(f"{self._current} ({format_bytes(size)})")
        if self._CACHED.match(line):
            self._files += 1
            return None
        if found := self._COLLECTING.match(line):
            return Progress(f"Resolving {found['name']}")
        if line.startswith("Installing collected packages:"):
            count = line.count(",") + 1
            return Progress(f"Putting {count} packages in place")
        if line.startswith("Successfully installed"):
            return Progress(f"Installed {len(line.split()) - 2} packages", 1.0)
        return None

    def _state(self, current: str) -> Progress:
        return Progress(
            f"Fetching file {self._files}, {format_bytes(self._bytes)} so far: {current}"
        )


def _size_bytes(found: re.Match[str]) -> int:
    return round(float(found["number"]) * _UNITS[found["unit"]])


def format_bytes(count: float) -> str:
    """Decimal units, as disks are sold and `hf` prints them."""
    unit = "B"
    for larger in ("kB", "MB", "GB"):
        if count < 1000:
            break
        count, unit = count / 1000, larger
    exact = unit == "B" or count >= (100 if unit == "GB" else 10)
    return f"{count:.0f} {unit}" if exact else f"{count:.1f} {unit}"
