"""What can be asked of the controller about models before they run."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from meshtui.client.channel import Channel
from meshtui.domain.check import CheckReport, CheckWishes
from meshtui.domain.finding import Finding
from meshtui.domain.hub_search import FoundModel
from meshtui.domain.memory import GpuSpec
from meshtui.domain.task import Task

# Models on a slow Hub, one after the other.
_TIMEOUT_S = 300.0
_NOTHING_SET = CheckWishes()
# It stands in a URL; no name of a model is longer.
_MOST_SEARCH_CHARS = 200


class CheckQuestions(ABC):
    """The part of `ControllerClient` that is about the checker.

    A model is named `org/name[@revision]`, or by the absolute path of a folder on the controller's
    machine. What is wrong with it is a finding of its report.
    """

    @abstractmethod
    async def _open(self) -> Channel: ...

    async def check(self, model: str, wishes: CheckWishes = _NOTHING_SET) -> CheckReport:
        """The verdict on one model. Raises `NotFound` or `InvalidInput` for wishes that mean
        nothing: a GPU, runtime or connection that is not known."""
        [report] = await self.check_many([model], wishes)
        return report

    async def check_many(
        self, models: Sequence[str], wishes: CheckWishes = _NOTHING_SET
    ) -> list[CheckReport]:
        """As `check`, of several models at the same time; one report each, in their order."""
        # vLLM is asked about one model after the other.
        timeout_s = _TIMEOUT_S * (len(models) if wishes.exact else 1)
        channel = await self._open()
        body = {"models": list(models), "wishes": wishes}
        return await channel.call(
            list[CheckReport], "POST", "/check", body=body, timeout_s=timeout_s
        )

    async def start_blockers(
        self, model: str, connection: str | None = None
    ) -> tuple[Finding, ...]:
        """What speaks against starting the server of an enabled model, as far as it can be told
        within some seconds (a cached model: at once): ask the person first where there is
        anything. Nothing where its server runs, or did until it was stopped. Raises `NotFound`
        and `Conflict` as `start_server` does."""
        channel = await self._open()
        body = {"model": model, "connection": connection}
        return await channel.call(tuple[Finding, ...], "POST", "/check/start", body=body)

    async def gpus(self) -> list[GpuSpec]:
        """The GPUs that a model can be checked for, from small to large."""
        return await (await self._open()).call(list[GpuSpec], "GET", "/gpus")

    async def search_models(
        self,
        text: str,
        *,
        task: Task | None = None,
        connection: str | None = None,
        limit: int = 20,
    ) -> list[FoundModel]:
        """Models on the Hub whose names hold `text`, the most downloaded first (at most 100); the
        Hub is the one of `connection`, None: of the environment. The same question within a minute
        costs nothing. Raises `HubUnreachable` (offline mode, too), `BadToken`, and `NotFound` for
        an unknown connection."""
        params = {"search": text[:_MOST_SEARCH_CHARS], "limit": str(limit)}
        if task is not None:
            params["task"] = task.value
        if connection is not None:
            params["connection"] = connection
        channel = await self._open()
        return await channel.call(list[FoundModel], "GET", "/hub/models", params=params)
