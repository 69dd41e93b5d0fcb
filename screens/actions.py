"""All actions with their keys, as the help screen and the command palette show them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen

from .frame import WorkScreen, key_name


@dataclass(frozen=True)
class Action:
    """`action` is to be run on `node`; `key` is empty where only the palette has it. `name` is the
    word beside the key in the footer."""

    node: DOMNode
    action: str
    title: str
    name: str
    key: str
    possible: bool


def of_screen(screen: Screen[Any]) -> list[Action]:
    """What the screen itself offers."""
    kinds = [kind for kind in type(screen).__mro__ if issubclass(kind, WorkScreen)]
    return _distinct(
        action for kind in kinds for action in _of(screen, kind.__dict__.get("BINDINGS", ()))
    )


def of_app(app: App[Any]) -> list[Action]:
    """What is offered everywhere."""
    return _distinct(_of(app, type(app).__dict__.get("BINDINGS", ())))


def _of(node: DOMNode, bindings: object) -> Iterator[Action]:
    if not isinstance(bindings, list):
        return
    for binding in bindings:
        if isinstance(binding, Binding) and binding.description and not binding.system:
            name, _, rest = binding.action.partition("(")
            parameters = tuple(part.strip(" '\")") for part in rest.split(",") if rest)
            yield Action(
                node,
                binding.action,
                binding.tooltip or binding.description,
                binding.description,
                " ".join(key_name(key) for key in binding.key.split(",")),
                bool(node.check_action(name, parameters)),
            )


def _distinct(actions: Iterator[Action]) -> list[Action]:
    """Each action once, with all its keys."""
    found: dict[str, Action] = {}
    for action in actions:
        before = found.get(action.action)
        keys = f"{before.key} {action.key}" if before else action.key
        found[action.action] = Action(
            action.node,
            action.action,
            before.title if before else action.title,
            before.name if before else action.name,
            keys,
            action.possible,
        )
    return list(found.values())
