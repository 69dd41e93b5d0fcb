"""The way to a comparison: with what, and on its screen."""

from collections.abc import Callable, Sequence

import msgspec
from textual.screen import Screen

from .asking import Case
from .choosing import GPU_KEY, MODEL_KEY, ComparePicker
from .compare_screen import CompareScreen
from .names import Suggestion, full_name
from .parameters import Known


def compare(
    screen: Screen[None],
    case: Case,
    known: Known,
    models: Sequence[Suggestion],
    go_on_with: Callable[[Case], None],
) -> None:
    """Asks with what the case is to be compared, and shows them side by side."""

    def choose(chosen: Callable[[Case], None]) -> None:
        def named(key: str | None) -> None:
            if key:
                chosen(other_case(case, key))

        screen.app.push_screen(ComparePicker(known, models), named)

    def show(other: Case) -> None:
        screen.app.push_screen(CompareScreen([case, other], known, add=choose, opened=go_on_with))

    choose(show)


def other_case(case: Case, key: str) -> Case:
    """The same model on another GPU, or another model under the same wishes."""
    if key.startswith(GPU_KEY):
        gpu = key.removeprefix(GPU_KEY)
        return Case(case.model, msgspec.structs.replace(case.wishes, gpu=gpu))
    return Case(
        full_name(key.removeprefix(MODEL_KEY)),
        msgspec.structs.replace(case.wishes, connection=None),
    )
