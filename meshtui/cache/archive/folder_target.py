"""An entry as a folder, on a disk that may be pulled out at any moment."""

import contextlib
import os
from pathlib import Path

from meshtui.cache.archive.packing import Fill, Packer
from meshtui.cache.archive.targets import OpenFile, part_of
from meshtui.cache.files import clear, remove, sync_folder
from meshtui.cache.replacing import exchange


class FolderTarget(Packer):
    """Grows under a hidden name. What an earlier attempt left there is compared, and only what
    differs is written. `names` are all files that will be added, below the folder; raises
    `OSError`."""

    def __init__(self, goal: Path, names: set[str]) -> None:
        self._goal = goal
        self._folder = part_of(goal)
        self._older = goal.with_name(f".{goal.name}.old")
        self._put_right()
        self._folder.mkdir(exist_ok=True)
        self._keep_only(names)

    def add(self, name: str, size_bytes: int, fill: Fill) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        at = 0

        def write(block: memoryview) -> None:
            nonlocal at
            file.write_at(at, block)
            at += len(block)

        with contextlib.closing(OpenFile(path)) as file:
            fill(write)
            file.finish(size_bytes)

    def seal(self) -> None:
        for root, _, _ in os.walk(self._folder):
            sync_folder(Path(root))

    def publish(self) -> list[Path]:
        if not self._goal.exists():
            self._folder.rename(self._goal)
        elif exchange(self._folder, self._goal):
            clear(self._folder)
        else:
            self._goal.rename(self._older)
            self._folder.rename(self._goal)
            clear(self._older)
        sync_folder(self._goal.parent)
        return [self._goal]

    def close(self) -> None:
        """No file is open between two."""

    def discard(self) -> None:
        clear(self._folder)

    def _put_right(self) -> None:
        """After an attempt that ended between two names."""
        if self._older.exists():
            if self._goal.exists():
                clear(self._older)
            else:
                self._older.rename(self._goal)

    def _keep_only(self, names: set[str]) -> None:
        """Removes what will not be written, and what is neither file nor folder."""
        folders = {str(parent) for name in names for parent in Path(name).parents}
        pending = [""]
        while pending:
            prefix = pending.pop()
            with os.scandir(self._folder / prefix) as entries:
                found = list(entries)
            for entry in found:
                name = f"{prefix}{entry.name}"
                if name in folders and entry.is_dir(follow_symlinks=False):
                    pending.append(f"{name}/")
                elif name not in names or not entry.is_file(follow_symlinks=False):
                    remove(Path(entry.path))
