"""`meshtui model`: which models are worth a look, and what is known of them."""

import argparse

from meshtui.cli import exit_codes
from meshtui.cli.command import Noun, print_json
from meshtui.cli.text import table
from meshtui.client import ControllerClient
from meshtui.domain.errors import NotFound
from meshtui.domain.preset import GPU_CLASSES_GB, Capability, Preset, PresetSettings, Purpose
from meshtui.domain.task import Task
from meshtui.domain.text import one_line


def run(words: list[str]) -> int:
    noun = Noun("model", "Well-known models: what they are for, and where they run.")
    presets = noun.verb("presets", _presets, "models that meshtui knows something of")
    presets.add_argument("name", metavar="NAME", nargs="?", help="a preset or model: all of it")
    add = presets.add_argument
    add("--purpose", choices=[one.value for one in Purpose], help="what they are for")
    add("--task", choices=[one.value for one in Task], help="as the Hub calls it")
    add("--capability", choices=[one.value for one in Capability], action="append", default=[],
        help="what they can do; several: all of them")  # fmt: skip
    add("--gpu-gb", type=int, metavar="GB", help="what runs on GPUs with that much memory")
    add("--gpus", type=int, metavar="N", default=None, help="and on at most that many of them")
    add("--open", action="store_true", help="only models whose terms nobody has to accept first")
    return noun.run(words)


async def _presets(client: ControllerClient, arguments: argparse.Namespace) -> int:
    found = [preset for preset in await client.presets() if _is_wanted(preset, arguments)]
    if arguments.name is not None:
        return _one(found, arguments)
    if arguments.json:
        print_json(found)
        return exit_codes.OK
    gpu_gb = arguments.gpu_gb
    head = ("NAME", "MODEL", "PURPOSE", "SIZE", "LICENCE", "CAN", *_class_heads(gpu_gb))
    print(table(head, (_row(preset, gpu_gb) for preset in found), right=("SIZE",)))
    return exit_codes.OK


def _is_wanted(preset: Preset, arguments: argparse.Namespace) -> bool:
    if arguments.name is not None and arguments.name not in (preset.name, preset.model):
        return False
    if arguments.purpose and preset.purpose != arguments.purpose:
        return False
    if arguments.task and preset.task != arguments.task:
        return False
    if not set(arguments.capability) <= set(preset.capabilities):
        return False
    if arguments.open and preset.gated:
        return False
    if arguments.gpu_gb is None:
        return True
    settings = preset.settings_for(arguments.gpu_gb)
    return settings is not None and (arguments.gpus is None or settings.gpus <= arguments.gpus)


def _one(found: list[Preset], arguments: argparse.Namespace) -> int:
    if not found:
        raise NotFound(f"There is no preset {arguments.name!r}.", hint="See: meshtui model presets")
    preset = found[-1]
    if arguments.json:
        print_json(preset)
        return exit_codes.OK
    for name, value in (
        ("name", preset.name),
        ("model", preset.model),
        ("purpose", f"{preset.purpose.value} ({preset.task.value})"),
        ("parameters", _size(preset)),
        ("licence", preset.licence or "–"),
        ("access", "its terms must be accepted on the Hub" if preset.gated else "open"),
        ("can", _can(preset)),
        ("source", preset.source or "–"),
    ):
        print(f"{name:<12} {one_line(value)}")
    print(table(("GPU", "GPUS", "CONTEXT", "KV CACHE", "QUANTIZATION"),
                (_settings_row(one) for one in preset.settings)))  # fmt: skip
    return exit_codes.OK


def _class_heads(gpu_gb: int | None) -> tuple[str, ...]:
    return tuple(f"{size} GB" for size in ((gpu_gb,) if gpu_gb else GPU_CLASSES_GB))


def _row(preset: Preset, gpu_gb: int | None) -> tuple[str, ...]:
    classes = (gpu_gb,) if gpu_gb else GPU_CLASSES_GB
    return (
        preset.name,
        preset.model,
        preset.purpose.value,
        _size(preset),
        preset.licence + (" (gated)" if preset.gated else ""),
        _can(preset),
        *(_short(preset.settings_for(size)) for size in classes),
    )


def _size(preset: Preset) -> str:
    if preset.parameters is None:
        return "–"
    active = preset.active_parameters
    return _billions(preset.parameters) + (f" (A{_billions(active)})" if active else "")


def _billions(count: int) -> str:
    """`8.2B`, `23M`."""
    if count < 1_000_000_000:
        return f"{count / 1e6:.0f}M"
    return f"{count / 1e9:.1f}B" if count < 100_000_000_000 else f"{count / 1e9:.0f}B"


def _can(preset: Preset) -> str:
    return " ".join(one.value for one in preset.capabilities) or "–"


def _short(settings: PresetSettings | None) -> str:
    """`2 × 32k`: GPUs and context length."""
    if settings is None:
        return "–"
    length = settings.max_tokens
    words = "yes" if length is None else f"{length // 1024}k" if length >= 1024 else str(length)
    return f"{settings.gpus} × {words}" if settings.gpus > 1 else words


def _settings_row(settings: PresetSettings) -> tuple[str, ...]:
    return (
        f"{settings.gpu_gb} GB",
        str(settings.gpus),
        f"{settings.max_tokens:,}" if settings.max_tokens else "auto",
        settings.kv_cache_dtype or "auto",
        settings.quantization or "–",
    )
