"""Verifies config/presets.toml, and works out its settings for each class of GPUs.

    python scripts/refresh_presets.py [--offline] [--check] [NAME ...]

Each preset is looked up on the Hub (HF_ENDPOINT, HF_TOKEN and HF_HOME count as everywhere): its
licence, whether it is gated, its task and the number of its parameters are put right, and the
settings are worked out anew with meshtui's own checker. `--offline` asks nobody: settings come from
the configurations that the tests carry. `--check` writes nothing and ends with status 1 where
something would change. What cannot be asked is told, and stays as it is.
"""

import argparse
import asyncio
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from meshtui.compat.configuration import Configuration  # noqa: E402
from meshtui.compat.lengths import model_length  # noqa: E402
from meshtui.compat.sources.hub import WANTED, subject_of_look  # noqa: E402
from meshtui.compat.subject import Subject  # noqa: E402
from meshtui.controller.check_place import planned_packages  # noqa: E402
from meshtui.deploy.definitions import shipped_definitions  # noqa: E402
from meshtui.domain.check import CheckReport, CheckWishes, Verdict  # noqa: E402
from meshtui.domain.errors import MeshtuiError  # noqa: E402
from meshtui.domain.memory import GpuSpec  # noqa: E402
from meshtui.domain.model_ref import ModelRef  # noqa: E402
from meshtui.domain.preset import GPU_CLASSES_GB, Preset, PresetSettings  # noqa: E402
from meshtui.domain.runtime import RuntimeStatus  # noqa: E402
from meshtui.engines.check.case import Place  # noqa: E402
from meshtui.engines.check.known import Known, weight_files, weight_names  # noqa: E402
from meshtui.engines.check.verdict import check  # noqa: E402
from meshtui.hub.look import look  # noqa: E402
from meshtui.hub.looks import Looks  # noqa: E402
from meshtui.hub.reach import reach_of  # noqa: E402
from meshtui.memory.fit import PARALLEL_SIZES  # noqa: E402
from meshtui.settings.presets import presets_of  # noqa: E402
from tests.support.preset_subjects import members_of, subject_of  # noqa: E402

TARGET = ROOT / "config" / "presets.toml"
# Lengths that people would choose, beside the model's own.
_LENGTHS = (262_144, 131_072, 65_536, 32_768, 16_384, 8_192, 4_096)
# From here on a length is worth having; below it, more GPUs are better.
_COMFORTABLE = 16_384
_LEAST = 4_096
# Several parameters are in one element of these.
_PACKED = ("U8", "I32", "U32", "F4", "F8_E8M0")


def settings_of(known: Known, preset: Preset) -> tuple[PresetSettings, ...]:
    """For each class of GPUs the fewest on which the model runs well, and how long requests may
    be there: on every GPU of the class, with the least memory that estimates allow for."""
    found = (_settings_for(known, preset, size) for size in GPU_CLASSES_GB)
    return tuple(one for one in found if one is not None)


def _settings_for(known: Known, preset: Preset, gpu_gb: int) -> PresetSettings | None:
    if known.subject.is_pipeline:
        fits = all(_runs(known, preset, gpu, 1, None) for gpu in members_of(gpu_gb))
        return PresetSettings(gpu_gb=gpu_gb) if fits else None
    own = _own_length(known.subject.configuration)
    best: PresetSettings | None = None
    for gpus in PARALLEL_SIZES:
        length = _longest(known, preset, gpu_gb, gpus, own)
        if length is None or (best is not None and length <= (best.max_tokens or 0)):
            continue
        best = PresetSettings(gpu_gb=gpu_gb, gpus=gpus, max_tokens=length)
        if length >= min(own, _COMFORTABLE):
            return best
    return best


def _own_length(configuration: Configuration) -> int:
    own = model_length(configuration) or _LENGTHS[0]
    # RoBERTa counts positions from behind its padding token: two of them are never used.
    return own - 2 if configuration.model_type in ("roberta", "xlm-roberta") else own


def _longest(known: Known, preset: Preset, gpu_gb: int, gpus: int, own: int) -> int | None:
    lengths = [own, *(length for length in _LENGTHS if length < own)]
    for length in lengths:
        if length < min(own, _LEAST):
            return None
        # The smallest GPU of the class settles most of it.
        if all(_runs(known, preset, gpu, gpus, length) for gpu in members_of(gpu_gb)):
            return length
    return None


def _runs(known: Known, preset: Preset, gpu: GpuSpec, gpus: int, length: int | None) -> bool:
    report = judged(known, preset, gpu, PresetSettings(gpu_gb=0, gpus=gpus, max_tokens=length))
    memory = next((one for one in report.findings if one.rule == "memory"), None)
    is_close = memory is not None and memory.level != "ok"
    return report.verdict is not Verdict.BLOCKED and not is_close and _fits(report)


