"""The running side of one server on a cluster: what is done for it, what is seen of it, and who
waits for that.

The cluster runs it; here is only watched. So another controller, or this one after its end, goes
on with it by looking.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from meshtui.deploy.kubernetes.api import Json
from meshtui.deploy.kubernetes.client import drift, is_awake, scale
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.log_keeper import LogKeeper
from meshtui.deploy.kubernetes.marks import PodUse, Rest, last_used, rest_of
from meshtui.deploy.kubernetes.patience import Patience
from meshtui.deploy.kubernetes.phases import Observation
from meshtui.deploy.kubernetes.pod_log import last_words
from meshtui.deploy.kubernetes.pod_start import Deliver, object_name, start_pod
from meshtui.deploy.kubernetes.pod_way import PodWay
from meshtui.deploy.kubernetes.sight import Sight
from meshtui.deploy.kubernetes.spaces import Space
from meshtui.deploy.life import explain_start_error, new_outcome, start_failed, stopped_early
from meshtui.deploy.records import PodRecord
from meshtui.deploy.server import Server
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.errors import MeshtuiError, StartFailed
from meshtui.domain.execution import KubernetesExecution
from meshtui.domain.server import Explanation, Phase, PodPlace
from meshtui.domain.task import Engine

# When an end that the cluster refused is asked for again.
_RETRY_S = 30.0
# What the log alone tells comes after what the cluster sees.
_OF_THE_ENGINE = (Phase.LOADING_WEIGHTS, Phase.WARMING)

_log = logging.getLogger(__name__)


class PodLife:
    """At most one thing is done to the server at a time: it is started, or put to rest. `look`
    takes in what the cluster shows; nothing is asked for it."""

    def __init__(self, server: Server, space: Space, deliver: Deliver) -> None:
        self.server = server
        self.space = space
        self.name = object_name(server.status.id)
        self.way = PodWay(server, space, self.name)
        self.use = PodUse(server, space, self.name)
        self.logs = LogKeeper(server, space)
        self.is_lived = False
        """Whether it is starting or serving, and not on its way to an end."""
        self._deliver = deliver
        self._sight = Sight()
        self._acting: asyncio.Task[None] | None = None
        self._patience = Patience(self._lose_patience)
        self._later: asyncio.TimerHandle | None = None
        self._is_refused = False
        self._over = asyncio.Event()
        self._outcome = new_outcome()

    @property
    def is_ready(self) -> bool:
        return self.is_lived and self._outcome.done()

    # -- what is asked for

    def start(
        self, connection: Connection, enabled: EnabledModel, execution: KubernetesExecution
    ) -> None:
        """Begins a start unless it is lived; one that is on its way to an end starts after it."""
        if self.is_lived:
            return
        ending = self._acting if self._is_acting else None

        def begin() -> None:
            self.server.keep(connection=connection, enabled=enabled, pod=PodRecord(execution))
            self._begin()

        self.is_lived = True
        self._outcome = new_outcome()
        if ending is None:
            begin()
        self._act(self._start(ending, begin))

    def adopt(self, execution: KubernetesExecution) -> None:
        """Another controller made it: what the cluster shows of it comes next."""
        self.server.keep(pod=PodRecord(execution, is_made=True))
        self._begin()
        self.server.keep(engine=Engine.VLLM)
        self.server.change(engine=Engine.VLLM)

    def take_up(self) -> None:
        """Goes on where an earlier controller was, from its record."""
        phase, pod = self.server.phase, self.server.record.pod
        if pod is None or phase.is_over:
            return
        self.is_lived = True
        if phase is Phase.STOPPING:
            self.stop(self.server.status.phases[-1].message)
        elif phase.is_starting and not pod.is_made:
            self._act(self._start(None, lambda: None))
        elif phase is Phase.READY:
            self.server.rest()

    async def wait_ready(self) -> None:
        """Returns when this start is ready; raises `StartFailed`, or the `ClusterError` that
        keeps the cluster from being seen."""
        if not self._is_acting:
            await self.space.watched()
        await asyncio.shield(self._outcome)

    def stop(
        self, message: str = "", *, unless: Callable[[Json], bool] = lambda _: False
    ) -> asyncio.Task[None] | None:
        """Begins to put it to rest, or breaks off its start; gives the task that does, or None
        where it is over. `unless` holds of a Deployment that is to be left as it is."""
        if not self.is_lived:
            return self._acting if self._is_acting else None
        starting = self._acting if self._is_acting else None
        if starting is not None:
            starting.cancel()
        self.is_lived = False
        self._settle(stopped_early())
        return self._act(self._rest(starting, Rest(message=message), unless))

    def was_put_to_rest(self) -> None:
        """Another controller did so, and the watch does not show it yet."""
        self.is_lived = False

    async def over(self, timeout_s: float) -> None:
        """Returns when nothing of it runs, or after that time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._over.wait()
        except TimeoutError:
            _log.warning("%s is still not over", self.name)

    async def close(self) -> None:
        """Ends what runs here; the server lives on."""
        self._patience.forget()
        if self._later is not None:
            self._later.cancel()
        if self._acting is not None:
            self._acting.remove_done_callback(self._acted)
            self._acting.cancel()
            await asyncio.wait({self._acting})
        await self.logs.close()
        await self.use.close()
        await self.way.close()
        self._settle(StartFailed("The controller ended.", hint="Try again."))
        self.server.close()

    # -- what is done

    @property
    def _is_acting(self) -> bool:
        return self._acting is not None and not self._acting.done()

    def _act(self, doing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        if self._acting is not None:
            self._acting.remove_done_callback(self._acted)
        self._acting = asyncio.get_running_loop().create_task(doing, name=f"server {self.name}")
        self._acting.add_done_callback(self._acted)
        return self._acting

    def _acted(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.info("what was asked for %s did not come about: %s", self.name, error)
        self.look()

    async def _start(self, ending: asyncio.Task[None] | None, begin: Callable[[], None]) -> None:
        if ending is not None:
            await asyncio.wait({ending})
            begin()
        try:
            # What cannot be watched would never be seen to be ready.
            await self.space.watched()
            made = await start_pod(self.server, self.space, self._deliver)
        except Exception as error:
            self._end(explain_start_error(self.server, error))
            return
        self._took(made)

    async def _rest(
        self,
        starting: asyncio.Task[None] | None,
        rest: Rest,
        unless: Callable[[Json], bool],
    ) -> None:
        if starting is not None:
            await asyncio.wait({starting})
        try:
            cluster = await self.space.cluster()
            found = await scale(
                *(cluster, self.space.namespace, self.name, 0),
                annotations=rest.annotations(),
                unless=unless,
            )
        except MeshtuiError as error:
            if isinstance(error, ClusterError) and error.status == 404:
                self._end(rest.explanation, rest.message)
                return
            self.server.note(f"It could not be put to rest: {error.message}")
            self._is_refused = True
            if self._later is not None:
                self._later.cancel()
            self._later = asyncio.get_running_loop().call_later(_RETRY_S, self._try_again)
            self._go_on()
            raise
        self._took(found)
        if is_awake(found):
            self._go_on()

    async def _fail(self, seen: Observation, outcome: asyncio.Future[None]) -> None:
        """It will not come right by itself: it is put to rest with the reason."""
        cluster = await self.space.cluster()
        why = await last_words(cluster, self.space.namespace, seen)
        self.server.change(explanation=why)
        await self.logs.settled()  # it goes with the pod
        if not outcome.done():
            outcome.set_exception(start_failed(self.server, why))
        await self._rest(None, Rest(explanation=why), lambda _: False)

    def _begin(self) -> None:
        self.server.begin()
        self._over.clear()
        self.logs.forget()
        self._show(None, None)

    def _go_on(self) -> None:
        """It was not put to rest, so it serves on."""
        if self.is_lived:
            return  # a start waits for this end
        self.is_lived = True
        self._outcome = new_outcome()
        if self.server.phase is Phase.READY:
            self._settle(None)

    def _try_again(self) -> None:
        self._is_refused = False
        self.server.rest()
        self.look()

    def _took(self, deployment: Json) -> None:
        self._sight.made(deployment)
        pod = self.server.record.pod
        assert pod is not None
        self.server.keep(pod=PodRecord(pod.execution, is_made=True))

    def _end(self, why: Explanation | None, message: str = "") -> None:
        """Nothing of it runs."""
        self.is_lived = False
        self._patience.forget()
        self.logs.end()
        self.way.leave()
        self.server.over(why, message)
        self._settle_rest(why)
        self._over.set()

    def _settle_rest(self, why: Explanation | None) -> None:
        self._settle(start_failed(self.server, why) if why is not None else stopped_early())

    def _settle(self, error: Exception | None) -> None:
        if self._outcome.done():
            return
        if error is None:
            self._outcome.set_result(None)
        else:
            self._outcome.set_exception(error)

    # -- what is seen

    def look(self) -> None:
        """Takes in what the cluster shows now."""
        if not self.space.is_current or self._is_acting:
            return
        found = self.space.deployment(self.name)
        if self._sight.is_stale(found):
            return
        seen = self.space.seen(self.name) or Observation(phase=Phase.STOPPED)
        wanted = found is not None and is_awake(found)
        if wanted and not self.is_lived:
            # Somebody else woke it.
            self.is_lived = True
            self._outcome = new_outcome()
            self._begin()
        if self.server.phase.is_over and not wanted:
            self._show(None, found)
            return
        self._show(seen, found)
        if found is not None and (at := last_used(found)) is not None:
            self.server.used_elsewhere(at)
        if wanted:
            self._live(seen)
            return
        rest = rest_of(found) if found is not None else Rest(message="Somebody deleted it")
        self.is_lived = False
        self._settle_rest(rest.explanation)
        self.logs.end()
        if seen.phase is Phase.STOPPED or found is None:
            self._end(rest.explanation, rest.message)
        else:
            self.server.enter(Phase.STOPPING, rest.message)

    def troubled(self) -> None:
        """What keeps the view from being current has changed."""
        trouble, place = self.space.trouble, self.server.status.place
        if place is not None:
            told = trouble.message if trouble is not None else None
            self._place(msgspec.structs.replace(place, trouble=told))

    def _live(self, seen: Observation) -> None:
        if seen.pod is not None and seen.run is not None:
            self.logs.see(seen.pod, seen.run, goes_on=seen.runs)
        pod = self.server.record.pod
        assert pod is not None
        if seen.phase is Phase.READY:
            self._patience.forget()
            if self.server.phase is not Phase.READY:
                self.server.change(explanation=None)
                self.server.ready(seen.since)
            self.logs.ready()
            self._settle(None)
            return
        if self.server.phase is Phase.READY:
            self._outcome = new_outcome()  # who asks from now on waits for what follows
        again = pod.execution.restarts
        given_up = seen.restarts > again or (seen.restarts == again and not seen.runs and seen.run)
        if given_up and seen.explanation is not None and self.server.status.ready_at is None:
            self._give_up(seen)
            return
        self.server.change(explanation=seen.explanation)
        phase = Phase.SCHEDULING if seen.phase is Phase.FAILED else seen.phase
        if not (phase is Phase.STARTING and seen.runs and self.server.phase in _OF_THE_ENGINE):
            self.server.enter(phase, seen.message)
        self._patience.see(seen)

    def _lose_patience(self) -> None:
        seen = self.space.seen(self.name)
        if self.is_lived and not self._is_acting and seen is not None:
            self._give_up(seen)

    def _give_up(self, seen: Observation) -> None:
        if self._is_refused:
            return
        self._patience.forget()
        self.is_lived = False
        self._act(self._fail(seen, self._outcome))

    def _show(self, seen: Observation | None, deployment: Json | None) -> None:
        place = PodPlace(
            context=self.space.context,
            namespace=self.space.namespace,
            name=self.name,
            drift=drift(deployment) if deployment is not None else (),
            trouble=self.space.trouble.message if self.space.trouble is not None else None,
        )
        if seen is not None:
            place = msgspec.structs.replace(
                place, pod=seen.pod, node=seen.node, restarts=seen.restarts
            )
        self._place(place)

    def _place(self, place: PodPlace) -> None:
        if place != self.server.status.place:
            self.server.change(place=place)
