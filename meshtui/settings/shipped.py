"""Data that is shipped with the package, and which of it applies to an installed version."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

Release = tuple[int, ...]


@lru_cache(maxsize=1024)
def release(version: str) -> Release:
    """The numbers of a version, without what follows them (`0.32.0.post1+cpu` -> (0, 32, 0))."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", version.strip())
    return tuple(int(part) for part in match[1].split(".")) if match else ()


@cache
def toml_data(name: str) -> dict[str, Any]:
    """A TOML file of `meshtui.config`, such as `engines/vllm.toml`."""
    return tomllib.loads(files("meshtui.config").joinpath(name).read_text(encoding="utf-8"))


@cache
def json_data(name: str) -> Any:
    """A JSON file of `meshtui.config`, such as `failures.json`."""
    return json.loads(files("meshtui.config").joinpath(name).read_text(encoding="utf-8"))


def data_names(folder: str) -> tuple[str, ...]:
    """The JSON files in a folder of `meshtui.config`."""
    return tuple(
        sorted(
            entry.name
            for entry in files("meshtui.config").joinpath(folder).iterdir()
            if entry.name.endswith(".json")
        )
    )


def applies(entry: Mapping[str, Any], version: str | None) -> bool:
    """Whether an entry's `since` and `before` include the version; unknown counts as newest."""
    installed = release(version) if version else ()
    if not installed:
        return "before" not in entry
    if installed < release(entry.get("since", "0")):
        return False
    return "before" not in entry or installed < release(entry["before"])


def first_applying(entries: Iterable[Mapping[str, Any]], version: str | None) -> Mapping[str, Any]:
    """The first entry that applies to the version; there always is one in shipped data."""
    return next(entry for entry in entries if applies(entry, version))
