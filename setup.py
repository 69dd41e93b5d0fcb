"""Lists the packages: those of the core and the folders that are installed inside it."""

from setuptools import find_packages, setup

INSTALLED_INSIDE = ("screens", "themes", "config")

setup(
    packages=[
        *find_packages(include=["meshtui", "meshtui.*"]),
        *(
            f"meshtui.{name}"
            for top in INSTALLED_INSIDE
            for name in find_packages(include=[top, f"{top}.*"])
        ),
    ]
)
