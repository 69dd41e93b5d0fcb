"""What can be done with entries, from the list and from the page of one."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from textual.dom import DOMNode

from meshtui.domain.errors import MeshtuiError
from meshtui.domain.model_cache import CacheEntry, Transfer

from .. import words
from ..frame import workstation
from ..work import start

if TYPE_CHECKING:
    from ..app import MeshtuiApp

Start = Callable[[], Awaitable[Transfer]]


def begin(node: DOMNode, starts: Sequence[Start], said: str) -> None:
    """Starts transfers one after the other, and says so. It goes on when the screen that asked
    is left."""
    app = workstation(node)
    start(app, partial(_begin, app, starts, said), group="cache")


async def _begin(app: "MeshtuiApp", starts: Sequence[Start], said: str) -> None:
    refused: list[MeshtuiError] = []
    for one in starts:
        try:
            await one()
        except MeshtuiError as error:
            refused.append(error)
    if len(refused) < len(starts):
        app.say(said)
    if refused:
        more = f" ({len(refused) - 1} more were refused.)" if len(refused) > 1 else ""
        app.say(f"{refused[0]}{more}", "error")


def verify(node: DOMNode, models: Sequence[str], *, against_hub: bool) -> None:
    client = workstation(node).client
    what = models[0] if len(models) == 1 else words.plural(len(models), "model")
    with_what = " against the Hub" if against_hub else ""
    begin(
        node,
        [partial(client.verify, model, against_hub) for model in models],
        f"Verifying {what}{with_what}; t shows how far.",
    )


def send(node: DOMNode, command: Awaitable[object], done: str = "") -> None:
    """Asks the controller for one thing, and says what came of it."""
    app = workstation(node)
    start(app, partial(_send, app, command, done), group="cache")


async def _send(app: "MeshtuiApp", command: Awaitable[object], done: str) -> None:
    try:
        await command
    except MeshtuiError as error:
        app.say(str(error), "error")
    else:
        if done:
            app.say(done)


def delete(node: DOMNode, models: Sequence[str]) -> None:
    app = workstation(node)
    start(app, partial(_delete, app, models), group="cache")


async def _delete(app: "MeshtuiApp", models: Sequence[str]) -> None:
    try:
        plans = await app.client.delete_models(models)
    except MeshtuiError as error:
        app.say(str(error), "error")
        return
    gone = [plan for plan in plans if not plan.refusal]
    if gone:
        what = gone[0].model if len(gone) == 1 else words.plural(len(gone), "model")
        app.say(f"Deleted {what}: {words.size(sum(plan.frees_bytes for plan in gone))} freed.")
    for plan in plans:
        if plan.refusal:
            app.say(f"{plan.model} stays: {plan.refusal}", "error")


def copy_path(node: DOMNode, entry: CacheEntry) -> None:
    workstation(node).copy(f"{entry.folder}/model", "Path")
