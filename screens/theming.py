"""Theme files as the toolkit's themes; one that would break the style sheet is refused."""

from textual.color import Color, ColorParseError
from textual.theme import Theme

from meshtui import themes
from meshtui.domain.text import one_line

_TEXT_STYLES = {"none", "bold", "dim", "italic", "reverse", "strike", "underline", "not"}


def load() -> tuple[list[Theme], dict[str, str], tuple[str, ...]]:
    """The themes, the Pygments style that goes with each, and what is wrong with the others."""
    found, broken = themes.load()
    problems = [f"{item.path}: {item.reason}" for item in broken]
    usable: list[Theme] = []
    for data in found:
        if wrong := _wrong(data):
            problems.append(f"Theme {data.name}: {wrong}")
        else:
            usable.append(_theme(data))
    codes = {data.name: data.code for data in found}
    return usable, codes, tuple(one_line(problem) for problem in problems)


def _theme(data: themes.ThemeData) -> Theme:
    return Theme(
        name=data.name,
        dark=data.dark,
        ansi=data.ansi,
        variables=data.variables,
        **data.colours,  # type: ignore[arg-type]
    )


def _wrong(data: themes.ThemeData) -> str:
    for name, value in {**data.colours, **data.variables}.items():
        if name in data.variables and set(value.split()) <= _TEXT_STYLES:
            continue
        try:
            Color.parse(value)
        except ColorParseError:
            return f"{name} is {value!r}, which is not a colour"
    return ""
