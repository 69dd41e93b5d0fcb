"""Which engines' versions a check counts with."""

from collections.abc import Mapping, Sequence

import msgspec
from packaging.requirements import InvalidRequirement, Requirement

from meshtui.deploy.definitions import install_plan, normalised
from meshtui.domain.errors import InvalidInput, NotFound
from meshtui.domain.runtime import BuildPhase, Package, RuntimeDefinition, RuntimeStatus
from meshtui.domain.text import one_line

# What an extra brings along that decides whether an engine can serve.
_OF_EXTRAS = {("transformers", "serving"): ("fastapi", "uvicorn")}


class PlannedRuntime(msgspec.Struct, frozen=True):
    """A runtime with its packages: the installed ones, or those that it would be built with."""

    status: RuntimeStatus
    built: bool


def runtime_for(
    name: str,
    runtimes: Sequence[RuntimeStatus],
    definitions: Mapping[str, RuntimeDefinition],
    cpu_flags: frozenset[str],
) -> PlannedRuntime:
    """The runtime of that name. Raises `NotFound` where there is none."""
    status = next((one for one in runtimes if one.name == name), None)
    if status is None and name not in definitions:
        known = ", ".join(sorted({*definitions, *(one.name for one in runtimes)}))
        raise NotFound(f"There is no runtime {one_line(name, 100)!r}.", hint=f"There are: {known}.")
    if status is not None and status.phase is BuildPhase.READY:
        return PlannedRuntime(status, built=True)
    if name not in definitions:
        return PlannedRuntime(status or RuntimeStatus(name=name), built=False)
    packages = planned_packages(definitions[name], cpu_flags)
    return PlannedRuntime(RuntimeStatus(name=name, packages=packages), built=False)


def planned_packages(
    definition: RuntimeDefinition, cpu_flags: frozenset[str]
) -> tuple[Package, ...]:
    """The packages that a definition asks for; those without an exact version have none."""
    try:
        plan = install_plan(definition, cpu_flags)
    except InvalidInput:
        return ()
    found: dict[str, str] = {}
    for text in plan.requirements:
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue
        name = normalised(wanted.name)
        exact = [s.version for s in wanted.specifier if s.operator in ("==", "===")]
        found[name] = exact[0] if exact else ""
        for extra in wanted.extras:
            found |= dict.fromkeys(_OF_EXTRAS.get((name, extra), ()), "")
    return tuple(Package(name, version) for name, version in found.items())
