"""References to secrets: settings name where a token is, never the token."""

import os
import re
import stat
from importlib import import_module
from pathlib import Path

from meshtui.domain.errors import InvalidInput, Unavailable

_HOW = "Write env:NAME, hf:default, file:PATH or keyring:SERVICE/USER."
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_SECRET_BYTES = 16 * 1024


def check_reference(reference: str) -> None:
    """Raises `InvalidInput` for what is no reference. What was given is not repeated in the
    message: it may be a token that was pasted in the wrong place."""
    scheme, colon, rest = reference.partition(":")
    if not colon or scheme not in _RESOLVERS:
        raise InvalidInput("This is not a reference to a token.", hint=_HOW)
    if (scheme == "hf" and rest != "default") or not rest:
        raise InvalidInput(f"{scheme}: is incomplete.", hint=_HOW)
    if scheme == "env" and not _ENVIRONMENT_NAME.fullmatch(rest):
        raise InvalidInput("env: needs the name of an environment variable.", hint=_HOW)
    if scheme == "keyring" and not all(rest.partition("/")):
        raise InvalidInput("keyring: needs a service and a user.", hint=_HOW)


def is_reference(text: str) -> bool:
    """Whether it names a secret (`env:...`) instead of being one."""
    return text.partition(":")[0] in _RESOLVERS


def resolve(reference: str) -> str | None:
    """The secret that `reference` names, or None where there is none (an unset variable, no
    login, no such file). Reads files: call it off the event loop.

    Raises `InvalidInput` (no reference, a file that others can read) or `Unavailable` (no
    keyring here). No message holds the secret.
    """
    check_reference(reference)
    scheme, _, rest = reference.partition(":")
    secret = _RESOLVERS[scheme](rest)
    return (secret or "").strip() or None


def _from_environment(name: str) -> str | None:
    return os.environ.get(name)


def _from_hub_login(_: str) -> str | None:
    """The token file of `hf auth login`, where the Hub's own client looks for it."""
    if path := os.environ.get("HF_TOKEN_PATH"):
        return _from_file(path, guarded=False)
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or str(Path(cache) / "huggingface")
    return _from_file(str(Path(home) / "token"), guarded=False)


def _from_file(name: str, guarded: bool = True) -> str | None:
    path = Path(os.path.expandvars(name)).expanduser()
    try:
        with path.open("rb") as file:
            if guarded and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & stat.S_IROTH:
                raise InvalidInput(
                    f"Everybody on this machine can read {path}.", hint=f"chmod 600 {path}"
                )
            return file.read(_MAX_SECRET_BYTES).decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidInput(f"{path} cannot be read: {reason}.") from None


def _from_keyring(name: str) -> str | None:
    service, _, user = name.partition("/")
    try:
        keyring = import_module("keyring")
    except ImportError:
        raise Unavailable(
            "The Python package keyring is not installed here.",
            hint="Install it beside meshtui, or use env:, hf:default or file:.",
        ) from None
    try:
        secret = keyring.get_password(service, user)
    except Exception as error:
        # Backends raise errors of their own; over SSH there is often none that works.
        raise Unavailable(
            f"The keyring does not answer ({type(error).__name__}).",
            hint="Over SSH it is often locked: use env:, hf:default or file:.",
        ) from None
    return None if secret is None else str(secret)


_RESOLVERS = {
    "env": _from_environment,
    "hf": _from_hub_login,
    "file": _from_file,
    "keyring": _from_keyring,
}
