"""The checker as the controller runs it: models looked into before are kept, and judged again."""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from meshtui.cache.store import ModelStore
from meshtui.compat.lengths import model_length
from meshtui.compat.sources.folder import (
    signature_of,
    subject_of_entry,
    subject_of_folder,
)
from meshtui.compat.sources.hub import WANTED, subject_of_look
from meshtui.controller.check_cluster import ClusterGpus, machine_of
from meshtui.controller.check_kept import Kept
from meshtui.controller.check_measured import Measuring
from meshtui.controller.check_place import PlannedRuntime, runtime_for
from meshtui.deploy.installers import environment_python
from meshtui.domain.check import CheckReport, CheckWishes
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.errors import InvalidInput, MeshtuiError, Unavailable
from meshtui.domain.execution import KubernetesExecution
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.runtime import RuntimeDefinition, RuntimeStatus
from meshtui.domain.text import one_line
from meshtui.engines.base import Machine
from meshtui.engines.check.case import Place, case_of
from meshtui.engines.check.known import Known
from meshtui.engines.check.verdict import check, failed
from meshtui.engines.exact import ExactAnswer, ask_vllm
from meshtui.engines.gpus_here import GpusHere, look_at_gpus
from meshtui.engines.measured import MeasuredStore
from meshtui.hub.look import look, token_of
from meshtui.hub.looks import Look, Looks, key_of
from meshtui.hub.reach import reach_of
from meshtui.hub.together import together
from meshtui.memory.gpus import find_gpu
from meshtui.settings import paths
from meshtui.settings.downloads import connection_for

T = TypeVar("T")
_LOGGER = logging.getLogger(__name__)

# What is kept of models that were looked into.
_MOST_KEPT_BYTES = 96 * 1024 * 1024
_THREADS = 4
# Asking the driver takes tenths of a second; what is free changes in seconds.
_GPUS_FRESH_S = 5.0
# Who turns a knob must not wait for the Hub each time.
_HUB_FRESH_S = 60.0
_HUB_AT_ONCE = 8


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """What the checker needs to know of the rest of the controller, as it is now."""

    connections: Callable[[], Mapping[str, Connection]]
    runtimes: Callable[[], list[RuntimeStatus]]
    definitions: Callable[[], Mapping[str, RuntimeDefinition]]
    executions: Callable[[], Mapping[str, KubernetesExecution]]
    machine: Callable[[], Machine]


