"""Screens compared with pictures in `snapshots/`.

A difference leaves `NAME.actual.svg` beside the picture. To accept it: run the tests with
`MESHTUI_UPDATE_SNAPSHOTS=1` and look at what changed before committing it.
"""

import os
import re
from pathlib import Path

from meshtui.screens.app import MeshtuiApp

FOLDER = Path(__file__).resolve().parents[2] / "snapshots"

# The exporter makes up a number for each picture.
_UNIQUE = re.compile(r"terminal-\d+")


def picture(app: MeshtuiApp) -> str:
    """What is on the screen, the same for the same screen."""
    return _UNIQUE.sub("terminal", app.export_screenshot(simplify=True)) + "\n"


def assert_looks(app: MeshtuiApp, name: str, *, sized: bool = True) -> None:
    """Fails where the screen is not as in `snapshots/NAME-WIDTHxHEIGHT.svg`, or `NAME.svg` where
    the name is not `sized`."""
    size = f"-{app.size.width}x{app.size.height}" if sized else ""
    path = FOLDER / f"{name}{size}.svg"
    actual, beside = picture(app), path.with_suffix(".actual.svg")
    beside.unlink(missing_ok=True)
    if os.environ.get("MESHTUI_UPDATE_SNAPSHOTS"):
        path.write_text(actual, "utf-8")
        return
    if not path.exists() or path.read_text("utf-8") != actual:
        beside.write_text(actual, "utf-8")
        raise AssertionError(
            f"{path.name} is {'not as before' if path.exists() else 'new'}: look at {beside}; "
            "MESHTUI_UPDATE_SNAPSHOTS=1 accepts it."
        )
