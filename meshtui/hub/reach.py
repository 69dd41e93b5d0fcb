"""Where the Hub is, how it is reached, and whether it answers."""

import asyncio
import os
import re
import ssl
from collections.abc import Mapping

import aiohttp
import msgspec

from meshtui.domain.connection import Connection
from meshtui.domain.errors import Unavailable
from meshtui.domain.text import one_line
from meshtui.settings.secrets import is_reference, resolve

DEFAULT_ENDPOINT = "https://huggingface.co"
NO_TOKEN = ""
# How the reason begins where certificates are at fault.
NOT_TRUSTED = "its certificate is not trusted"
# Properties of a connection; what it does not name comes from the environment.
ENDPOINT_PROPERTY = "hub.endpoint"
PROXY_PROPERTY = "hub.proxy"
CA_PROPERTY = "hub.ca_bundle"
_YES = {"1", "ON", "YES", "TRUE"}
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How the Hub is asked. `token` None: that of `HF_TOKEN` or of `hf auth login`; `NO_TOKEN`:
    none at all. `proxy` (a URL) and `ca_bundle` (a file of certificates) None: as the environment
    says."""

    endpoint: str
    token: str | None = None
    proxy: str | None = None
    ca_bundle: str | None = None

    def __repr__(self) -> str:
        """Without secrets: it may end up in a log."""
        return f"Reach({self.endpoint!r})"

    __str__ = __repr__

    @property
    def is_of_environment(self) -> bool:
        """Whether the environment of this process reaches the Hub in the same way."""
        return self.proxy is None and self.ca_bundle is None

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables with which another process reaches the Hub so."""
        found: dict[str, str] = {}
        if self.proxy is not None:
            found |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), self.proxy)
            found |= dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), self.proxy)
            found |= {"NO_PROXY": "", "no_proxy": ""}
        if self.ca_bundle is not None:
            found |= dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), self.ca_bundle)
        return found


def reach_of(connection: Connection | None) -> Reach:
    """As the connection says, else as the environment does. Reads files of secrets: call it off
    the event loop. Raises `InvalidInput` or `Unavailable` where a secret cannot be had."""
    if connection is None:
        return Reach(endpoint=endpoint())
    properties = connection.properties
    place = (properties.get(ENDPOINT_PROPERTY) or endpoint()).rstrip("/")
    token = resolve(connection.access_token) if connection.access_token else None
    if token is None and place != endpoint():
        # The environment's token is for the environment's Hub, and nobody else's business.
        token = NO_TOKEN
    proxy = properties.get(PROXY_PROPERTY)
    if proxy is not None and is_reference(proxy):
        proxy = resolve(proxy)
    bundle = properties.get(CA_PROPERTY)
    return Reach(
        endpoint=place,
        token=token,
        proxy=proxy or None,
        ca_bundle=os.path.expanduser(bundle) if bundle else None,  # noqa: PTH111 (stays text)
    )


def endpoint() -> str:
    """`HF_ENDPOINT`, else the public Hub; without a trailing slash."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def is_offline() -> bool:
    """Whether `HF_HUB_OFFLINE` (or its older name) forbids asking the Hub."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in _YES for name in names)


def open_session(reach: Reach) -> aiohttp.ClientSession:
    """A session that honours the proxy and certificates of `reach`, else those of the environment
    (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE`). Call it on a running event
    loop. Raises `Unavailable` where the file of certificates cannot be used."""
    context = ssl.create_default_context()
    if bundle := reach.ca_bundle or ca_bundle_of_environment():
        try:
            context.load_verify_locations(bundle)
        except (OSError, ssl.SSLError) as error:
            raise Unavailable(
                f"The file of certificates {one_line(bundle)} cannot be used: "
                f"{one_line(error.strerror or str(error))}.",
                hint="It is named by hub.ca_bundle of the connection, REQUESTS_CA_BUNDLE or "
                "CURL_CA_BUNDLE.",
            ) from error
    return aiohttp.ClientSession(
        trust_env=reach.proxy is None,
        proxy=reach.proxy,
        connector=aiohttp.TCPConnector(ssl=context),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30),
        # The bytes on the wire are the file's own: resuming counts them.
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,
        # What the Hub has signed must reach the store as it is.
        requote_redirect_url=False,
    )


def ca_bundle_of_environment() -> str | None:
    """The file of certificates that programs with `requests` or `curl` in them use."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or None


async def why_unreachable(reach: Reach, *, timeout_s: float = 8.0) -> str | None:
    """Why the Hub does not answer, or None if it does, within the time given."""
    if is_offline():
        return "HF_HUB_OFFLINE is set"
    try:
        async with (
            asyncio.timeout(timeout_s),
            open_session(reach) as session,
            session.get(f"{reach.endpoint}/api/models?limit=1", allow_redirects=False) as answer,
        ):
            if answer.status == 407:
                return "the proxy wants a password"
            if answer.status >= 500:
                return f"it answers with status {answer.status}"
    except TimeoutError:
        return f"no answer within {timeout_s:g} seconds"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return reason_of(error)
    return None


def reason_of(error: BaseException) -> str:
    """Why the network failed, in words, without passwords of proxies."""
    if isinstance(error, aiohttp.ClientHttpProxyError) and error.status == 407:
        return "the proxy wants a user and a password"
    if is_about_certificates(error):
        found = (getattr(e, "verify_message", "") for e in _chain(error))
        why = next(filter(None, found), "it cannot be verified")
        return f"{NOT_TRUSTED} ({one_line(why, 200)})"
    said = one_line(str(error), 300) or type(error).__name__
    return _CREDENTIALS.sub("***@", said)


def is_about_certificates(error: BaseException) -> bool:
    """Whether the network failed because a certificate is not trusted."""
    return any(isinstance(e, ssl.SSLCertVerificationError) for e in _chain(error)) or (
        "CERTIFICATE_VERIFY_FAILED" in str(error)
    )


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and len(found) < 10:
        found.append(error)
        error = error.__cause__ or error.__context__ or getattr(error, "certificate_error", None)
    return found
