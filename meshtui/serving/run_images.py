"""Starts the server of pictures: `python run_images.py MODEL_DIR --port 8000`.

The folder `images` beside this file is loaded as a package of its own, so that no other package of
the workstation comes into the runtime's sight.
"""

import importlib
import importlib.util
import sys
from pathlib import Path

NAME = "meshtui_images"


def load() -> None:
    folder = Path(__file__).resolve().parent / "images"
    spec = importlib.util.spec_from_file_location(
        NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    load()
    sys.exit(importlib.import_module(f"{NAME}.main").main())
