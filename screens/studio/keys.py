"""The keys of the studio, and when an action on an answer means something."""

from textual.binding import Binding, BindingType

from .answer import Answer


def _key(
    keys: str, action: str, name: str, what: str = "", *, show: bool = True, first: bool = False
) -> Binding:
    """A binding whose id stays the same when its keys are changed."""
    more = "" if show else ".more"
    return Binding(
        keys, action, name, tooltip=what, show=show, priority=first, id=f"studio.{action}{more}"
    )


def allows(answer: Answer, action: str) -> bool:
    """Whether an action means something for an answer as it stands."""
    match action:
        case "copy":
            return bool(answer.text) or answer.explanation is not None
        case "save":
            return bool(answer.text) or bool(answer.pictures)
        case "toggle_raw":
            return bool(answer.text)
        case "star":
            return answer.standing.is_over and answer.run_id is not None
        case "rerun":
            return answer.standing.is_over
        case "log":
            return answer.server_id is not None
    return True


BINDINGS: list[BindingType] = [
    _key("escape", "cancel_run", "Cancel", "Cancel the answer that is on its way"),
    _key("ctrl+r,f5", "run", "Run", "Run the prompt"),
    _key("escape", "to_answers", "Answers", "From the editor to the answers"),
    _key("escape", "to_prompt", "Prompt", "From the answers to the editor"),
    # Before the widgets: those that scroll have these keys for going sideways.
    _key("ctrl+pagedown", "page('answers')", "Answers", "Go to the answers", first=True),
    _key("ctrl+pageup", "page('prompt')", "Prompt", "Go to the editor", first=True),
    _key("y", "copy", "Copy", "Copy the marked answer, or the report of its failure"),
    _key("r", "rerun", "Again", "Run the marked answer's prompt again"),
    _key("l", "log", "Log", "Open the log of the marked answer's server"),
    _key("m", "toggle_raw", "Raw", "Switch between Markdown and plain text"),
    _key("s", "star", "Star", "Star the marked answer, or take its star"),
    _key("e", "edit", "Edit", "Put the marked answer's prompt into the editor"),
    _key("w", "save", "Save", "Save the marked answer to a file"),
    _key("ctrl+n", "new", "New", "Start anew: empty editor, no conversation"),
    _key("ctrl+l", "model", "Model", "Choose a model"),
    _key("ctrl+o", "history", "History", "Find and restore a past run"),
    _key("ctrl+g", "chat", "Chat", "Switch between single prompts and chat"),
    _key("h", "history", "History", show=False),
    _key("ctrl+t", "toggle_raw", "Raw", show=False),
    _key("ctrl+s", "save", "Save", show=False),
]
