"""Writing to a file that the user names."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .app import MeshtuiApp


async def save_new(app: "MeshtuiApp", name: str, data: bytes) -> None:
    """Writes it, and says where or why not; an existing file is kept."""
    path = Path(name)
    try:
        path = await asyncio.to_thread(_write_new, path, data)
    except FileExistsError:
        app.say(f"{path} exists already and was left as it is; choose another name.", "error")
    except OSError as error:
        app.say(f"{path} could not be written: {error.strerror or error}.", "error")
    else:
        app.say(f"Saved as {path}.")


def _write_new(path: Path, data: bytes) -> Path:
    path = path.expanduser().absolute()
    with path.open("xb") as file:
        file.write(data)
    return path
