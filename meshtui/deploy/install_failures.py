"""Says in a person's words why an installer gave up."""

import re
from pathlib import Path

import msgspec

from meshtui.domain.server import Explanation
from meshtui.domain.text import one_line, sanitise

_EXCERPT_LINES = 12


class _Signature(msgspec.Struct, frozen=True):
    id: str
    pattern: str
    cause: str
    fix: str


# The first match wins, so what causes other messages stands before them: pip, cut off from its
# index, ends with "No matching distribution", as it does for a package that is not there.
_SIGNATURES = (
    _Signature(
        "install-disk-full",
        r"No space left on device|os error 28|Disk quota exceeded",
        "The disk is full.",
        "Free some space, or move runtimes to another disk with MESHTUI_RUNTIMES.",
    ),
    _Signature(
        "install-certificate",
        r"CERTIFICATE_VERIFY_FAILED|invalid peer certificate|UnknownIssuer|certificate verify",
        "The package index's certificate is not trusted here.",
        "Name your organisation's certificates with SSL_CERT_FILE, or set a mirror as `index_url`.",
    ),
    _Signature(
        "install-index-credentials",
        r"401 Unauthorized|403 Forbidden|HTTP(?: status)?(?: client)? error:? \(?40[13]"
        r"|ERROR: 40[13]",
        "The package index refused access.",
        "Check the user name and password of the index, in its URL or in ~/.netrc.",
    ),
    _Signature(
        "install-index-unreachable",
        r"client error \(Connect\)|dns error|failed to lookup address|error sending request"
        r"|NewConnectionError|Failed to establish a new connection|Max retries exceeded"
        r"|Temporary failure in name resolution|Name or service not known|Connection refused"
        r"|ConnectTimeoutError|ReadTimeoutError|operation timed out|Network is unreachable"
        r"|ProxyError|Failed to fetch",
        "The package index cannot be reached.",
        "Check the network and the proxy, or set a mirror that can be reached as `index_url`.",
    ),
    _Signature(
        "install-hash-mismatch",
        r"[Hh]ash mismatch|DO NOT MATCH THE HASHES",
        "A downloaded package is not what its index promised.",
        "Build again; if it stays, the mirror or a proxy on the way changes files.",
    ),
    _Signature(
        "install-not-found",
        r"was not found in the package registry|No matching distribution found"
        r"|there (?:is|are) no versions? of|was not found in the provided package locations",
        "A required package, or that version of it, is not in the index for this machine.",
        "Correct the requirement, or add an index that has it as `extra_index_urls`.",
    ),
    _Signature(
        "install-conflict",
        r"No solution found when resolving|ResolutionImpossible|conflicting dependencies",
        "The requirements contradict each other.",
        "Change one of them, or force a version with `overrides`.",
    ),
    _Signature(
        "install-source-build",
        r"Failed to build|build backend returned an error|Could not build wheels"
        r"|subprocess-exited-with-error",
        "A package has no ready build for this machine, and building it from source failed.",
        "Choose another Python version as `python`, or a version of the package that has one.",
    ),
)
_DETAIL = re.compile(
    r"(?:Because .*|The user requested .*|.*No matching distribution found for .*"
    r"|ERROR: Cannot install .*|.*Failed to fetch: .*|.*No space left on device.*)"
)
_NOISE = re.compile(r"^\s*(?:WARNING: Retrying|\[notice\]|Looking in |Using Python )")


def explain_install_failure(lines: list[str], status: int, log: Path) -> Explanation:
    """Cause and fix from the last lines of an installer's output and its exit status."""
    text = "\n".join(lines)
    excerpt = sanitise(
        "\n".join([line for line in lines if not _NOISE.match(line)][-_EXCERPT_LINES:])
    )
    where = f"The whole story is in {log}."
    for signature in _SIGNATURES:
        if re.search(signature.pattern, text):
            detail = _DETAIL.search(text)
            said = f" ({one_line(detail[0].strip(), 300)})" if detail else ""
            return Explanation(
                cause=f"{signature.cause.removesuffix('.')}{said}.",
                fix=f"{signature.fix} {where}",
                failure_id=signature.id,
                excerpt=excerpt,
            )
    if status < 0:
        cause = f"The installer was killed by signal {-status}; memory may have run out."
    else:
        last = next((line for line in reversed(lines) if not _NOISE.match(line)), "")
        cause = f"The installer failed: {one_line(last, 300) or f'exit status {status}'}"
    return Explanation(cause=cause, fix=f"{where} Build again when solved.", excerpt=excerpt)
