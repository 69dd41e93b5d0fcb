"""Finds a Python that a runtime can be built with."""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from meshtui.domain.errors import MeshtuiError
from meshtui.domain.runtime import RuntimeDefinition

_PROBE_TIMEOUT_S = 20
_NAMES = ("python3.13", "python3.12", "python3.11", "python3.10", "python3", "python3.14")
# Debian's python3 comes without ensurepip until python3-venv is installed.
_PROBE = (
    "import json,platform,sys,importlib.util as u;"
    "print(json.dumps([platform.python_version(),"
    "bool(u.find_spec('ensurepip') and u.find_spec('venv')),sys.executable]))"
)


class NoInterpreter(MeshtuiError):
    """No Python that the runtime's definition allows."""

    code = "no-interpreter"
    http_status = 503


class Interpreter(msgspec.Struct, frozen=True):
    """A Python that answers. `makes_environments`: it has venv and ensurepip."""

    path: str
    version: str
    makes_environments: bool


async def find_interpreter(
    definition: RuntimeDefinition, versions: SpecifierSet, *, with_venv: bool
) -> Interpreter:
    """The definition's interpreter, else this process's own, else the newest on PATH.

    `with_venv`: only one that can make an environment by itself. Raises `NoInterpreter`.
    """
    if definition.interpreter:
        return await _named(definition, definition.interpreter, versions, with_venv)
    refused = []
    for candidate in (sys.executable, *_NAMES):
        found = await probe(candidate)
        if found is None:
            continue
        if Version(found.version) not in versions:
            refused.append(f"{found.path} is Python {found.version}")
        elif with_venv and not found.makes_environments:
            refused.append(f"{found.path} lacks the venv module")
        else:
            return found
    raise NoInterpreter(
        f"No Python {versions} was found for the runtime {definition.name}"
        + (f" ({'; '.join(dict.fromkeys(refused))})." if refused else "."),
        hint="Install one (with venv: on Debian the package python3-venv), or name its path as "
        f"`interpreter` in runtimes/{definition.name}.toml.",
    )


async def _named(
    definition: RuntimeDefinition, name: str, versions: SpecifierSet, with_venv: bool
) -> Interpreter:
    hint = f"Correct `interpreter` in runtimes/{definition.name}.toml."
    found = await probe(_expanded(name))
    if found is None:
        raise NoInterpreter(
            f"The interpreter {name!r} of the runtime {definition.name} does not run.", hint=hint
        )
    if Version(found.version) not in versions:
        raise NoInterpreter(
            f"The interpreter {name!r} is Python {found.version}; "
            f"the runtime {definition.name} needs {versions}.",
            hint=hint,
        )
    if with_venv and not found.makes_environments:
        raise NoInterpreter(
            f"The interpreter {name!r} cannot make environments: it lacks the venv module.",
            hint="On Debian, install the package python3-venv.",
        )
    return found


async def probe(candidate: str) -> Interpreter | None:
    """What the interpreter says of itself; None if it is none, or does not answer in time."""
    path = shutil.which(candidate)
    if path is None:
        return None
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            "-I",
            "-S",
            "-c",
            _PROBE,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            output, _ = await process.communicate()
        version, makes_environments, executable = json.loads(output)
    except (TimeoutError, ValueError):
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Interpreter(executable or path, _release(version), makes_environments)


def _expanded(name: str) -> str:
    return str(Path(name).expanduser()) if "/" in name else name


def _release(version: str) -> str:
    """Without a distributor's suffix, which would be no valid version: `3.11.2+` is 3.11.2."""
    return version.rstrip("+").partition("+")[0]


def find_uv() -> Path | None:
    """The `uv` beside this interpreter, else that on PATH."""
    beside = Path(sys.executable).with_name("uv")
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("uv")
    return Path(found) if found else None
