"""What runtimes are made of: the shipped definitions, and what one comes to on this machine."""

import hashlib
import tomllib
from importlib import resources

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from meshtui.domain.codec import from_plain, to_json
from meshtui.domain.errors import InvalidInput
from meshtui.domain.runtime import RuntimeDefinition

PER_BUILD = ("description", "disk_bytes", "environment")


class InstallPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the installer is asked for on this machine; `notices` say what was left out."""

    requirements: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def shipped_definitions() -> dict[str, RuntimeDefinition]:
    """The definitions that come with meshtui, by name."""
    found = {}
    for entry in resources.files("meshtui.config").joinpath("runtimes").iterdir():
        if entry.name.endswith(".toml"):
            name = entry.name.removesuffix(".toml")
            table = tomllib.loads(entry.read_text(encoding="utf-8"))
            found[name] = from_plain({"name": name, **table}, RuntimeDefinition)
    return dict(sorted(found.items()))


def install_plan(definition: RuntimeDefinition, cpu_flags: frozenset[str]) -> InstallPlan:
    """Requirements with the optional ones that this processor can use.

    Raises `InvalidInput` for requirements that are none.
    """
    requirements = list(definition.requirements)
    overrides = list(definition.overrides)
    notices = []
    for group in definition.optional:
        if not group.cpu_flags or cpu_flags.intersection(group.cpu_flags):
            requirements += group.requirements
            overrides += group.overrides
        elif group.reason_when_left_out:
            notices.append(group.reason_when_left_out)
    for text in (*requirements, *overrides):
        requirement_name(text)
    return InstallPlan(
        requirements=tuple(requirements), overrides=tuple(overrides), notices=tuple(notices)
    )


def requirement_name(text: str) -> str:
    """The normalised distribution name of a PEP 508 requirement; raises `InvalidInput`."""
    try:
        return normalised(Requirement(text).name)
    except InvalidRequirement as error:
        raise InvalidInput(
            f"{text!r} is not a requirement.", hint='Write it as in "vllm==0.32.0".'
        ) from error


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return name.lower().replace("_", "-").replace(".", "-")


def python_versions(definition: RuntimeDefinition) -> SpecifierSet:
    """The Python versions that the definition allows; raises `InvalidInput`."""
    try:
        return SpecifierSet(definition.python)
    except InvalidSpecifier as error:
        raise InvalidInput(
            f"{definition.python!r} in the runtime {definition.name} is not a Python version.",
            hint='Write it as in ">=3.10,<3.14".',
        ) from error


def fingerprint(definition: RuntimeDefinition) -> str:
    """Equal for definitions that build the same environment."""
    content = {
        key: value
        for key, value in msgspec.structs.asdict(definition).items()
        if key not in PER_BUILD
    }
    return hashlib.sha256(to_json(content)).hexdigest()[:16]
