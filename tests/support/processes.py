"""What is left of servers in the process table."""

from pathlib import Path


def marked(server: str) -> list[int]:
    """Live processes whose environment carries the marker of a server (of any start)."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            entries = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(entry.startswith(f"MESHTUI_SERVER={server}:".encode()) for entry in entries):
            found.append(int(process.name))
    return found


def is_running(pid: int) -> bool:
    """Whether there is such a process and it is no zombie."""
    try:
        stat = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def naming(text: str) -> list[int]:
    """Live processes with the text in their command line."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in words and is_running(int(process.name)):
                found.append(int(process.name))
    return found
