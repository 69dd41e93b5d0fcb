"""How a server comes to run on a cluster: its model delivered, its objects made or woken."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.client import (
    api_key,
    deploy,
    find,
    is_awake,
    read_spec,
    scale,
)
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.marks import AWAKE
from meshtui.deploy.kubernetes.spaces import Space
from meshtui.deploy.kubernetes.spec import PodServer, describe
from meshtui.deploy.server import Server
from meshtui.domain.connection import EnabledModel
from meshtui.domain.server import Phase
from meshtui.domain.task import Engine
from meshtui.domain.text import sanitise
from meshtui.settings.secrets import resolve

# Brings a server's model to where its pod finds it.
Deliver = Callable[[Server, Cluster, PodServer], Awaitable[None]]


async def start_pod(server: Server, space: Space, deliver: Deliver) -> Json:
    """Gives the Deployment, which wants a pod then. One that runs already is taken as it is,
    whoever made it. Raises `MeshtuiError`. Cancelled, it has made nothing or is done with it."""
    cluster = await space.cluster()
    name = object_name(server.status.id)
    found = await find(cluster, space.namespace, name)
    wanted = await _describe(server, cluster)
    if found is None or not is_awake(found):
        await deliver(server, cluster, wanted)
        # It may have taken long, and somebody else may have been faster.
        found = await find(cluster, space.namespace, name)
    if found is not None and is_awake(found):
        if differing := _differing(server, found):
            server.add_notice(
                f"It runs already, with other settings for {differing}: stop it first if yours "
                "are to count."
            )
        return found
    server.enter(Phase.SCHEDULING, "Telling the cluster")
    making = asyncio.ensure_future(_make(server, cluster, wanted, found))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        # What was asked for comes true: whoever deletes it must come after that.
        await asyncio.wait({making})
        raise


def object_name(server_id: str) -> str:
    """The name of a server's objects, as `PodServer.name`."""
    return f"mt-{server_id}"


async def _describe(server: Server, cluster: Cluster) -> PodServer:
    record = server.record
    assert record.pod is not None
    execution = record.pod.execution
    connection = record.connection
    token = None
    if connection.access_token is not None:
        token = await asyncio.to_thread(resolve, connection.access_token)
    name = object_name(server.status.id)
    key = await api_key(cluster, execution.namespace, name)
    wanted = describe(connection, record.enabled, execution, hub_token=token, api_key=key)
    server.keep(engine=Engine.VLLM, model_dir=wanted.fetched_to or wanted.model.model_id)
    server.change(
        engine=Engine.VLLM,
        engine_reason="Pods run vLLM.",
        command=tuple(sanitise(part) for part in wanted.argv),
    )
    return wanted


async def _make(server: Server, cluster: Cluster, wanted: PodServer, found: Json | None) -> Json:
    try:
        made = await deploy(cluster, wanted)
    except ClusterError as error:
        if found is None or error.status != 409:
            raise
        server.add_notice(
            "Others changed its objects on the cluster, so they are left as they are: remove "
            f"the server to have them made anew. {error.message}"
        )
        made = found
    if is_awake(made):
        return made
    return await scale(cluster, wanted.execution.namespace, wanted.name, 1, annotations=AWAKE)


def _differing(server: Server, found: Json) -> str:
    """The settings that a running server has not from us."""
    spec = read_spec(found)
    if spec is None:
        return ""
    ours, theirs = _settings(server.record.enabled), _settings(spec.enabled)
    return ", ".join(name for name in ours if ours[name] != theirs[name])


def _settings(enabled: EnabledModel) -> dict[str, object]:
    """Those that the engine was started with."""
    ours = msgspec.structs.asdict(enabled)
    # Secrets are in no description; the others are affairs of each workstation.
    for name in ("engine_environment", "display_name", "generation", "idle_timeout_s"):
        del ours[name]
    return ours
