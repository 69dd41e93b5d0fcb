"""How models come to the servers of a connection, as its properties say it."""

import posixpath

from meshtui.domain.connection import Connection
from meshtui.domain.delivery import Delivery, DeliveryMode
from meshtui.domain.errors import InvalidInput
from meshtui.domain.execution import KubernetesExecution
from meshtui.domain.model_ref import ModelRef

MODE = "model.delivery"
PATH = "model.path"
IMAGE = "model.image"


def delivery_of(connection: Connection, execution: KubernetesExecution, ref: ModelRef) -> Delivery:
    """Without `model.delivery`, the workstation's cache is sent where the connection uses it and
    there is a volume to send it to; else the Hub is asked. Raises `InvalidInput`."""
    said = connection.properties.get(MODE, "").strip().lower()
    if not said:
        managed = connection.use_managed_cache and execution.storage is not None
        return Delivery(mode=DeliveryMode.MANAGED_CACHE if managed else DeliveryMode.DIRECT)
    if said not in [mode.value for mode in DeliveryMode]:
        raise InvalidInput(
            f"{MODE} of the connection {connection.name} is {said!r}.",
            hint=f"It is one of {', '.join(mode.value for mode in DeliveryMode)}.",
        )
    mode = DeliveryMode(said)
    image = connection.properties.get(IMAGE, "").strip() or None
    if mode is DeliveryMode.EXISTING:
        path = _filled(connection.properties.get(PATH, ""), ref)
        if image is None and not path:
            raise InvalidInput(
                f"The connection {connection.name} does not say where its models are.",
                hint=f"Set {PATH} to a folder of the volume, such as models/{{model}}, or {IMAGE} "
                "to an image that holds the model.",
            )
        if image is None:
            _need_storage(connection, execution, mode)
        return Delivery(mode=mode, path=path, image=image)
    if mode is DeliveryMode.MANAGED_CACHE:
        _need_storage(connection, execution, mode)
    return Delivery(mode=mode)


def _filled(pattern: str, ref: ModelRef) -> str:
    """The path with the model's name in its places, without steps out of the volume."""
    owner, _, name = ref.model_id.rpartition("/")
    parts = {"model": ref.model_id, "org": owner, "name": name, "revision": ref.revision or "main"}
    for key, value in parts.items():
        pattern = pattern.replace(f"{{{key}}}", value)
    path = posixpath.normpath(pattern.strip().lstrip("/")) if pattern.strip() else ""
    if path == ".." or path.startswith("../"):
        raise InvalidInput(f"{PATH} leads out of the volume: {pattern}.")
    return "" if path == "." else path


def _need_storage(
    connection: Connection, execution: KubernetesExecution, mode: DeliveryMode
) -> None:
    if execution.storage is None:
        raise InvalidInput(
            f"The connection {connection.name} delivers models by {mode.value}, and "
            f"{execution.name} has no volume for them.",
            hint="Add a [storage] section to the execution config.",
        )
