"""Which downloads a person may make, and through which connection."""

from collections.abc import Iterable, Mapping

from meshtui.domain.connection import Connection
from meshtui.domain.errors import NotAllowed, NotFound
from meshtui.settings.config import UsersConfig


def is_admin(user: str, users: UsersConfig) -> bool:
    """Whether the user of that login name is an administrator; without any named, everyone is."""
    return not users.admins or user in users.admins


def check_download(
    user: str,
    model: str,
    connection: str | None,
    *,
    users: UsersConfig,
    connections: Iterable[Connection],
) -> None:
    """Raises `NotAllowed` where `user` (a login name) is no administrator and `model` is not
    enabled on `connection` (None: on any)."""
    if is_admin(user, users):
        return
    enabled_on = [
        one.name for one in connections if any(e.model == model for e in one.enabled_models)
    ]
    if enabled_on and connection in (None, *enabled_on):
        return
    where = "any connection" if connection is None else f"the connection {connection}"
    raise NotAllowed(
        f"{user} may download only models that are enabled on a connection; {model} is not "
        f"enabled on {where}.",
        hint="An administrator (see [users] admins in config.toml) can enable or download it.",
    )


def connection_for(
    connections: Mapping[str, Connection], model: str, name: str | None
) -> Connection | None:
    """The named connection (raises `NotFound`), else the first one that enables the model, else
    None: then the environment says how the Hub is reached."""
    if name is not None:
        if name not in connections:
            known = ", ".join(connections) or "none"
            raise NotFound(f"There is no connection {name!r}.", hint=f"There are: {known}.")
        return connections[name]
    for connection in connections.values():
        if any(enabled.model == model for enabled in connection.enabled_models):
            return connection
    return None
