"""The repository as it is installed: one package tree in which `screens` is `meshtui.screens`.

Type checker and import linter walk folders, so they need to see the folders where they are
installed. The tree is made of links; nothing is copied.
"""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
INSTALLED_INSIDE = ("screens", "themes", "config")


def make_tree(target: Path) -> Path:
    """Fills `target` with `meshtui/`, links to every part; returns `target`."""
    package = target / "meshtui"
    package.mkdir(parents=True)
    for source in sorted((REPOSITORY / "meshtui").iterdir()):
        if source.name != "__pycache__":
            (package / source.name).symlink_to(source)
    for name in INSTALLED_INSIDE:
        (package / name).symlink_to(REPOSITORY / name)
    return target
