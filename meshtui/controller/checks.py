"""The checker as the controller runs it: models looked into before are kept, and judged again."""

import asyncio
import functools
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from meshtui.cache.store import ModelStore
from meshtui.compat.sources.folder import (
    Signature,
    signature_of,
    subject_of_entry,
    subject_of_folder,
)
from meshtui.controller.check_place import PlannedRuntime, runtime_for
from meshtui.domain.check import CheckReport, CheckWishes
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.errors import InvalidInput, MeshtuiError, NotFound, Unavailable
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.runtime import RuntimeDefinition, RuntimeStatus
from meshtui.domain.text import one_line
from meshtui.engines.base import Machine
from meshtui.engines.check.case import Place
from meshtui.engines.check.known import Known
from meshtui.engines.check.verdict import check, failed
from meshtui.engines.gpus_here import GpusHere, look_at_gpus
from meshtui.engines.machine import detect

T = TypeVar("T")
_LOGGER = logging.getLogger(__name__)

# What is kept of models that were looked into.
_MOST_KEPT_BYTES = 96 * 1024 * 1024
_THREADS = 4
# Asking the driver takes tenths of a second; what is free changes in seconds.
_GPUS_FRESH_S = 5.0


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """What the checker needs to know of the rest of the controller, as it is now."""

    connections: Callable[[], Mapping[str, Connection]]
    runtimes: Callable[[], list[RuntimeStatus]]
    definitions: Callable[[], Mapping[str, RuntimeDefinition]]


class Checks:
    """Judges models. `close` ends what is under way."""

    def __init__(self, store: ModelStore, around: Around) -> None:
        self._store = store
        self._around = around
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="check")
        self._kept: OrderedDict[str, tuple[Signature, Known]] = OrderedDict()
        self._machine = functools.cache(detect)
        self._gpus: tuple[float, GpusHere] | None = None
        self._looking: asyncio.Task[GpusHere] | None = None

    async def close(self) -> None:
        if self._looking is not None:
            await asyncio.wait([self._looking])
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    async def check(self, models: Sequence[str], wishes: CheckWishes) -> list[CheckReport]:
        """One report a model, in their order. What is wrong with a model is a finding; raises
        `NotFound` or `InvalidInput` for wishes that mean nothing."""
        here = await self._gpus_here()
        machine = await self._in_thread(self._machine)
        reports = [self._check(model, wishes, machine, here) for model in models]
        return list(await asyncio.gather(*reports))

    async def _check(
        self, model: str, wishes: CheckWishes, machine: Machine, here: GpusHere
    ) -> CheckReport:
        connection, enabled = self._connection(model, wishes)
        planned = self._runtime(connection, wishes, machine, here)
        place = Place(
            runtime=planned.status,
            built=planned.built,
            machine=machine,
            here=here,
            enabled=enabled,
            choice=connection.engine_completion,
        )
        report = await self._in_thread(functools.partial(self._judge, model, wishes, place))
        return msgspec.structs.replace(report, model=one_line(model, 400))

    def _judge(self, model: str, wishes: CheckWishes, place: Place) -> CheckReport:
        """Blocks."""
        try:
            known = self._known(model)
        except MeshtuiError as error:
            return failed(model, error)
        try:
            return check(known, wishes, place)
        except MeshtuiError:
            raise
        except Exception as error:
            # One strange model must not cost the verdicts on the others.
            _LOGGER.exception("%s could not be judged", model)
            return failed(
                model,
                Unavailable(
                    f"Something in meshtui went wrong ({type(error).__name__}).",
                    hint="The controller's log has the details: meshtui controller logs",
                ),
            )

    def _known(self, model: str) -> Known:
        """Looks into a folder or entry, unless it did and nothing has changed there."""
        if folder := folder_meant(model):
            return self._keep(
                str(folder), signature_of(folder), lambda: Known(subject_of_folder(folder))
            )
        entry = self._store.get(ModelRef.parse(model))
        return self._keep(
            str(entry.folder),
            signature_of(entry.model_dir),
            lambda: Known(subject_of_entry(entry)),
        )

    def _keep(self, key: str, signature: Signature, read: Callable[[], Known]) -> Known:
        before = self._kept.get(key)
        if before is not None and before[0] == signature:
            return before[1]
        known = read()
        self._kept[key] = (signature, known)
        while (
            len(self._kept) > 1
            and sum(one.size_bytes for _, one in list(self._kept.values())) > _MOST_KEPT_BYTES
        ):
            self._kept.popitem(last=False)
        return known

    def _connection(
        self, model: str, wishes: CheckWishes
    ) -> tuple[Connection, EnabledModel | None]:
        """The connection that is asked for, else the first that enables the model, else one with
        nothing set; and the model's settings there."""
        connections = self._around.connections()
        if wishes.connection is not None:
            if wishes.connection not in connections:
                raise NotFound(
                    f"There is no connection {one_line(wishes.connection, 100)!r}.",
                    hint=f"There are: {', '.join(connections) or 'none'}.",
                )
            connections = {wishes.connection: connections[wishes.connection]}
        for connection in connections.values():
            for enabled in connection.enabled_models:
                if enabled.model == model:
                    return connection, enabled
        if wishes.connection is not None:
            return connections[wishes.connection], None
        return Connection(name=""), None

    def _runtime(
        self, connection: Connection, wishes: CheckWishes, machine: Machine, here: GpusHere
    ) -> PlannedRuntime:
        wants_gpu = wishes.gpu is not None or machine.gpu_count > 0 or bool(here.gpus)
        name = wishes.runtime or connection.runtime or ("gpu" if wants_gpu else "cpu")
        return runtime_for(
            name, self._around.runtimes(), self._around.definitions(), machine.cpu_flags
        )

    async def _gpus_here(self) -> GpusHere:
        """The first time they are waited for; later, what was seen is good enough while somebody
        looks again."""
        now = time.monotonic()
        if self._gpus is None:
            self._gpus = (now, await self._in_thread(look_at_gpus))
        elif (
            now - self._gpus[0] > _GPUS_FRESH_S
            and self._gpus[1].gpus
            and (self._looking is None or self._looking.done())
        ):
            self._looking = asyncio.create_task(self._look_again(), name="gpus")
        return self._gpus[1]

    async def _look_again(self) -> GpusHere:
        found = await self._in_thread(look_at_gpus)
        self._gpus = (time.monotonic(), found)
        return found

    async def _in_thread(self, step: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, step)


def folder_meant(model: str) -> Path | None:
    """The folder that a text means; None for the name of a model. Raises `InvalidInput` for
    relative paths: the controller has no folder of its own."""
    if "\0" in model:
        raise InvalidInput("The path holds a character that none can.")
    if model.startswith("/"):
        return Path(model)
    if model.startswith("~"):
        try:
            return Path(model).expanduser()
        except RuntimeError as error:
            raise InvalidInput(f"{one_line(model)} cannot be found: {error}") from error
    if model.startswith("."):
        raise InvalidInput("The path must be absolute.")
    return None
