"""Presets: the shipped ones, the user's over them, and what is told of files that are wrong."""

import tomllib
from pathlib import Path

import pytest

from meshtui.domain.errors import InvalidInput, NotFound
from meshtui.domain.preset import Preset, PresetSettings, Purpose
from meshtui.domain.task import Task
from meshtui.settings import paths
from meshtui.settings.presets import Presets, shipped_presets
from tests.controller_support import running_controller

OWN = """\
model = "acme/our-model"
label = "Ours"
purpose = "chat"
task = "text-generation"
settings = [{ gpu_gb = 24, max_tokens = 8192 }, { gpu_gb = 80, gpus = 2, kv_cache_dtype = "fp8" }]
colour = "red"
"""


def own(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def test_the_shipped_ones_are_there_without_any_file(tmp_path: Path) -> None:
    presets = Presets(tmp_path / "presets")
    presets.refresh()
    assert list(presets.all) == list(shipped_presets()) and presets.broken == ()
    assert not (tmp_path / "presets").exists()


def test_the_users_file_stands_for_the_shipped_one_of_its_name(tmp_path: Path) -> None:
    name = next(iter(shipped_presets()))
    own(tmp_path, name, OWN)
    own(tmp_path, "ours", OWN)
    presets = Presets(tmp_path)
    presets.refresh()
    assert presets.all[name].model == "acme/our-model"
    assert [*presets.all][-1] == "ours"
    presets.delete(name)
    assert presets.all[name] == shipped_presets()[name]


def test_a_preset_is_found_by_its_name_and_by_its_model(tmp_path: Path) -> None:
    own(tmp_path, "ours", OWN)
    presets = Presets(tmp_path)
    presets.refresh()
    assert presets.find("ours") is presets.find("acme/our-model")
    with pytest.raises(NotFound):
        presets.find("theirs")


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("model = ", 1, "Invalid value"),
        (OWN.replace('"chat"', '"gossip"'), 3, "purpose"),
        (OWN.replace("acme/our-model", "nothing here"), 1, "model"),
        (OWN.replace("gpu_gb = 80", "gpu_gb = 24"), 5, "two settings for 24 GB"),
        (OWN.replace("max_tokens = 8192", "max_tokens = 0"), 5, "max_tokens: must be at least 1"),
        (OWN.replace("gpus = 2", "gpus = 0"), 5, "gpus: must be from 1 to 1024"),
        ("parameters = -1\n" + OWN, 1, "parameters: must be at least 1"),
        (OWN.replace('label = "Ours"', "label = 7"), 2, "label"),
        ('name = "other"\n' + OWN, 1, "the file's name is the object's name"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    tmp_path: Path, text: str, line: int, reason: str
) -> None:
    path = own(tmp_path, "ours", text)
    presets = Presets(tmp_path)
    presets.refresh()
    [broken] = presets.broken
    assert broken.path == str(path) and broken.line == line and reason in broken.reason
    assert "ours" not in presets.all


def test_unknown_keys_survive_a_rewrite(tmp_path: Path) -> None:
    path = own(tmp_path, "ours", OWN)
    presets = Presets(tmp_path)
    presets.refresh()
    presets.save(presets.all["ours"])
    data = tomllib.loads(path.read_text())
    assert data["colour"] == "red" and "name" not in data
    assert data["settings"] == tomllib.loads(OWN)["settings"]
    with pytest.raises(InvalidInput):
        presets.save(Preset(name="x", model="", purpose=Purpose.CHAT, task=Task.TEXT_GENERATION))


def test_the_settings_of_the_largest_class_that_is_there_count() -> None:
    at_24 = PresetSettings(gpu_gb=24, max_tokens=8192)
    at_80 = PresetSettings(gpu_gb=80, gpus=2, kv_cache_dtype="fp8")
    preset = Preset(
        name="ours", model="acme/ours", purpose=Purpose.CHAT, task=Task.TEXT_GENERATION,
        settings=(at_80, at_24),
    )  # fmt: skip
    assert preset.settings_for(16) is None
    assert preset.settings_for(24) is preset.settings_for(48) is at_24
    assert preset.settings_for(192) is at_80
    enabled = preset.enabled_model(at_80)
    assert (enabled.model, enabled.tensor_parallel_size) == ("acme/ours", 2)
    assert enabled.extra_engine_args == ("--kv-cache-dtype", "fp8")
    assert preset.enabled_model().max_tokens is None


async def test_the_controller_tells_them_and_what_is_broken() -> None:
    folder = paths.config_dir() / "presets"
    own(folder, "ours", OWN)
    own(folder, "wrong", "model = 3")
    async with running_controller() as running:
        presets = await running.client.presets()
        assert [preset.name for preset in presets] == [*shipped_presets(), "ours"]
        overview = await anext(running.client.events())
        assert any("wrong.toml" in broken.path for broken in overview.broken)  # type: ignore[union-attr]
