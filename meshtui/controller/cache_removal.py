"""Deleting and pruning: what may go, what is spared, and never under a running server."""

import asyncio
import contextlib
import functools
import time
from collections.abc import Sequence

import msgspec

from meshtui.cache import removal
from meshtui.cache.prune import partials, plan_prune, remove_partial
from meshtui.cache.store import ModelStore
from meshtui.cache.work import Work
from meshtui.controller.cache_entries import Entries
from meshtui.controller.threads import Threads
from meshtui.controller.transfers import Transfers
from meshtui.domain.errors import InvalidInput, MeshtuiError
from meshtui.domain.model_cache import DeletePlan, PruneItem, PrunePlan, PruneWishes
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.server import ServerStatus

# Another process that brings the same model in holds the lock for hours.
_LOCK_TIMEOUT_S = 5.0


class Removal:
    """Plans name who uses an entry; an entry that a server uses stays, whoever asks."""

    def __init__(
        self, store: ModelStore, threads: Threads, entries: Entries, transfers: Transfers
    ) -> None:
        self._store = store
        self._threads = threads
        self._entries = entries
        self._transfers = transfers

    async def plan_delete(self, models: Sequence[str]) -> list[DeletePlan]:
        """Raises `NotFound` where one is not there, and `InvalidInput`."""
        plans = await asyncio.to_thread(removal.plan_delete, self._store, models)
        return [self._with_users(plan) for plan in plans]

    async def delete(self, models: Sequence[str]) -> list[DeletePlan]:
        """What was deleted; what was not says why in `refusal`. Raises `NotFound` before
        anything is deleted."""
        plans = await self.plan_delete(models)
        done = [await self._delete(plan.model) for plan in plans]
        await self._entries.look()
        return done

    async def _delete(self, model: str) -> DeletePlan:
        """A server that starts meanwhile takes the same lock to look for its model: either it is
        seen here, or it finds the entry gone and fetches it again."""
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout(_LOCK_TIMEOUT_S):
                    if (ref := _ref(model)) is not None:
                        await held.enter_async_context(self._store.lock(ref))
            except TimeoutError:
                [plan] = await self.plan_delete([model])
                why = plan.refusal or "Another process is bringing it in."
                return msgspec.structs.replace(plan, refusal=why)
            [plan] = await self.plan_delete([model])
            if plan.refusal is None:
                step = functools.partial(removal.delete, self._store, model)
                await self._threads.run(Work(), step)
            return plan

    async def plan_prune(self, wishes: PruneWishes) -> PrunePlan:
        entries = await self._entries.look()
        halves = await asyncio.to_thread(partials, self._store)
        return await asyncio.to_thread(plan_prune, entries, halves, wishes, time.time())

    async def prune(self, wishes: PruneWishes) -> PrunePlan:
        """What went, and what was spared."""
        plan = await self.plan_prune(wishes)
        gone: list[PruneItem] = []
        kept = list(plan.kept)
        for item in plan.items:
            refusal = await self._prune(item)
            if refusal is None:
                gone.append(item)
            else:
                kept.append(msgspec.structs.replace(item, reason=refusal))
        await self._entries.look()
        return PrunePlan(items=tuple(gone), kept=tuple(kept))

    async def _prune(self, item: PruneItem) -> str | None:
        """None where it went, else why it stayed."""
        try:
            if item.partial is not None:
                await asyncio.to_thread(remove_partial, self._store, item.partial)
                return None
            return (await self._delete(item.model)).refusal
        except MeshtuiError as error:
            return error.message

    def _with_users(self, plan: DeletePlan) -> DeletePlan:
        servers = self._entries.served_by(plan.model)
        return msgspec.structs.replace(
            plan,
            enabled_on=self._entries.enabled_on(plan.model),
            served_by=tuple(server.id for server in servers),
            refusal=plan.refusal or self._refusal(plan.model, servers),
        )

    def _refusal(self, model: str, servers: Sequence[ServerStatus]) -> str | None:
        if servers:
            names = ", ".join(f"{server.id} ({server.phase.value})" for server in servers)
            word = "The server" if len(servers) == 1 else "The servers"
            verb = "uses" if len(servers) == 1 else "use"
            return f"{word} {names} {verb} it: stop {'it' if len(servers) == 1 else 'them'} first."
        for transfer in self._transfers.live:
            if transfer.model == model:
                return f"It is part of a {transfer.kind} that goes on: cancel that first."
        return None


def _ref(model: str) -> ModelRef | None:
    """None for a folder whose name stands for no model: nobody brings one in."""
    try:
        return ModelRef.parse(model)
    except InvalidInput:
        return None
