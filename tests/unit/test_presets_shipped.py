"""The shipped presets: sourced facts, settings that fit, and the script that keeps them so."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from meshtui.domain.check import Verdict
from meshtui.domain.preset import GPU_CLASSES_GB, Capability, Preset, Purpose
from meshtui.domain.task import Task
from meshtui.engines.check.known import Known
from meshtui.settings.presets import shipped_presets
from scripts.refresh_presets import TARGET, judged
from tests.support.hub_thread import hub_in_thread
from tests.support.preset_subjects import members_of, subject_of
from tests.support.shelf import safetensors

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "refresh_presets.py"
PRESETS = shipped_presets()
TASKS = {
    Purpose.VISION: Task.IMAGE_TEXT_TO_TEXT,
    Purpose.EMBEDDING: Task.FEATURE_EXTRACTION,
    Purpose.RERANKING: Task.TEXT_RANKING,
    Purpose.CLASSIFICATION: Task.TEXT_CLASSIFICATION,
    Purpose.IMAGE_GENERATION: Task.TEXT_TO_IMAGE,
}


def script(*words: str, hub: str = "http://127.0.0.1:9") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "HF_ENDPOINT": hub},
    )


def test_there_is_something_for_every_purpose_and_every_class_of_gpus() -> None:
    assert {preset.purpose for preset in PRESETS.values()} == set(Purpose)
    can = {one for preset in PRESETS.values() for one in preset.capabilities}
    assert can == set(Capability)
    for gpu_gb in GPU_CLASSES_GB:
        for purpose in Purpose:
            assert any(
                preset.purpose is purpose and preset.settings_for(gpu_gb)
                for preset in PRESETS.values()
            ), (gpu_gb, purpose)
    assert len({preset.model for preset in PRESETS.values()}) == len(PRESETS)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_facts_are_complete_and_have_a_source(preset: Preset) -> None:
    assert preset.source and preset.licence and preset.label and preset.settings
    assert preset.task is TASKS.get(preset.purpose, preset.task)
    assert preset.parameters is not None
    assert preset.active_parameters is None or preset.active_parameters < preset.parameters
    assert (Capability.IMAGE in preset.capabilities) == (preset.task is Task.IMAGE_TEXT_TO_TEXT)
    assert {settings.gpu_gb for settings in preset.settings} <= set(GPU_CLASSES_GB)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_settings_fit_on_every_gpu_of_their_class(preset: Preset) -> None:
    subject = subject_of(preset.model)
    assert subject is not None, "carry its configuration in tests/data/presets/configs"
    known = Known(subject)
    for settings in preset.settings:
        members = members_of(settings.gpu_gb)
        assert members
        for gpu in members:
            report = judged(known, preset, gpu, settings)
            assert report.verdict is not Verdict.BLOCKED, (gpu.name, report.summary)
            assert report.memory is not None and report.memory.fits, (gpu.name, settings)
            assert report.task is preset.task


def test_the_file_is_what_the_script_makes() -> None:
    done = script("--offline", "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_script_puts_right_what_the_hub_says_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "presets.toml"
    head = "# Ours.\n\n"
    file.write_text(
        head + '[tiny]\nmodel = "acme/tiny"\npurpose = "chat"\ntask = "text-generation"\n'
        'licence = "apache-2.0"\nparameters = 7\n\n'
        '[gone]\nmodel = "acme/gone"\npurpose = "chat"\ntask = "text-generation"\n'
    )
    subject = subject_of("Qwen/Qwen3-0.6B")
    assert subject is not None
    with hub_in_thread() as hub:
        files = {
            "config.json": subject.texts["config.json"],
            "README.md": b"---\nlicense: mit\n---\n",
            "model.safetensors": safetensors(1000),
            "tokenizer.json": b"{}",
        }
        hub.add("acme/tiny", files)
        before = file.read_text()
        checked = script("--check", "--file", str(file), hub=hub.url)
        assert checked.returncode == 1 and "'apache-2.0' -> 'mit'" in checked.stdout
        assert file.read_text() == before
        done = script("--file", str(file), hub=hub.url)
    assert done.returncode == 1 and "gone:" in done.stderr
    text = file.read_text()
    assert text.startswith(head)
    data = tomllib.loads(text)
    assert (data["tiny"]["licence"], data["tiny"]["parameters"]) == ("mit", 1000)
    assert {one["gpu_gb"] for one in data["tiny"]["settings"]} == set(GPU_CLASSES_GB)
    assert "settings" not in data["gone"]
    assert TARGET.read_text().startswith("# Well-known models")