def _fits(report: CheckReport) -> bool:
    return report.memory is not None and report.memory.fits is True


def judged(known: Known, preset: Preset, gpu: GpuSpec, settings: PresetSettings) -> CheckReport:
    """The verdict on a preset with settings, in the shipped runtime, on a GPU of the catalogue."""
    wishes = CheckWishes(
        task=preset.task,
        gpu=gpu.name,
        gpus=settings.gpus,
        tensor_parallel_size=settings.gpus,
        max_tokens=settings.max_tokens,
        quantization=settings.quantization,
        kv_cache_dtype=settings.kv_cache_dtype,
        trust_remote_code=preset.trust_remote_code,
    )
    return check(known, wishes, shipped_place())


def shipped_place() -> Place:
    """The shipped runtime for GPUs, as it would be built."""
    packages = planned_packages(shipped_definitions()["gpu"], frozenset())
    return Place(runtime=RuntimeStatus(name="gpu", packages=packages), built=False)


async def asked(preset: Preset, looks: Looks) -> tuple[Preset, Subject]:
    """The preset with what the Hub says of its model, and the model. Raises `MeshtuiError`."""
    ref = ModelRef.parse(preset.model)
    subject = subject_of_look(ref, await look(ref, reach_of(None), WANTED, looks))
    facts = msgspec.structs.replace(
        preset,
        licence=subject.licence or preset.licence,
        gated=subject.access.gated,
        parameters=_parameters(subject) or preset.parameters,
    )
    return facts, subject


def _parameters(subject: Subject) -> int | None:
    """How many the headers of the weights name; None where they are packed, or not known."""
    named = weight_files(subject)
    if not named or len(named) != len(weight_names(subject)):
        return None
    tensors = [tensor for header in named.values() for tensor in header.tensors.values()]
    if any(tensor.dtype in _PACKED for tensor in tensors):
        return None
    return sum(tensor.elements for tensor in tensors)


def refreshed(preset: Preset, *, offline: bool, looks: Looks) -> Preset:
    """The preset as it should be. Raises `MeshtuiError` where its model cannot be looked into."""
    subject: Subject | None
    if offline:
        subject = subject_of(preset.model)
        if subject is None:
            raise MeshtuiError("the tests carry no configuration of it")
    else:
        preset, subject = asyncio.run(asked(preset, looks))
    if subject.broken_configuration:
        raise MeshtuiError(subject.broken_configuration)
    return msgspec.structs.replace(preset, settings=settings_of(Known(subject), preset))


def text_of(head: str, presets: list[Preset]) -> str:
    """The file, with its keys in the order of the type."""
    return head + "\n".join(_table(preset) for preset in presets)


def _table(preset: Preset) -> str:
    lines = [f"[{_key(preset.name)}]"]
    for name, value in msgspec.to_builtins(preset).items():
        if name == "settings":
            lines.append("settings = [")
            lines += [f"  {_inline(one)}," for one in value]
            lines.append("]")
        elif name != "name":
            lines.append(f"{name} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() else f'"{name}"'


def _inline(table: dict[str, object]) -> str:
    return "{ " + ", ".join(f"{key} = {_value(value)}" for key, value in table.items()) + " }"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:_}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return msgspec.json.encode(value).decode()


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="only these presets")
    parser.add_argument("--offline", action="store_true", help="from the tests' configurations")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--file", type=Path, default=TARGET, help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    before = arguments.file.read_text(encoding="utf-8")
    presets = presets_of(tomllib.loads(before))
    unknown = 0
    with TemporaryDirectory() as folder:
        for name, preset in presets.items():
            if arguments.names and name not in arguments.names:
                continue
            try:
                presets[name] = refreshed(
                    preset, offline=arguments.offline, looks=Looks(Path(folder))
                )
            except MeshtuiError as error:
                unknown += 1
                print(f"{name}: {error}", file=sys.stderr)
                continue
            if presets[name] != preset:
                print(f"{name}: {_difference(preset, presets[name])}")
    after = text_of(before[: before.index("[")], [*presets.values()])
    if not arguments.check:
        arguments.file.write_text(after, encoding="utf-8")
    return 1 if unknown or (arguments.check and after != before) else 0


def _difference(before: Preset, after: Preset) -> str:
    names = [n for n in before.__struct_fields__ if getattr(before, n) != getattr(after, n)]
    return "; ".join(f"{n}: {getattr(before, n)!r} -> {getattr(after, n)!r}" for n in names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