class Checks:
    """Judges models. `close` ends what is under way."""

    def __init__(self, store: ModelStore, around: Around, looks: Looks | None = None) -> None:
        self._store = store
        self._looks = looks or Looks(paths.looks_dir())
        self._seen_at: dict[str, float] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._turns = asyncio.Semaphore(_HUB_AT_ONCE)
        self._exact_turn = asyncio.Lock()
        self._around = around
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="check")
        self._kept = Kept(_MOST_KEPT_BYTES)
        self.measured = Measuring(
            MeasuredStore(paths.state_dir() / "measured.json"), around.connections, self._gpus_here
        )
        self._gpus: tuple[float, GpusHere] | None = None
        self._clusters = ClusterGpus()
        self._looking: asyncio.Task[GpusHere] | None = None

    async def close(self) -> None:
        await self.measured.close()
        if self._looking is not None:
            await asyncio.wait([self._looking])
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    async def check(self, models: Sequence[str], wishes: CheckWishes) -> list[CheckReport]:
        """One report a model, in their order. What is wrong with a model is a finding; raises
        `NotFound` or `InvalidInput` for wishes that mean nothing."""
        here = await self._gpus_here()
        machine = await self._in_thread(self._around.machine)
        return await together([self._check(model, wishes, machine, here) for model in models])

    async def where(self, model: str) -> str:
        """On what a cached model runs as it is set now, or why it does not: the verdict's summary
        behind the word `runs`."""
        try:
            [report] = await self.check([model], CheckWishes())
        except MeshtuiError as error:
            return one_line(error.message, 1000)
        return one_line(report.summary.removeprefix("runs "), 1000)

    async def _check(
        self, model: str, wishes: CheckWishes, machine: Machine, here: GpusHere
    ) -> CheckReport:
        connection, enabled = self._connection(model, wishes)
        execution = self._around.executions().get(connection.execution)
        there = None if execution is None else await self._clusters.look(execution)
        if execution is not None and there is not None:
            machine, here = machine_of(there, execution), there.gpus
        planned = self._runtime(connection, wishes, machine, here)
        place = Place(
            runtime=planned.status,
            built=planned.built or execution is not None,
            machine=machine,
            here=here,
            pod_gpus=None if execution is None else execution.gpus,
            told=there.findings if there is not None and wishes.gpu is None else (),
            enabled=enabled,
            choice=connection.engine_completion,
            seen=self.measured.find,
        )
        try:
            known = await self._known(model, wishes)
            if isinstance(known, CheckReport):
                return known
            if wishes.exact:
                answer = await self._exact(known, wishes, place)
                place = msgspec.structs.replace(place, exact=answer)
            report = await self._in_thread(functools.partial(check, known, wishes, place))
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
        return msgspec.structs.replace(report, model=one_line(model, 400))

    async def _exact(
        self, known: Known, wishes: CheckWishes, place: Place
    ) -> ExactAnswer | Unavailable | None:
        """What the runtime's own vLLM says; one at a time, as each takes gigabytes of memory."""
        subject = known.subject
        if subject.is_pipeline or not subject.has("config.json"):
            return None
        if not place.built or place.runtime.path is None:
            return Unavailable(
                f"The runtime {place.runtime.name} is not built, so its vLLM cannot be asked.",
                hint=f"Build it first: meshtui runtime build {place.runtime.name}",
            )
        case = await self._in_thread(functools.partial(case_of, subject, wishes, place))
        length = case.setting.max_tokens or (
            None
            if subject.broken_configuration
            else model_length(subject.configuration, case.setting.vllm_version)
        )
        try:
            async with self._exact_turn:
                return await ask_vllm(
                    environment_python(Path(place.runtime.path)),
                    subject.texts,
                    case.gpu or find_gpu("h100"),
                    tensor_parallel_size=case.serving.tensor_parallel_size,
                    lengths=(length,) if length else (),
                    max_model_len=case.setting.max_tokens,
                    kv_cache_dtype=case.serving.kv_cache_dtype,
                    quantization=case.setting.quantization,
                    max_num_batched_tokens=case.serving.max_num_batched_tokens,
                    max_num_seqs=case.serving.max_num_seqs,
                )
        except Unavailable as error:
            return error

    async def _known(self, model: str, wishes: CheckWishes) -> Known | CheckReport:
        """What is known of the model, or the report on one of which nothing could be read."""
        try:
            here = await self._in_thread(functools.partial(self._known_here, model))
        except MeshtuiError as error:
            return failed(model, error)
        if here is not None:
            return here
        try:
            return await self._known_there(ModelRef.parse(model), wishes)
        except MeshtuiError as error:
            return failed(model, error, "access")

    async def _known_there(self, ref: ModelRef, wishes: CheckWishes) -> Known:
        """Looks into a model on the Hub. What was just seen counts for a while."""
        connection = connection_for(self._around.connections(), str(ref), wishes.connection)
        reach = await self._in_thread(functools.partial(reach_of, connection))
        token = await self._in_thread(functools.partial(token_of, reach))
        key = key_of(ref, reach.endpoint, token)
        async with self._locks.setdefault(key, asyncio.Lock()):
            seen = self._seen_at.get(key)
            before = self._kept.get(key)
            if before is not None and seen and time.monotonic() - seen < _HUB_FRESH_S:
                return before
            async with self._turns:
                found = await look(ref, reach, WANTED, self._looks)
            if found.problem is None:
                self._seen_at[key] = time.monotonic()
            return await self._in_thread(functools.partial(self._keep_look, key, ref, found))

    def _keep_look(self, key: str, ref: ModelRef, found: Look) -> Known:
        signature = (found.model.commit, found.etag, found.problem, found.complete, found.refusal)
        return self._kept.fresh(key, signature, lambda: Known(subject_of_look(ref, found)))

    def _known_here(self, model: str) -> Known | None:
        """Looks into a folder or entry, unless it did and nothing has changed there; None where the
        model is not here."""
        if folder := folder_meant(model):
            return self._kept.fresh(
                str(folder), signature_of(folder), lambda: Known(subject_of_folder(folder))
            )
        entry = self._store.find(ModelRef.parse(model))
        if entry is None:
            return None
        return self._kept.fresh(
            str(entry.folder),
            signature_of(entry.model_dir),
            lambda: Known(subject_of_entry(entry)),
        )

    def _connection(
        self, model: str, wishes: CheckWishes
    ) -> tuple[Connection, EnabledModel | None]:
        """The connection that is asked for, else the first that enables the model, else one with
        nothing set; and the model's settings there."""
        found = connection_for(self._around.connections(), model, wishes.connection)
        if found is None:
            return Connection(name=""), None
        enabled = (one for one in found.enabled_models if one.model == model)
        return found, next(enabled, None)

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
