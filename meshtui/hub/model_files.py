"""What the Hub knows of a model: its commit, facts, and files with sizes and hashes.

Asked through `huggingface_hub`, which is loaded at the first need, in a thread: it takes some
tenths of a second and tens of MB, and its calls block.
"""

import asyncio
import os
from typing import TYPE_CHECKING

import msgspec

from meshtui.domain.errors import MeshtuiError
from meshtui.domain.model_ref import ModelRef
from meshtui.hub.errors import HubUnreachable, refusal, unreachable
from meshtui.hub.reach import is_offline

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_TIMEOUT_S = 15.0
_TRIES = 4


class HubFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a repository. Large ones (LFS) have the SHA-256 of their content; the others the
    SHA-1 that git gives them."""

    path: str
    size_bytes: int
    sha256: str | None = None
    git_sha1: str | None = None


class HubModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model at one commit. `last_modified` is ISO 8601 with milliseconds, as the Hub has it."""

    ref: ModelRef
    commit: str
    files: tuple[HubFile, ...]
    last_modified: str | None = None
    library: str | None = None
    pipeline: str | None = None
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


async def look_up(
    ref: ModelRef, *, endpoint: str, token: str | None, retry_pause_s: float = 1.0
) -> HubModel:
    """The model at the revision of `ref`, pinned to its commit. Raises the errors of
    `meshtui.hub.errors`; an overloaded or failing Hub is asked four times."""
    if is_offline():
        raise unreachable(endpoint, "HF_HUB_OFFLINE is set")
    for left in reversed(range(_TRIES)):
        try:
            return await asyncio.to_thread(_look_up, ref, endpoint, token)
        except HubUnreachable:
            if not left:
                raise
            await asyncio.sleep(retry_pause_s * (_TRIES - left))
    raise AssertionError("not reached")


def api(endpoint: str, token: str | None) -> "HfApi":
    """The Hub's own client. It reads its environment when it is loaded, so what may differ from
    call to call is passed explicitly."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_UPDATE_CHECK", "1")
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint, token=token, library_name="meshtui")


def request_headers(endpoint: str, token: str | None) -> dict[str, str]:
    """Headers for the Hub: who asks, and the token (that of `hf auth login` or `HF_TOKEN` where
    none is given). Blocks."""
    return dict(api(endpoint, token)._build_hf_headers())


def file_url(endpoint: str, model: HubModel, path: str) -> str:
    from huggingface_hub import hf_hub_url

    return hf_hub_url(model.ref.model_id, path, revision=model.commit, endpoint=endpoint)


def _look_up(ref: ModelRef, endpoint: str, token: str | None) -> HubModel:
    client = api(endpoint, token)
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        info = client.model_info(
            ref.model_id, revision=ref.revision, files_metadata=True, timeout=_TIMEOUT_S
        )
    except HfHubHTTPError as error:
        raise _refused(error, ref, endpoint, client, token) from error
    except OfflineModeIsEnabled as error:
        raise unreachable(endpoint, "HF_HUB_OFFLINE is set") from error
    except Exception as error:
        # Which exceptions its HTTP library raises has changed with every major version.
        raise unreachable(endpoint, str(error) or type(error).__name__) from error
    if any(sibling.size is None for sibling in info.siblings or ()):
        raise unreachable(endpoint, "it does not tell the sizes of files; is it a full mirror?")
    language = getattr(info.card_data, "language", None)
    modified = info.last_modified
    return HubModel(
        ref=ref,
        commit=info.sha or "",
        files=tuple(
            HubFile(
                path=sibling.rfilename,
                size_bytes=sibling.size or 0,
                sha256=sibling.lfs.sha256 if sibling.lfs else None,
                git_sha1=None if sibling.lfs else sibling.blob_id,
            )
            for sibling in info.siblings or ()
        ),
        last_modified=modified.strftime("%Y-%m-%dT%H:%M:%S.000Z") if modified else None,
        library=info.library_name,
        pipeline=info.pipeline_tag,
        languages=(language,) if isinstance(language, str) else tuple(map(str, language or ())),
        tags=tuple(info.tags or ()),
    )


def _refused(
    error: "Exception", ref: ModelRef, endpoint: str, client: "HfApi", token: str | None
) -> MeshtuiError:
    response = getattr(error, "response", None)
    headers = response.headers if response is not None else {}
    return refusal(
        model=ref.model_id,
        endpoint=endpoint,
        status=response.status_code if response is not None else 0,
        code=headers.get("X-Error-Code", ""),
        message=headers.get("X-Error-Message", ""),
        has_token="authorization" in {k.lower() for k in client._build_hf_headers()},
    )
