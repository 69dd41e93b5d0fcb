"""What can go wrong with the Hub, in words for people, and which page or setting helps."""

from meshtui.domain.errors import MeshtuiError, NotFound, Unavailable


class HubUnreachable(Unavailable):
    """No network, a proxy that refuses, a Hub that is down, or offline mode."""

    code = "hub-unreachable"


class ModelNotOnHub(NotFound):
    """No such model or revision; a private one looks the same without a token."""

    code = "model-not-on-hub"


class GatedModel(MeshtuiError):
    """The model's terms were not accepted by the user of the token, or there is no token."""

    code = "gated-model"
    http_status = 403


class BadToken(MeshtuiError):
    """The Hub does not accept the token."""

    code = "bad-token"
    http_status = 401


class BrokenDownload(MeshtuiError):
    """A file that came is not the one that the Hub promised."""

    code = "broken-download"
    http_status = 502


def refusal(
    *, model: str, endpoint: str, status: int, code: str, message: str, has_token: bool
) -> MeshtuiError:
    """The error for an HTTP answer of the Hub: `code` and `message` are its headers
    `X-Error-Code` and `X-Error-Message`."""
    page = f"{endpoint}/{model}"
    if code == "GatedRepo":
        first = "" if has_token else "Set an access token on the connection, then "
        return GatedModel(
            f"{model} is gated: its authors give access on request.",
            hint=f"{first or 'Open '}{'open ' if first else ''}{page}, ask for access with the "
            "account of the token, and try again.",
        )
    if status == 401 and "Invalid credentials" in message:
        return BadToken(
            "The Hub does not accept the access token.",
            hint=f"It may have expired: make a new one at {endpoint}/settings/tokens.",
        )
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
    return HubUnreachable(
        f"The Hub answered with status {status}.", hint=f"Try again later. The Hub is {endpoint}."
    )


def unreachable(endpoint: str, reason: str) -> HubUnreachable:
    return HubUnreachable(
        f"The Hub at {endpoint} cannot be reached: {reason}.",
        hint="Check the network and the proxy settings (HTTPS_PROXY); HF_ENDPOINT names a mirror.",
    )
