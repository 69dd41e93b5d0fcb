"""Runtimes are really built, with uv and with pip, from small packages."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import msgspec
import pytest

from meshtui.deploy.interpreters import find_uv
from meshtui.deploy.runtime_types import BuildFailed
from meshtui.deploy.runtimes import RuntimeManager
from meshtui.domain.errors import Conflict, NotFound
from meshtui.domain.runtime import BuildPhase, RuntimeDefinition, RuntimeStatus
from meshtui.engines.base import Machine
from tests.support.processes import is_running
from tests.support.waiting import eventually

INSTALLERS = ["uv", "pip"]
TINY = RuntimeDefinition(name="tiny", requirements=("meshtui-one==1.0",), python=">=3.10")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """An index of our own: a folder of wheels."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder, "meshtui-one", "1.0")
    make_wheel(folder, "meshtui-one", "2.0")
    make_wheel(folder, "meshtui-two", "1.0", requires=("meshtui-one==2.0+cpu", "meshtui-three"))
    make_wheel(folder, "meshtui-three", "1.0")
    return folder


def make_wheel(folder: Path, name: str, version: str, requires: tuple[str, ...] = ()) -> None:
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(
        f"Requires-Dist: {text}\n" for text in requires
    )
    files = {
        f"{module}.py": f"version = {version!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as wheel:
        for path, content in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, content)


class Bench:
    """A manager over definitions that can change, and what it said."""

    def __init__(self, folder: Path, wheels: Path, installer: str = "uv") -> None:
        self.folder = folder
        self.definitions: dict[str, RuntimeDefinition] = {"tiny": local(TINY, wheels)}
        self.seen: list[RuntimeStatus] = []
        self.changed = asyncio.Event()
        self.machine = Machine()
        self.uv: Callable[[], Path | None] = find_uv if installer == "uv" else lambda: None
        self.manager = self.make()

    def make(self) -> RuntimeManager:
        return RuntimeManager(
            runtimes_dir=self.folder,
            definitions=lambda: self.definitions,
            on_change=self._note,
            machine=lambda: self.machine,
            uv=self.uv,
        )

    def _note(self, status: RuntimeStatus) -> None:
        self.seen.append(status)
        self.changed.set()

    async def ended(self, name: str = "tiny") -> RuntimeStatus:
        async with asyncio.timeout(60):
            while self.manager.get(name).phase is BuildPhase.BUILDING:
                self.changed.clear()
                await self.changed.wait()
        return self.manager.get(name)

    async def begun(self) -> None:
        async with asyncio.timeout(60):
            while not any(status.phase is BuildPhase.BUILDING for status in self.seen):
                self.changed.clear()
                await self.changed.wait()

    async def until(self, text: str) -> None:
        async with asyncio.timeout(60):
            while not (self.seen and text in self.seen[-1].step):
                self.changed.clear()
                await self.changed.wait()


def local(definition: RuntimeDefinition, wheels: Path) -> RuntimeDefinition:
    arguments = ("--no-index", "--find-links", str(wheels))
    return msgspec.structs.replace(definition, extra_args=arguments)


@pytest.fixture
async def bench(tmp_path: Path, wheels: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "runtimes", wheels)
    await bench.manager.open()
    yield bench
    await bench.manager.close()


def quiet(status: RuntimeStatus) -> None:
    pass


