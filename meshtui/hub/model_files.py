"""What the Hub knows of a model: its commit, facts, and files with sizes and hashes.

Asked through `huggingface_hub`, which is loaded at the first need, in a thread: it takes some
tenths of a second and tens of MB, and its calls block.
"""

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

import msgspec

from meshtui.domain.errors import MeshtuiError
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line
from meshtui.hub.errors import HubUnreachable, refusal, unreachable
from meshtui.hub.reach import (
    NO_TOKEN,
    Reach,
    ca_bundle_of_environment,
    is_about_certificates,
    is_offline,
    reason_of,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_TIMEOUT_S = 15.0
_TRIES = 4
# A person waits for the answer.
_LONGEST_PAUSE_S = 30.0
# Of a mirror that tells no sizes, each file is asked for.
_MOST_ASKED = 500


class HubFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a repository. Large ones (LFS) have the SHA-256 of their content; the others the
    SHA-1 that git gives them. A mirror may know neither."""

    path: str
    size_bytes: int
    sha256: str | None = None
    git_sha1: str | None = None


class HubModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model at one commit. `last_modified` is ISO 8601 with milliseconds, as the Hub has it.
    `flagged` are files in which the Hub's scanners found something."""

    ref: ModelRef
    commit: str
    files: tuple[HubFile, ...]
    last_modified: str | None = None
    library: str | None = None
    pipeline: str | None = None
    licence: str | None = None
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    gated: bool = False
    private: bool = False
    flagged: tuple[str, ...] = ()


async def look_up(ref: ModelRef, reach: Reach, *, retry_pause_s: float = 1.0) -> HubModel:
    """The model at the revision of `ref`, pinned to its commit. Raises the errors of
    `meshtui.hub.errors`; an overloaded or failing Hub is asked four times."""
    if is_offline():
        raise unreachable(reach.endpoint, "HF_HUB_OFFLINE is set")
    for left in reversed(range(_TRIES)):
        try:
            if reach.is_of_environment:
                return await asyncio.to_thread(look_up_here, ref, reach)
            return await _look_up_elsewhere(ref, reach)
        except HubUnreachable as error:
            pause_s = error.retry_after_s or retry_pause_s * (_TRIES - left)
            if not left or pause_s > _LONGEST_PAUSE_S:
                raise
            await asyncio.sleep(pause_s)
    raise AssertionError("not reached")


async def _look_up_elsewhere(ref: ModelRef, reach: Reach) -> HubModel:
    """In a process whose environment reaches the Hub as this connection wants."""
    from meshtui.hub.worker import LookUp, ask

    async with contextlib.aclosing(ask(LookUp(os.getpid(), reach, ref), reach)) as answers:
        async for answer in answers:
            return msgspec.convert(answer.result, type=HubModel)
    raise HubUnreachable("The process that asks the Hub gave no answer.")


def api(reach: Reach) -> "HfApi":
    """The Hub's own client. It reads its environment when it is loaded, so what may differ from
    call to call is passed explicitly."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_UPDATE_CHECK", "1")
    if bundle := ca_bundle_of_environment():
        os.environ.setdefault("SSL_CERT_FILE", bundle)
    from huggingface_hub import HfApi

    token = False if reach.token == NO_TOKEN else reach.token
    return HfApi(endpoint=reach.endpoint, token=token, library_name="meshtui")


def request_headers(reach: Reach) -> dict[str, str]:
    """Headers for the Hub: who asks, and the token (that of `hf auth login` or `HF_TOKEN` where
    none is given). Blocks."""
    return dict(api(reach)._build_hf_headers())


def file_url(endpoint: str, model: HubModel, path: str) -> str:
    from huggingface_hub import hf_hub_url

    return hf_hub_url(model.ref.model_id, path, revision=model.commit, endpoint=endpoint)


def look_up_here(ref: ModelRef, reach: Reach) -> HubModel:
    """Asks once, in this process; blocks. Raises as `look_up`."""
    client = api(reach)
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        info = client.model_info(
            ref.model_id,
            revision=ref.revision,
            files_metadata=True,
            securityStatus=True,
            timeout=_TIMEOUT_S,
        )
        siblings = info.siblings or []
        if sum(sibling.size is None for sibling in siblings) > _MOST_ASKED:
            raise unreachable(reach.endpoint, "it does not tell the sizes of files")
        files = tuple(_file(client, ref, info.sha or "main", sibling) for sibling in siblings)
    except HfHubHTTPError as error:
        raise refused(error, ref, reach) from error
    except OfflineModeIsEnabled as error:
        raise unreachable(reach.endpoint, "HF_HUB_OFFLINE is set") from error
    except MeshtuiError:
        raise
    except Exception as error:
        # Which exceptions its HTTP library raises has changed with every major version.
        raise unreachable(
            reach.endpoint, reason_of(error), certificates=is_about_certificates(error)
        ) from error
    card = info.card_data
    language = getattr(card, "language", None)
    modified = info.last_modified
    return HubModel(
        ref=ref,
        commit=info.sha or "",
        files=files,
        last_modified=modified.strftime("%Y-%m-%dT%H:%M:%S.000Z") if modified else None,
        library=info.library_name,
        pipeline=info.pipeline_tag,
        licence=_licence(card, info.tags or []),
        languages=(language,) if isinstance(language, str) else tuple(map(str, language or ())),
        tags=tuple(info.tags or ()),
        gated=bool(info.gated),
        private=bool(info.private),
        flagged=_flagged(getattr(info, "security_repo_status", None)),
    )


def _file(client: "HfApi", ref: ModelRef, commit: str, sibling: Any) -> HubFile:
    size = sibling.size
    if size is None:
        # A mirror that is not complete: the file itself is asked.
        url = client.endpoint + f"/{ref.model_id}/resolve/{commit}/{sibling.rfilename}"
        size = client.get_hf_file_metadata(url=url, timeout=_TIMEOUT_S).size
    return HubFile(
        path=sibling.rfilename,
        size_bytes=size or 0,
        sha256=sibling.lfs.sha256 if sibling.lfs else None,
        git_sha1=None if sibling.lfs else sibling.blob_id,
    )


def _licence(card: Any, tags: list[str]) -> str | None:
    said = getattr(card, "license", None)
    if isinstance(said, str):
        return one_line(said, 100)
    return next((tag[8:] for tag in tags if tag.startswith("license:")), None)


def _flagged(status: Any) -> tuple[str, ...]:
    found = status.get("filesWithIssues") if isinstance(status, dict) else None
    if not isinstance(found, list):
        return ()
    paths = [item.get("path") for item in found if isinstance(item, dict)]
    return tuple(one_line(path, 200) for path in paths if isinstance(path, str))


def refused(error: Exception, ref: ModelRef, reach: Reach) -> MeshtuiError:
    """What an HTTP error of the Hub's client means. Blocks on the file of a login."""
    response = getattr(error, "response", None)
    headers = response.headers if response is not None else {}
    return refusal(
        model=ref.model_id,
        endpoint=reach.endpoint,
        status=response.status_code if response is not None else 0,
        headers=headers,
        has_token="authorization" in {k.lower() for k in request_headers(reach)},
    )
