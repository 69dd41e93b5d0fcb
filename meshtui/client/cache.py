"""What can be asked of the controller about the model cache."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import quote

from meshtui.client.channel import Channel, lines
from meshtui.client.safe import decode
from meshtui.domain.model_cache import (
    BuildPlan,
    BuildWishes,
    CacheDetails,
    CacheEntry,
    CacheUsage,
    DeletePlan,
    DownloadPlan,
    ExportPlan,
    ExportWishes,
    HubCacheRepo,
    ImportPlan,
    PrunePlan,
    PruneWishes,
    Transfer,
)

T = TypeVar("T")

# Reading the list of a large compressed archive means unpacking it once; removing hundreds of
# gigabytes in small files takes a while, too.
_LONG_TIMEOUT_S = 3600.0
# A Hub that does not answer is asked several times.
_HUB_TIMEOUT_S = 120.0


class CacheQuestions(ABC):
    """The part of `ControllerClient` that is about models on disk.

    Paths are those of the controller's machine, and absolute. What takes its time answers at once
    with a `Transfer`, which goes on in the controller; `TransferChanged` tells how far it is.
    Where the same thing is under way already, that one is the answer. Plans change nothing.
    """

    @abstractmethod
    async def _open(self) -> Channel: ...

    # Entries

    async def cache_entries(self) -> list[CacheEntry]:
        """All entries, those that cannot be used with their `problem`."""
        channel = await self._open()
        async with channel.stream("GET", "/cache/entries") as response:
            # Line by line: only the few with unusual characters are walked through.
            return [decode(line, CacheEntry) async for line in lines(response) if line]

    async def cache_entry(self, model: str) -> CacheDetails:
        return await self._ask_cache(CacheDetails, "GET", "/cache/entry", params={"model": model})

    async def cache_usage(self) -> CacheUsage:
        return await self._ask_cache(CacheUsage, "GET", "/cache/usage")

    # Transfers

    async def transfers(self) -> list[Transfer]:
        """Those that wait and run, and the last ones that are over; oldest first."""
        return await self._ask_cache(list[Transfer], "GET", "/transfers")

    async def cancel_transfer(self, transfer_id: str) -> Transfer:
        """Returns when it is over. Raises `Conflict` where it was over before."""
        return await self._ask_cache(Transfer, "POST", f"{_path(transfer_id)}/cancel")

    async def retry_transfer(self, transfer_id: str) -> Transfer:
        """Starts one that failed or was cancelled again, under the same id."""
        return await self._ask_cache(Transfer, "POST", f"{_path(transfer_id)}/retry")

    async def remove_transfer(self, transfer_id: str) -> None:
        """Forgets one that is over."""
        await (await self._open()).send("DELETE", _path(transfer_id))

    # From the Hub

    async def plan_download(self, model: str, connection: str | None = None) -> DownloadPlan:
        """Asks the Hub which files there are. `connection` None: one that enables the model, or
        none, and then the environment's own token is used."""
        body = {"model": model, "connection": connection}
        return await self._ask_cache(
            DownloadPlan, "POST", "/cache/plan/download", body=body, timeout_s=_HUB_TIMEOUT_S
        )

    async def download(
        self,
        model: str,
        connection: str | None = None,
        files: list[str] | None = None,
        replace: bool = False,
    ) -> Transfer:
        """Brings a model in; `files` None: those that an engine needs. Raises `Conflict` where
        it is in the cache and not to be replaced, `NotAllowed` where this person may not."""
        body = {"model": model, "connection": connection, "files": files, "replace": replace}
        return await self._ask_cache(Transfer, "POST", "/cache/download", body=body)

    # From archives and folders

    async def plan_import(self, path: str) -> list[ImportPlan]:
        """What importing an archive or an entry's folder would bring in; a folder of several
        gives a plan for each."""
        return await self._ask_cache(
            list[ImportPlan],
            "POST",
            "/cache/plan/import",
            body={"path": path},
            timeout_s=_LONG_TIMEOUT_S,
        )

    async def import_model(self, path: str, replace: bool = False) -> Transfer:
        """Imports one archive or entry's folder."""
        body = {"path": path, "replace": replace}
        return await self._ask_cache(Transfer, "POST", "/cache/import", body=body)

    async def plan_build(self, path: str, wishes: BuildWishes) -> BuildPlan:
        body = {"path": path, "wishes": wishes}
        return await self._ask_cache(
            BuildPlan, "POST", "/cache/plan/build", body=body, timeout_s=_LONG_TIMEOUT_S
        )

    async def build_entry(self, path: str, wishes: BuildWishes, replace: bool = False) -> Transfer:
        """Makes an entry of a plain folder or a git clone."""
        body = {"path": path, "wishes": wishes, "replace": replace}
        return await self._ask_cache(Transfer, "POST", "/cache/build", body=body)

    async def hub_cache(self, path: str | None = None) -> list[HubCacheRepo]:
        """What could be adopted from the standard Hugging Face cache, or the one at `path`."""
        params = {} if path is None else {"path": path}
        return await self._ask_cache(
            list[HubCacheRepo], "GET", "/cache/hub", params=params, timeout_s=_LONG_TIMEOUT_S
        )

    async def adopt(self, folder: str, replace: bool = False, allow_copy: bool = False) -> Transfer:
        """Takes over a snapshot by its `HubCacheRepo.folder`, without copying a byte unless
        `allow_copy` permits it where nothing else works."""
        body = {"folder": folder, "replace": replace, "allow_copy": allow_copy}
        return await self._ask_cache(Transfer, "POST", "/cache/adopt", body=body)

    # To elsewhere

    async def plan_export(self, model: str, wishes: ExportWishes) -> ExportPlan:
        body = {"model": model, "wishes": wishes}
        return await self._ask_cache(ExportPlan, "POST", "/cache/plan/export", body=body)

    async def export(self, model: str, wishes: ExportWishes) -> Transfer:
        body = {"model": model, "wishes": wishes}
        return await self._ask_cache(Transfer, "POST", "/cache/export", body=body)

    # Care

    async def verify(
        self, model: str, against_hub: bool = False, connection: str | None = None
    ) -> Transfer:
        """Checks an entry's files. What is wrong stands in the finished transfer's `findings`,
        and in the entry's `verification`."""
        body = {"model": model, "against_hub": against_hub, "connection": connection}
        return await self._ask_cache(Transfer, "POST", "/cache/verify", body=body)

    async def plan_delete(self, models: Sequence[str]) -> list[DeletePlan]:
        """What deleting them would free, who uses them, and which may not be deleted now."""
        return await self._ask_cache(
            list[DeletePlan], "POST", "/cache/plan/delete", body={"models": list(models)}
        )

    async def delete_models(self, models: Sequence[str]) -> list[DeletePlan]:
        """Deletes those that may be; the others carry a `refusal`."""
        return await self._ask_cache(
            list[DeletePlan],
            "POST",
            "/cache/delete",
            body={"models": list(models)},
            timeout_s=_LONG_TIMEOUT_S,
        )

    async def plan_prune(self, wishes: PruneWishes) -> PrunePlan:
        return await self._ask_cache(PrunePlan, "POST", "/cache/plan/prune", body=wishes)

    async def prune(self, wishes: PruneWishes) -> PrunePlan:
        """Removes what the wishes name; the answer says what went and what was spared."""
        return await self._ask_cache(
            PrunePlan, "POST", "/cache/prune", body=wishes, timeout_s=_LONG_TIMEOUT_S
        )

    async def _ask_cache(
        self,
        kind: type[T],
        method: str,
        path: str,
        *,
        body: object = None,
        params: dict[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> T:
        channel = await self._open()
        return await channel.call(kind, method, path, body=body, params=params, timeout_s=timeout_s)


def _path(transfer_id: str) -> str:
    return f"/transfers/{quote(transfer_id, safe='')}"
