"""What controllers tell each other of a server, as annotations of its Deployment: when somebody
used it last, and why it rests. Two who share a server thus agree on when it is idle."""

import asyncio
import logging
import math
import time
from collections.abc import Mapping

import msgspec

from meshtui.deploy.kubernetes.api import Json
from meshtui.deploy.kubernetes.client import deployment_path
from meshtui.deploy.kubernetes.spaces import Space
from meshtui.deploy.server import Server
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.server import Explanation
from meshtui.domain.text import one_line, sanitise

LAST_USED = "meshtui.io/last-used"
RESTING = "meshtui.io/resting"
_MOST_CHARS = 4000
# A request that lasts is told of again; one that comes right after another is not.
_INTERVAL_S = 60.0
_SHARE_OF_TIMEOUT = 0.25

_log = logging.getLogger(__name__)


class Rest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a server was put to rest. With an `explanation` it had failed."""

    message: str = ""
    explanation: Explanation | None = None

    def annotations(self) -> dict[str, str | None]:
        return {RESTING: msgspec.json.encode(self).decode()}


AWAKE: Mapping[str, str | None] = {RESTING: None}


def rest_of(deployment: Json) -> Rest:
    """Why it rests, as far as somebody said so. The text is fit to be shown."""
    text = deployment["metadata"].get("annotations", {}).get(RESTING, "")
    try:
        found = msgspec.json.decode(text[: 4 * _MOST_CHARS], type=Rest)
    except msgspec.MsgspecError:
        return Rest()
    why = found.explanation
    if why is not None:
        why = Explanation(
            cause=one_line(why.cause, _MOST_CHARS),
            fix=one_line(why.fix, _MOST_CHARS),
            failure_id=why.failure_id,
            excerpt=sanitise(why.excerpt),
        )
    return Rest(message=one_line(found.message, _MOST_CHARS), explanation=why)


def last_used(deployment: Json) -> float | None:
    """When somebody used it last (seconds since the epoch), as far as that was told. Clocks that
    are ahead of ours do not count as the future."""
    text = deployment["metadata"].get("annotations", {}).get(LAST_USED, "")
    try:
        found = float(text)
    except ValueError:
        return None
    return min(found, time.time()) if math.isfinite(found) else None


class PodUse:
    """Tells other controllers that a server is used: `tell` before a request, `goes_on` at its
    beginning; while requests last, it is told again and again."""

    def __init__(self, server: Server, space: Space, name: str) -> None:
        self._server = server
        self._space = space
        self._path = deployment_path(space.namespace, name)
        self._told_at = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def _interval_s(self) -> float:
        timeout_s = self._server.record.enabled.idle_timeout_s
        return min(_INTERVAL_S, timeout_s * _SHARE_OF_TIMEOUT) if timeout_s else _INTERVAL_S

    async def tell(self) -> Json | None:
        """Costs a request once in a while; gives the Deployment as it was then, else None."""
        now = time.time()
        if now - self._told_at < self._interval_s:
            return None
        try:
            cluster = await self._space.cluster()
            body = {"metadata": {"annotations": {LAST_USED: f"{now:.0f}"}}}
            found = await cluster.patch(self._path, body)
        except MeshtuiError as error:
            # Whoever may not say it may prompt all the same.
            _log.info("it is not told that %s is used: %s", self._path, error)
            return None
        self._told_at = now
        return found

    def goes_on(self) -> None:
        """A request began."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._tell(), name="pod-use")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _tell(self) -> None:
        while self._server.is_busy:
            await asyncio.sleep(self._interval_s)
            await self.tell()
