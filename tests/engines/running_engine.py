"""Starts a real engine with its adapter's command line, and leaves nothing of it behind."""

import os
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from meshtui.domain.connection import EnabledModel
from meshtui.domain.runtime import Package, RuntimeStatus
from meshtui.domain.task import Engine
from meshtui.engines.base import Launch, LaunchRequest, LogUpdate
from meshtui.engines.machine import detect
from meshtui.engines.registry import adapter
from meshtui.inference.chat import Target
from tests.conftest import private_environment
from tests.support.waiting import wait_until

KEY = "a-key-of-the-tests"
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
START_TIMEOUT_S = 300


class RunningEngine(msgspec.Struct, frozen=True, kw_only=True):
    """A ready engine and all that is known about it."""

    target: Target
    launch: Launch
    log: Path

    def updates(self) -> list[LogUpdate]:
        """What the adapter reads in the log so far."""
        reader = adapter(self.target.engine).log_reader()
        lines = re.split(r"[\r\n]", self.log.read_text(encoding="utf-8", errors="replace"))
        return [update for line in lines if (update := reader.feed(line)) is not None]

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.target.base_url + path, timeout=10) as answer:
            return str(answer.read().decode())


def packages_of(python: Path) -> RuntimeStatus:
    """A runtime as its folder shows it."""
    folders = python.parent.parent.glob("lib/python*/site-packages/*.dist-info")
    names = [folder.name.removesuffix(".dist-info").rpartition("-") for folder in folders]
    return RuntimeStatus(
        name="cpu",
        packages=tuple(Package(name.replace("_", "-"), version) for name, _, version in names),
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    engine: Engine, python: Path, model_dir: Path, folder: Path, enabled: EnabledModel | None = None
) -> Iterator[RunningEngine]:
    """The engine from its command line until it answers; its whole session is killed at the end."""
    port = free_port()
    launch = adapter(engine).launch(
        LaunchRequest(
            model=MODEL,
            model_dir=model_dir,
            enabled=enabled or EnabledModel(model=MODEL),
            runtime=packages_of(python),
            python=python,
            machine=detect(),
            port=port,
            api_key=KEY,
        )
    )
    log = folder / "engine.log"
    home = private_environment(folder / "home")
    base_url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            launch.argv,
            env={**os.environ, **home, **launch.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:

        def ready() -> bool:
            assert process.poll() is None, log.read_text(errors="replace")[-4000:]
            try:
                return urllib.request.urlopen(base_url + "/health", timeout=2).status == 200
            except OSError:
                return False

        wait_until(ready, f"{engine.label} answers", START_TIMEOUT_S)
        target = Target(
            base_url=base_url,
            api_key=KEY,
            engine=engine,
            model=MODEL,
            model_dir=model_dir,
            context_length=launch.context_length or 8192,
        )
        yield RunningEngine(target=target, launch=launch, log=log)
    finally:
        kill_session(process.pid)
        process.wait(timeout=30)


def kill_session(leader: int) -> None:
    """SIGKILL to every process of a session, in whichever process group."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if stat.rpartition(")")[2].split()[3] == str(leader):
                try:
                    os.kill(int(entry.name), signal.SIGKILL)
                except ProcessLookupError:
                    continue
