"""Fetches a file by Xet, inside a process that may be killed for it."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meshtui.domain.errors import MeshtuiError
from meshtui.domain.text import one_line
from meshtui.hub.errors import BrokenDownload, HubUnreachable, disk_refuses
from meshtui.hub.model_files import HubFile, HubModel, api, file_url, refused, request_headers
from meshtui.hub.part_file import PartFile
from meshtui.hub.reach import Reach

_TELL_EVERY_S = 0.1
_TIMEOUT_S = 15.0
# Its own choice is to hold gigabytes; that much feeds a fast link too (hf_xet 1.8, `XetConfig`).
_BUFFERS_BYTES = {
    "reconstruction.download_buffer_size": 256_000_000,
    "reconstruction.download_buffer_perfile_size": 64_000_000,
    "reconstruction.download_buffer_limit": 512_000_000,
    "reconstruction.min_prefetch_buffer": 128_000_000,
}


def stream_to_part(
    reach: Reach,
    model: HubModel,
    file: HubFile,
    part: Path,
    *,
    finds: Callable[[int], None],
    has: Callable[[int], None],
) -> str | None:
    """Fetches what `part` lacks of `file`; gives its SHA-256, or None where the Hub does not
    offer the file by Xet. `finds` hears how much was there before, then `has` how much is there
    now, ten times a second. Raises `MeshtuiError`: `BrokenDownload` where the content is wrong,
    and then the part is empty."""
    offered = _offer(reach, model, file)
    if offered is None:
        return None
    try:
        sink = PartFile(part, file, finds)
    except OSError as error:
        raise disk_refuses(error, part.parent) from error
    try:
        if not sink.is_complete:
            _fill(sink, file, part.parent, _open(reach, offered, file, sink.size_bytes), has)
        return sink.finish()
    except BrokenDownload:
        sink.restart()
        raise
    finally:
        sink.close()


def _offer(reach: Reach, model: HubModel, file: HubFile) -> Any:
    """What the Hub says of the file's place in Xet."""
    client = api(reach)
    from huggingface_hub.errors import HfHubHTTPError

    url = file_url(reach.endpoint, model, file.path)
    try:
        return client.get_hf_file_metadata(url=url, timeout=_TIMEOUT_S).xet_file_data
    except HfHubHTTPError as error:
        raise refused(error, model.ref, reach) from error
    except Exception as error:
        raise _failed(file, error) from error


def _open(reach: Reach, offered: Any, file: HubFile, start: int) -> Any:
    """The ordered stream of the file's bytes from `start` on."""
    import hf_xet

    headers = request_headers(reach)
    config = hf_xet.XetConfig().with_config({"telemetry.enabled": False, **_BUFFERS_BYTES})
    try:
        group = hf_xet.XetSession(config).new_download_stream_group(
            token_refresh_url=offered.refresh_route,
            token_refresh_headers=headers,
            custom_headers={k: v for k, v in headers.items() if k.lower() != "authorization"},
        )
        info = hf_xet.XetFileInfo(offered.file_hash, file.size_bytes)
        return group.download_stream(info, start=start)
    except Exception as error:
        raise _failed(file, error) from error


def _fill(
    sink: PartFile, file: HubFile, folder: Path, stream: Any, has: Callable[[int], None]
) -> None:
    start = sink.size_bytes
    ended = threading.Event()

    def tell() -> None:
        # The stream gives pieces of up to 64 MB; what has come of the next one counts too.
        while not ended.wait(_TELL_EVERY_S):
            report = stream.progress()
            come = start + report.bytes_completed if report is not None else 0
            has(min(file.size_bytes, max(come, sink.size_bytes)))

    has(start)
    teller = threading.Thread(target=tell, name="xet progress", daemon=True)
    teller.start()
    try:
        for block in stream:
            try:
                sink.write(block)
            except OSError as error:
                raise disk_refuses(error, folder) from error
    except MeshtuiError:
        raise
    except Exception as error:
        # Which exceptions it raises is no part of what its library promises.
        raise _failed(file, error) from error
    finally:
        ended.set()
        teller.join()
    if not sink.is_complete:
        raise HubUnreachable(f"Downloading {file.path} failed: the stream ended early.")


def _failed(file: HubFile, error: Exception) -> HubUnreachable:
    reason = one_line(str(error), 300) or type(error).__name__
    return HubUnreachable(
        f"Downloading {one_line(file.path, 200)} failed: {reason}.",
        hint="What has come is kept: start again to go on.",
    )
