"""The tables of `config/memory/kv_vllm.toml`: which rules an architecture and a version follow."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from meshtui.memory.settings import ServingSettings
from meshtui.settings.shipped import toml_data

_TABLE = "memory/kv_vllm.toml"


@cache
def family_of(architecture: str) -> str | None:
    """The name of the rules for an architecture; None where it is not listed."""
    return _families().get(architecture)


def pools(architectures: tuple[str, ...]) -> bool:
    """Whether vLLM would run the model to embed, rank or classify by default."""
    runners = toml_data(_TABLE)["runners"]
    endings = tuple(runners["pooling_endings"])
    return any(name in runners["pooling"] or name.endswith(endings) for name in architectures)


@cache
def model_types(group: str) -> frozenset[str]:
    """Model types of a group, such as `mla`."""
    return frozenset(toml_data(_TABLE)["model_types"][group])


def entry_of_version(
    table: str,
    settings: ServingSettings,
    fits: Callable[[Mapping[str, Any]], bool] = lambda entry: True,
) -> Mapping[str, Any]:
    """The first entry of a table that holds for the version and the condition."""
    entries: list[dict[str, Any]] = toml_data(_TABLE)[table]
    return next(entry for entry in entries if settings.applies(entry) and fits(entry))


@cache
def _families() -> dict[str, str]:
    return {
        architecture: family
        for family, architectures in toml_data(_TABLE)["families"].items()
        for architecture in architectures
    }
