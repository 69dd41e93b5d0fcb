"""A terminal workstation for running Hugging Face models on your own GPUs.

For programs: `connect` and `connect_async` (see `meshtui.mesh`).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshtui.mesh import AsyncMesh, Mesh

__version__ = "0.1.0"


def connect(*, spawn: bool = True) -> "Mesh":
    """The models of this machine's user, for programs; the controller is started where none runs,
    unless `spawn` is False. Raises `meshtui.domain.errors.Unavailable` where none can be reached.
    """
    from meshtui.mesh import Mesh

    return Mesh(spawn=spawn)


def connect_async(*, spawn: bool = True) -> "AsyncMesh":
    """As `connect`, for programs with an event loop: `async with connect_async() as mesh`."""
    from meshtui.mesh import AsyncMesh

    return AsyncMesh(spawn=spawn)
