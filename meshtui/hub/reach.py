"""Where the Hub is, and whether it answers."""

import asyncio
import os
import ssl

import aiohttp

DEFAULT_ENDPOINT = "https://huggingface.co"
_YES = {"1", "ON", "YES", "TRUE"}


def endpoint() -> str:
    """`HF_ENDPOINT`, else the public Hub; without a trailing slash."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def is_offline() -> bool:
    """Whether `HF_HUB_OFFLINE` (or its older name) forbids asking the Hub."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in _YES for name in names)


def open_session() -> aiohttp.ClientSession:
    """A session that honours proxies (`HTTPS_PROXY`, `NO_PROXY`) and an organisation's own
    certificates (`SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE`). Call it on a running event loop."""
    context = ssl.create_default_context()
    if bundle := os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE"):
        context.load_verify_locations(bundle)
    return aiohttp.ClientSession(
        trust_env=True,
        connector=aiohttp.TCPConnector(ssl=context),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30),
        # The bytes on the wire are the file's own: resuming counts them.
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,
    )


async def why_unreachable(base: str, *, timeout_s: float = 3.0) -> str | None:
    """Why the Hub at `base` does not answer, or None if it does, within the time given."""
    if is_offline():
        return "HF_HUB_OFFLINE is set"
    try:
        async with (
            asyncio.timeout(timeout_s),
            open_session() as session,
            session.get(f"{base}/api/models?limit=1", allow_redirects=False) as answer,
        ):
            if answer.status >= 500 or answer.status == 407:
                return f"it answers with status {answer.status}"
    except TimeoutError:
        return f"no answer within {timeout_s:g} seconds"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return str(error) or type(error).__name__
    return None
