"""The keys of the checker."""

from textual.binding import Binding, BindingType

from .parameters import PARAMETERS

# The actions that are not always possible.
CONDITIONAL = (
    "explain",
    "deploy",
    "apply",
    "compare",
    "export",
    "copy",
    "to_model",
    "memory",
    "again",
    "cancel",
)


def _key(keys: str, action: str, name: str, what: str = "", *, show: bool = True) -> Binding:
    """A binding whose id stays the same when its keys are changed."""
    identity = action.translate(str.maketrans("(", ".", "')\" "))
    return Binding(keys, action, name, tooltip=what, show=show, id=f"check.{identity}")


BINDINGS: list[BindingType] = [
    _key("enter", "explain", "Explain", "Explain the marked finding"),
    _key("d", "deploy", "Deploy", "Deploy the model with these settings"),
    _key("a", "apply", "Apply", "Take over what the checker proposes"),
    _key("c", "compare", "Compare", "Put another model or GPU beside it"),
    _key("x", "export", "Export", "Write the report to a file, as Markdown or JSON"),
    _key("y", "copy", "Copy", "Copy the report as Markdown"),
    _key("slash", "to_model", "Model", "Type another model's name"),
    _key("m", "memory", "Memory", "Show how the memory adds up"),
    _key("f5,ctrl+r", "again", "Again", "Check again, with what is there now"),
    _key("left", "turn(-1)", "Less", "The value before, of the marked parameter", show=False),
    _key("right", "turn(1)", "More", "The next value of the marked parameter", show=False),
    _key("space", "values", "Values", "List all values of the marked parameter", show=False),
    *(
        _key(
            parameter.letter,
            f"turn_that('{parameter.name}', 1)",
            f"{parameter.name_for_people}: next value",
            show=False,
        )
        for parameter in PARAMETERS
    ),
    *(
        _key(
            parameter.letter.upper(),
            f"turn_that('{parameter.name}', -1)",
            f"{parameter.name_for_people}: value before",
            show=False,
        )
        for parameter in PARAMETERS
    ),
    _key("backspace,delete", "reset", "Auto", "Leave the marked parameter to the checker",
         show=False),
    _key("0", "reset_all", "All auto", "Leave all parameters to the checker", show=False),
    _key("escape", "cancel", "Cancel", "Stop waiting for the answer"),
]  # fmt: skip
