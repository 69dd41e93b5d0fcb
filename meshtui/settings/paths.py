"""Where meshtui keeps what: the XDG folders, each made at its first use.

The environment variables of the XDG Base Directory Specification are honoured; `MESHTUI_CACHE`
and `MESHTUI_RUNTIMES` move the two large folders, `MESHTUI_SYSTEM_CONFIG` the file of the machine.
"""

import errno
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import PlatformDirs

from meshtui.domain.errors import MeshtuiError, NoRoom, Unavailable

_DIRS = PlatformDirs("meshtui", appauthor=False)


class UnsafeFolder(MeshtuiError):
    """A folder that must be private to this user is not."""

    code = "unsafe-folder"


def config_dir() -> Path:
    """`config.toml` and the folders of objects (`connections/`, `runtimes/`, ...)."""
    return Path(_DIRS.user_config_dir)


def system_config_path() -> Path:
    """What the administrators of this machine have settled for all its users."""
    return Path(os.environ.get("MESHTUI_SYSTEM_CONFIG") or "/etc/meshtui/config.toml")


def state_dir() -> Path:
    """Logs, run history and the server registry; private to the user."""
    return _private(Path(_DIRS.user_state_dir))


def models_dir() -> Path:
    """The managed cache."""
    override = os.environ.get("MESHTUI_CACHE")
    return _made(Path(override).expanduser() if override else Path(_DIRS.user_cache_dir) / "models")


def looks_dir() -> Path:
    """What was read of models on the Hub; private, as some of it took a token to see."""
    return _private(Path(_DIRS.user_cache_dir) / "looks")


def runtimes_dir() -> Path:
    """Built runtimes: virtual environments of several GB, so neither cache nor state."""
    override = os.environ.get("MESHTUI_RUNTIMES")
    return _made(
        Path(override).expanduser() if override else Path(_DIRS.user_data_dir) / "runtimes"
    )


def servers_dir() -> Path:
    """One folder a server: its specification, log and supervisor's record."""
    return _private(state_dir() / "servers")


def pods_dir() -> Path:
    """One folder a server on a cluster: what is known of it, and its log."""
    return _private(state_dir() / "pods")


def socket_path() -> Path:
    """The controller's Unix socket, in a folder that only this user can enter."""
    # Which folder it falls back to is nothing to be told in the middle of a screen.
    with warnings.catch_warnings(), _explained("of the controller's socket"):
        warnings.simplefilter("ignore")
        folder = Path(_DIRS.user_runtime_dir)
        # platformdirs passes over a runtime folder that others can enter, so it is private too.
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _private(folder) / "controller.sock"


def controller_log_path() -> Path:
    return state_dir() / "controller.log"


def history_path() -> Path:
    return state_dir() / "history.sqlite3"


def _made(folder: Path) -> Path:
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _private(folder: Path) -> Path:
    """The folder with mode 0700, owned by this user; raises `UnsafeFolder` if it cannot be."""
    with _explained(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise UnsafeFolder(
                f"{folder} belongs to another user.",
                hint="Set XDG_RUNTIME_DIR and XDG_STATE_HOME to folders of your own.",
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
    return folder


@contextmanager
def _explained(folder: object) -> Iterator[None]:
    """A folder that the system refuses, as an error for people."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (NoRoom if full else Unavailable)(
            f"The folder {folder} cannot be used: {error.strerror or error}.",
            hint="HOME, XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_CACHE_HOME, XDG_DATA_HOME and "
            "XDG_RUNTIME_DIR say where meshtui keeps its files.",
        ) from error