@pytest.mark.parametrize("installer", INSTALLERS)
async def test_a_runtime_is_built_and_lists_its_packages(
    tmp_path: Path, wheels: Path, installer: str
) -> None:
    bench = Bench(tmp_path / "runtimes", wheels, installer)
    await bench.manager.open()
    steps: list[str] = []
    async with asyncio.timeout(60):
        installed = await bench.manager.ensure("tiny", lambda status: steps.append(status.step))
    status = installed.status
    assert status.phase is BuildPhase.READY
    assert status.version("meshtui_one") == "1.0"
    assert status.python == ".".join(map(str, sys.version_info[:3]))
    assert status.size_bytes and status.size_bytes > 0
    assert status.finished_at and status.started_at
    assert status.finished_at >= status.started_at
    assert len(steps) >= 3
    ran = subprocess.run(
        [installed.python, "-c", "import meshtui_one as m; print(m.version)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "1.0\n"
    log = bench.manager.log_path("tiny").read_text()
    assert "building tiny" in log
    assert "Ready" in log
    again = bench.make()
    await again.open()
    assert again.get("tiny") == status
    await again.close()
    await bench.manager.close()


@pytest.mark.parametrize("installer", INSTALLERS)
async def test_overrides_replace_what_a_package_asks_for(
    tmp_path: Path, wheels: Path, installer: str
) -> None:
    bench = Bench(tmp_path / "runtimes", wheels, installer)
    definition = RuntimeDefinition(
        name="tiny",
        requirements=("meshtui-one", "meshtui-two"),
        overrides=("meshtui-one==1.0",),
    )
    bench.definitions["tiny"] = local(definition, wheels)
    await bench.manager.open()
    async with asyncio.timeout(60):
        status = (await bench.manager.ensure("tiny", quiet)).status
    names = ("meshtui-one", "meshtui-two", "meshtui-three")
    assert [status.version(name) for name in names] == ["1.0", "1.0", "1.0"]
    await bench.manager.close()


async def test_two_who_need_it_get_one_build(bench: Bench) -> None:
    async with asyncio.timeout(60):
        one, two = await asyncio.gather(
            bench.manager.ensure("tiny", quiet), bench.manager.ensure("tiny", quiet)
        )
    assert one == two
    assert bench.manager.log_path("tiny").read_text().count("building tiny") == 1


async def test_two_controllers_build_it_once(bench: Bench) -> None:
    other = bench.make()
    await other.open()
    async with asyncio.timeout(60):
        one, two = await asyncio.gather(
            bench.manager.ensure("tiny", quiet), other.ensure("tiny", quiet)
        )
    assert one.python == two.python
    assert bench.manager.log_path("tiny").read_text().count("building tiny") == 1
    await other.close()


async def test_who_waits_may_leave_without_ending_the_build(bench: Bench) -> None:
    waiting = asyncio.create_task(bench.manager.ensure("tiny", quiet))
    # Short steps may be passed over where changes are told ten times a second at most.
    await bench.begun()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (await bench.ended()).phase is BuildPhase.READY


@pytest.mark.parametrize("installer", INSTALLERS)
async def test_contradictions_are_explained(tmp_path: Path, wheels: Path, installer: str) -> None:
    bench = Bench(tmp_path / "runtimes", wheels, installer)
    definition = RuntimeDefinition(
        name="tiny", requirements=("meshtui-one==1.0", "meshtui-one==2.0")
    )
    bench.definitions["tiny"] = local(definition, wheels)
    await bench.manager.open()
    with pytest.raises(BuildFailed) as error:
        await bench.manager.ensure("tiny", quiet)
    assert error.value.explanation
    assert error.value.explanation.failure_id == "install-conflict"
    assert str(bench.manager.log_path("tiny")) in str(error.value)
    status = bench.manager.get("tiny")
    assert status.phase is BuildPhase.FAILED
    assert status.explanation == error.value.explanation
    assert not list((bench.folder / "tiny").glob("venv-*"))
    # It is not the end: corrected, it builds.
    bench.definitions["tiny"] = local(TINY, wheels)
    await bench.manager.build("tiny")
    assert (await bench.ended()).phase is BuildPhase.READY
    await bench.manager.close()


@pytest.mark.parametrize("installer", INSTALLERS)
async def test_an_unreachable_index_is_explained_and_its_password_kept(
    tmp_path: Path, wheels: Path, installer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://me:s3cret@127.0.0.1:{closed.getsockname()[1]}/simple"
    bench = Bench(tmp_path / "runtimes", wheels, installer)
    bench.definitions["tiny"] = msgspec.structs.replace(TINY, index_url=url)
    await bench.manager.open()
    with pytest.raises(BuildFailed) as error:
        await bench.manager.ensure("tiny", quiet)
    assert error.value.explanation
    assert error.value.explanation.failure_id == "install-index-unreachable"
    written = b"".join(
        path.read_bytes() for path in (bench.folder / "tiny").rglob("*") if path.is_file()
    )
    assert b"s3cret" not in written
    assert "s3cret" not in repr(bench.seen)
    await bench.manager.close()


async def test_too_little_disk_is_said_before_anything_is_made(bench: Bench) -> None:
    bench.definitions["tiny"] = msgspec.structs.replace(TINY, disk_bytes=10**18)
    with pytest.raises(BuildFailed, match="of disk") as error:
        await bench.manager.ensure("tiny", quiet)
    assert "MESHTUI_RUNTIMES" in str(error.value)
    assert not list((bench.folder / "tiny").glob("venv-*"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"interpreter": "/nowhere/python"}, "does not run"),
        ({"interpreter": sys.executable, "python": ">=3.99"}, "needs >=3.99"),
        ({"interpreter": "/bin/true"}, "does not run"),
        ({"requirements": ("no good!",)}, "not a requirement"),
        ({"python": "newest"}, "not a Python version"),
    ],
)
async def test_what_cannot_be_built_is_said(
    bench: Bench, change: Mapping[str, object], said: str
) -> None:
    bench.definitions["tiny"] = msgspec.structs.replace(TINY, **change)
    with pytest.raises(BuildFailed, match=said) as error:
        await bench.manager.ensure("tiny", quiet)
    assert "build.log" in str(error.value)


async def test_a_missing_interpreter_names_what_was_found(tmp_path: Path, wheels: Path) -> None:
    bench = Bench(tmp_path / "runtimes", wheels, "pip")
    bench.definitions["tiny"] = msgspec.structs.replace(TINY, python=">=3.99")
    await bench.manager.open()
    with pytest.raises(BuildFailed, match=r"No Python >=3\.99 was found") as error:
        await bench.manager.ensure("tiny", quiet)
    assert sys.version.split()[0] in str(error.value)
    await bench.manager.close()


def slow_uv(bench: Bench, tmp_path: Path) -> Path:
    """A `uv` whose install says that it began and then hangs, as a slow index makes it."""
    started = tmp_path / "started"
    script = tmp_path / "slow-uv"
    script.write_text(
        f'#!/bin/sh\nif [ "$1" = venv ]; then exec {find_uv()} "$@"; fi\n'
        f"echo $$ > {started}.new && mv {started}.new {started}\n"
        'echo "Downloading torch (500.0MiB)"\nsleep 600 &\nwait\n'
    )
    script.chmod(0o755)
    bench.uv = lambda: script
    bench.manager = bench.make()
    return started


def members(group: int) -> list[int]:
    """Live processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and is_running(int(entry.name)):
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(int(entry.name)) == group:
                    found.append(int(entry.name))
    return found


async def gone(pid: int) -> None:
    await eventually(lambda: not is_running(pid), f"the end of process {pid}")


async def test_cancelling_kills_the_installer_and_drops_what_it_made(
    bench: Bench, tmp_path: Path
) -> None:
    started = slow_uv(bench, tmp_path)
    await bench.manager.open()
    waiting = asyncio.create_task(bench.manager.ensure("tiny", quiet))
    await bench.until("0 B of 524 MB")
    group = os.getpgid(int(started.read_text()))
    with pytest.raises(Conflict):
        await bench.manager.delete("tiny")
    await bench.manager.cancel("tiny")
    status = bench.manager.get("tiny")
    assert (status.phase, status.step) == (BuildPhase.ABSENT, "Cancelled")
    await eventually(lambda: not members(group), "the end of the installer and its children")
    assert not list((bench.folder / "tiny").glob("venv-*"))
    with pytest.raises(BuildFailed, match="was cancelled"):
        await waiting
    with pytest.raises(Conflict):
        await bench.manager.cancel("tiny")
    again = bench.make()
    await again.open()
    assert again.get("tiny").phase is BuildPhase.ABSENT
    await again.close()


async def test_closing_leaves_the_build_to_the_next_one(bench: Bench, tmp_path: Path) -> None:
    started = slow_uv(bench, tmp_path)
    await bench.manager.open()
    await bench.manager.build("tiny")
    await bench.until("0 B of 524 MB")
    await bench.manager.close()
    await gone(int(started.read_text()))
    bench.uv = find_uv
    bench.manager = bench.make()
    await bench.manager.open()
    assert bench.manager.get("tiny").phase is BuildPhase.BUILDING
    assert (await bench.ended()).phase is BuildPhase.READY
    assert len(list((bench.folder / "tiny").glob("venv-*"))) == 1


BUILDER = textwrap.dedent("""
    import asyncio, json, sys
    from pathlib import Path
    from meshtui.deploy.runtimes import RuntimeManager
    from meshtui.domain.codec import from_plain
    from meshtui.domain.runtime import RuntimeDefinition
    from meshtui.engines.base import Machine
    async def main():
        folder, uv, definition = sys.argv[1:]
        definition = from_plain(json.loads(definition), RuntimeDefinition)
        manager = RuntimeManager(
            runtimes_dir=Path(folder), definitions=lambda: {"tiny": definition},
            on_change=lambda status: print(status.step, flush=True), machine=Machine,
            uv=lambda: Path(uv))
        await manager.open()
        await manager.ensure("tiny", lambda status: None)
    asyncio.run(main())
""")


async def test_a_killed_builder_takes_its_installer_along_and_is_taken_up(
    bench: Bench, tmp_path: Path
) -> None:
    started = slow_uv(bench, tmp_path)
    definition = json.dumps(msgspec.to_builtins(bench.definitions["tiny"]))
    builder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BUILDER, str(bench.folder), str(bench.uv()), definition,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert builder.stdout
    async with asyncio.timeout(30):
        while b"524 MB" not in await builder.stdout.readline():
            pass
    builder.kill()
    await builder.wait()
    await gone(int(started.read_text()))
    bench.uv = find_uv
    bench.manager = bench.make()
    await bench.manager.open()
    assert bench.manager.get("tiny").phase is BuildPhase.BUILDING
    assert (await bench.ended()).phase is BuildPhase.READY
    assert len(list((bench.folder / "tiny").glob("venv-*"))) == 1


async def test_a_changed_definition_makes_it_outdated_and_rebuilding_replaces_it(
    bench: Bench, wheels: Path
) -> None:
    first = await bench.manager.ensure("tiny", quiet)
    newer = msgspec.structs.replace(TINY, requirements=("meshtui-one==2.0",))
    bench.definitions["tiny"] = local(newer, wheels)
    assert bench.manager.get("tiny").outdated
    # Outdated is still usable; only building anew changes it.
    assert (await bench.manager.ensure("tiny", quiet)).python == first.python
    await bench.manager.build("tiny", rebuild=True)
    status = await bench.ended()
    assert not status.outdated
    assert status.version("meshtui-one") == "2.0"
    assert not first.python.exists()


async def test_a_rebuild_that_fails_leaves_the_old_one_in_use(bench: Bench, wheels: Path) -> None:
    first = await bench.manager.ensure("tiny", quiet)
    broken = msgspec.structs.replace(TINY, requirements=("meshtui-nowhere",))
    bench.definitions["tiny"] = local(broken, wheels)
    await bench.manager.build("tiny", rebuild=True)
    status = await bench.ended()
    assert status.phase is BuildPhase.READY
    assert "earlier build stays in use" in status.notices[0]
    assert first.python.exists()


async def test_deleting_removes_it_unless_something_runs_on_it(bench: Bench) -> None:
    installed = await bench.manager.ensure("tiny", quiet)
    user = await asyncio.create_subprocess_exec(
        installed.python, "-c", "print(flush=True); input()",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert user.stdout
    await user.stdout.readline()
    with pytest.raises(Conflict, match=f"process {user.pid}"):
        await bench.manager.delete("tiny")
    user.kill()
    await user.wait()
    await bench.manager.delete("tiny")
    assert bench.manager.get("tiny").phase is BuildPhase.ABSENT
    assert not (bench.folder / "tiny").exists()
    assert [path.name for path in bench.folder.iterdir()] == [".tiny.lock"]


async def test_the_machine_chooses_the_default(bench: Bench) -> None:
    assert bench.manager.default_name() == "cpu"
    bench.machine = Machine(gpu_count=1)
    assert bench.manager.default_name() == "gpu"


async def test_what_is_not_defined_is_not_found(bench: Bench) -> None:
    for call in (bench.manager.get, bench.manager.log_path):
        with pytest.raises(NotFound):
            call("nope")
    with pytest.raises(NotFound):
        await bench.manager.ensure("nope", quiet)
    with pytest.raises(NotFound):
        await bench.manager.build("nope")


async def test_an_environment_that_was_removed_by_hand_is_built_again(bench: Bench) -> None:
    first = await bench.manager.ensure("tiny", quiet)
    first.python.unlink()
    again = bench.make()
    await again.open()
    assert again.get("tiny").phase is BuildPhase.ABSENT
    async with asyncio.timeout(60):
        second = await bench.manager.ensure("tiny", quiet)
        third = await again.ensure("tiny", quiet)
    assert first.python != second.python == third.python
    assert second.python.exists()
    await again.close()


async def test_changes_come_ten_times_a_second_at_most(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "chatty-uv"
    script.write_text(
        f'#!/bin/sh\nif [ "$1" = venv ]; then exec {find_uv()} "$@"; fi\n'
        'i=0; while [ $i -lt 3000 ]; do echo "Downloading p$i (2.0MiB)"; i=$((i+1)); done\n'
        f'exec {find_uv()} "$@"\n'
    )
    script.chmod(0o755)
    bench.uv = lambda: script
    bench.manager = bench.make()
    await bench.manager.open()
    installed = await bench.manager.ensure("tiny", quiet)
    status = installed.status
    assert status.finished_at and status.started_at
    assert len(bench.seen) <= 5 + 10 * (status.finished_at - status.started_at)


async def test_a_password_in_the_arguments_is_not_logged(bench: Bench) -> None:
    index = "http://user:s3cret@127.0.0.1:9/simple"
    bench.definitions["tiny"] = msgspec.structs.replace(TINY, extra_args=("--index-url", index))
    await bench.manager.build("tiny")
    status = await bench.ended()
    assert status.phase is BuildPhase.FAILED
    log = bench.manager.log_path("tiny").read_text()
    assert "***@127.0.0.1:9" in log
    assert "s3cret" not in log + str(status)
