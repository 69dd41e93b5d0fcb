"""What removing folders gives back to the disk."""

import os
from pathlib import Path


class FreedBytes:
    """Counts over several folders that go together.

    Blocks that a name elsewhere holds (a hard link, as of adopted models) give nothing; those of a
    file with several links inside the folders count once, with the folder that holds the last.
    """

    def __init__(self) -> None:
        self._links: dict[tuple[int, int], int] = {}

    def add(self, folder: Path) -> int:
        """What removing this one too gives back. Files that go meanwhile, and folders that cannot
        be read, count as nothing."""
        freed = 0
        for place, _, names in os.walk(folder):
            for name in names:
                try:
                    found = os.lstat(os.path.join(place, name))  # noqa: PTH118 (thousands of files)
                except OSError:
                    continue
                if found.st_nlink > 1:
                    key = found.st_dev, found.st_ino
                    self._links[key] = seen = self._links.get(key, 0) + 1
                    if seen < found.st_nlink:
                        continue
                freed += found.st_blocks * 512
        return freed
