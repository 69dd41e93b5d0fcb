"""What can go wrong with the Hub, in words for people, and which page or setting helps."""

import errno
import math
from collections.abc import Mapping
from pathlib import Path

from meshtui.domain.errors import (
    BadToken,
    BrokenDownload,
    GatedModel,
    HubUnreachable,
    MeshtuiError,
    ModelNotOnHub,
    NoRoom,
    Unavailable,
)
from meshtui.domain.text import one_line
from meshtui.hub.retries import retry_after_s

__all__ = [
    "BadToken",
    "BrokenDownload",
    "GatedModel",
    "HubUnreachable",
    "ModelNotOnHub",
    "disk_refuses",
    "refusal",
    "refused_search",
    "unreachable",
]


def refusal(
    *, model: str, endpoint: str, status: int, headers: Mapping[str, str], has_token: bool
) -> MeshtuiError:
    """The error for an HTTP answer of the Hub."""
    code, message = headers.get("X-Error-Code", ""), headers.get("X-Error-Message", "")
    page = f"{endpoint}/{model}"
    if code == "GatedRepo":
        first = "" if has_token else "Set an access token on the connection, then "
        return GatedModel(
            f"{model} is gated: its authors give access on request.",
            hint=f"{first or 'Open '}{'open ' if first else ''}{page}, ask for access with the "
            "account of the token, and try again.",
        )
    if status == 401 and "Invalid credentials" in message:
        return _bad_token(endpoint)
    if code == "RevisionNotFound":
        return ModelNotOnHub(f"This revision of {model} does not exist.", hint=f"See {page}.")
    if code == "EntryNotFound":
        return ModelNotOnHub(f"A file of {model} is gone from the Hub.", hint=f"See {page}.")
    if "disabled" in message.lower():
        return ModelNotOnHub(f"The Hub has disabled access to {model}.", hint=f"See {page}.")
    if code == "RepoNotFound" or status in (401, 404):
        private = (
            "the token's account may lack access to it"
            if has_token
            else "a private one needs an access token on the connection"
        )
        return ModelNotOnHub(
            f"There is no model {model} on the Hub.",
            hint=f"Check the spelling at {endpoint}/models; {private}.",
        )
    if status == 403:
        return GatedModel(
            f"The Hub refuses access to {model}.",
            hint=f"Open {page} with the account of the token. A proxy on the way may refuse too.",
        )
    return _overloaded(endpoint, status, retry_after_s(headers))


def refused_search(endpoint: str, status: int, headers: Mapping[str, str]) -> MeshtuiError:
    """The error for an HTTP answer to a search."""
    if status == 401:
        return _bad_token(endpoint)
    return _overloaded(endpoint, status, retry_after_s(headers))


def _bad_token(endpoint: str) -> BadToken:
    return BadToken(
        "The Hub does not accept the access token.",
        hint=f"It may have expired: make a new one at {endpoint}/settings/tokens.",
    )


def _overloaded(endpoint: str, status: int, asked_s: float | None) -> HubUnreachable:
    said = (
        "The Hub has had too many requests from here"
        if status == 429
        else f"The Hub answered with status {status}"
    )
    when = "later" if asked_s is None else f"in {math.ceil(asked_s)} seconds, as it asks"
    more = " With an access token it allows more." if status == 429 else ""
    error = HubUnreachable(f"{said}.", hint=f"Try again {when}. The Hub is {endpoint}.{more}")
    error.retry_after_s = asked_s
    return error


def unreachable(endpoint: str, reason: str, *, certificates: bool = False) -> HubUnreachable:
    """`certificates`: the reason is one that is not trusted."""
    help_with_network = (
        "Check the network and the proxy settings (HTTPS_PROXY, or hub.proxy of the connection); "
        "HF_ENDPOINT names a mirror."
    )
    help_with_trust = (
        "Name the file with your organisation's certificates: REQUESTS_CA_BUNDLE, or "
        "hub.ca_bundle of the connection."
    )
    return HubUnreachable(
        f"The Hub at {endpoint} cannot be reached: {reason}.",
        hint=help_with_trust if certificates else help_with_network,
    )


def disk_refuses(error: OSError, folder: Path) -> MeshtuiError:
    """A disk that refuses, as an error for people."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return NoRoom(
            f"The disk of {folder.parent} is full.",
            hint="Free some space and start again: what has come is kept.",
        )
    why = one_line(error.strerror or str(error))
    return Unavailable(
        f"The download cannot be stored in {folder.parent}: {why}.",
        hint="MESHTUI_CACHE names another folder for the model cache.",
    )
