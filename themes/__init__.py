"""Colour themes as plain data: one TOML file each, shipped beside this module or the user's own.

A theme names colours as `#rrggbb` or as one of the terminal's own (`ansi_blue`,
`ansi_default`), so that the same file format serves true colour and 16 colours.
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from platformdirs import PlatformDirs

DEFAULT = "meshtui-dark"

_COLOURS = (
    "primary",
    "secondary",
    "accent",
    "success",
    "warning",
    "error",
    "foreground",
    "background",
    "surface",
    "panel",
    "boost",
)


@dataclass(frozen=True)
class ThemeData:
    """A colour theme. `colours` has the standard roles (`primary`, `success`, ...), `variables`
    any further names. `code` is the Pygments style for code; `ansi` leaves all colours to the
    terminal's palette."""

    name: str
    dark: bool = True
    ansi: bool = False
    code: str = "monokai"
    colours: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BrokenTheme:
    """A theme file that cannot be used, and why."""

    path: Path
    reason: str


def user_folder() -> Path:
    """Where a user's own theme files are looked for."""
    return Path(PlatformDirs("meshtui", appauthor=False).user_config_dir) / "themes"


def load(folder: Path | None = None) -> tuple[list[ThemeData], list[BrokenTheme]]:
    """The shipped themes, then those of `folder` (default: the user's), which replace shipped
    ones of the same name."""
    themes: dict[str, ThemeData] = {}
    broken: list[BrokenTheme] = []
    for place in (Path(__file__).parent, folder or user_folder()):
        if not place.is_dir():
            continue
        for path in sorted(place.glob("*.toml")):
            try:
                theme = parse(path.stem, path.read_text("utf-8"))
            except (OSError, ValueError) as error:
                broken.append(BrokenTheme(path, str(error)))
            else:
                themes[theme.name] = theme
    return list(themes.values()), broken


def parse(name: str, text: str) -> ThemeData:
    """A theme from TOML; raises `ValueError` that says what is wrong."""
    data = tomllib.loads(text)
    colours = _strings(data, "colours")
    unknown = sorted(set(colours) - set(_COLOURS))
    if unknown:
        raise ValueError(f"unknown colours {', '.join(unknown)}; known: {', '.join(_COLOURS)}")
    if "primary" not in colours:
        raise ValueError("[colours] needs at least `primary`")
    return ThemeData(
        name=name,
        dark=bool(data.get("dark", True)),
        ansi=bool(data.get("ansi", False)),
        code=str(data.get("code", "monokai" if data.get("dark", True) else "friendly")),
        colours=colours,
        variables=_strings(data, "variables"),
    )


def _strings(data: dict[str, object], table: str) -> dict[str, str]:
    values = data.get(table, {})
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise ValueError(f"[{table}] must be a table of strings")
    return {str(key): str(value) for key, value in values.items()}
