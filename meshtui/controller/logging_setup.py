"""The controller's log: one file of bounded size, private to the user."""

import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path

_MAX_BYTES = 2 * 1024 * 1024
_OLD_FILES = 2


class _PrivateFile(RotatingFileHandler):
    """Every file that it opens is readable to the user only."""

    def _open(self):  # type: ignore[no-untyped-def]
        os.close(os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        return super()._open()


def log_to(path: Path) -> None:
    """Sends everything from INFO upwards there; libraries from WARNING upwards."""
    handler = _PrivateFile(path, maxBytes=_MAX_BYTES, backupCount=_OLD_FILES, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("meshtui").setLevel(logging.INFO)
    # A client that goes away in the middle of an answer is no news.
    logging.getLogger("aiohttp.server").setLevel(logging.ERROR)
