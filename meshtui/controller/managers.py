"""The managers of this machine, as the controller runs them."""

import functools

import msgspec

from meshtui.cache.store import ModelStore
from meshtui.controller.parts import Managers, Surroundings
from meshtui.deploy.everywhere import AllServers
from meshtui.deploy.kubernetes.delivery_start import ModelDelivery
from meshtui.deploy.kubernetes.pod_manager import PodManager
from meshtui.deploy.models import ModelShelf
from meshtui.deploy.runtimes import RuntimeManager
from meshtui.deploy.servers import ServerManager
from meshtui.engines.base import Machine
from meshtui.engines.machine import detect, free_shared_memory_bytes
from meshtui.settings import paths
from meshtui.settings.store import Settings


def local_managers(settings: Settings, around: Surroundings) -> Managers:
    """Servers as processes here and as pods on clusters, runtimes as virtual environments, models
    in the managed cache."""
    # Asking the driver takes up to seconds, and the hardware stays what it is.
    hardware = functools.cache(detect)

    def machine() -> Machine:
        return msgspec.structs.replace(hardware(), shared_memory_bytes=free_shared_memory_bytes())

    runtimes = RuntimeManager(
        runtimes_dir=paths.runtimes_dir(),
        definitions=lambda: settings.runtime_definitions,
        on_change=around.runtime_changed,
        machine=machine,
    )
    models = ModelShelf(ModelStore(paths.models_dir()), download=around.download_model)
    here = ServerManager(
        servers_dir=paths.servers_dir(),
        runtimes=runtimes,
        models=models,
        on_change=around.server_changed,
        on_removed=around.server_removed,
        machine=machine,
    )
    pods = PodManager(
        pods_dir=paths.pods_dir(),
        connections=lambda: settings.connections.all,
        executions=lambda: settings.executions.objects,
        on_change=around.server_changed,
        on_removed=around.server_removed,
        deliver=ModelDelivery(models),
    )
    servers = AllServers(here, pods)
    return Managers(servers=servers, runtimes=runtimes, models=models, machine=machine)
