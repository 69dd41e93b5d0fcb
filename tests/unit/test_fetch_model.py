"""The script that fetches a model into a volume, as a pod runs it, against a Hub."""

import asyncio
import hashlib
import os
import sys
from pathlib import Path

from meshtui.cache.checksums import read_checksums
from meshtui.cache.names import folder_name
from meshtui.cache.store import ModelStore
from meshtui.deploy.kubernetes.delivery_fetch import FetchExit
from meshtui.domain.model_ref import ModelRef
from meshtui.serving import fetch_model
from meshtui.settings.shipped import toml_data
from tests.hub_server import Fault, HubServer


async def run(hub: HubServer, target: Path, *, token: str = "") -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", Path(str(fetch_model.__file__)).read_text()),
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(target.parent),
            "HF_HOME": str(target.parent / "hf"),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": token,
            "MESHTUI_MODEL": "org/tiny",
            "MESHTUI_REVISION": "",
            "MESHTUI_TARGET": str(target),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


def test_both_sides_mean_the_same_by_a_status() -> None:
    for known in FetchExit:
        assert getattr(fetch_model, known.name) == known
    lasting = toml_data("kubernetes/defaults.toml")["fetch"]["lasting_failures"]
    assert lasting == [FetchExit.BAD_TOKEN, FetchExit.GATED, FetchExit.NOT_THERE, FetchExit.NO_ROOM]


async def test_a_model_is_fetched_once_however_many_ask(tmp_path: Path) -> None:
    target = tmp_path / "models" / folder_name(ModelRef.parse("org/tiny"))
    async with HubServer() as hub:
        hub.add("org/tiny", {"config.json": b"{}", "model.safetensors": b"w" * 5000, "m.h5": b"h"})
        answers = await asyncio.gather(run(hub, target), run(hub, target))
        assert [code for code, _ in answers] == [0, 0], answers
        assert sorted("is complete" in said for _, said in answers) == [False, True]
        assert hub.sent_bytes("model.safetensors") == 5000
        assert (target / "model" / "model.safetensors").stat().st_size == 5000
        assert not (target / "model" / "m.h5").exists()
        assert not (target / "model" / ".cache").exists()
    # In the layout of the workstation's cache.
    (entry,) = ModelStore(target.parent).list()
    assert (entry.ref, entry.folder) == (ModelRef.parse("org/tiny"), target)
    digests = read_checksums(target / "checksums.json") or {}
    assert digests["model.safetensors"] == hashlib.sha256(b"w" * 5000).hexdigest()
    assert digests.keys() == {"config.json", "model.safetensors"}
    code, said = await run(hub, target)  # the Hub is away now
    assert code == 0 and "is in" in said


async def test_why_it_failed_is_told_by_status_and_in_words(tmp_path: Path) -> None:
    target = tmp_path / "tiny"
    async with HubServer() as hub:
        code, said = await run(hub, target)
        assert code == fetch_model.NOT_THERE and "org/tiny" in said
        hub.add("org/tiny", {"config.json": b"{}"}, gated=True)
        code, said = await run(hub, target)
        assert code == fetch_model.GATED and "terms" in said, said
        code, said = await run(hub, target, token="hf_nobody")
        assert code == fetch_model.BAD_TOKEN, said
    code, said = await run(hub, target)  # the Hub is away now
    assert code == fetch_model.UNREACHABLE and "Traceback" not in said
    assert not target.exists()


async def test_what_came_before_it_broke_off_does_not_come_again(tmp_path: Path) -> None:
    target = tmp_path / "tiny"
    async with HubServer() as hub:
        hub.add("org/tiny", {"a.safetensors": b"a" * 5000, "config.json": b"{}"})
        hub.faults.append(Fault("config.json", status=404, times=99))
        code, said = await run(hub, target)
        assert code != 0 and hub.sent_bytes("a.safetensors") == 5000, said
        hub.faults.clear()
        code, said = await run(hub, target)
        assert code == 0, said
        assert hub.sent_bytes("a.safetensors") == 5000
        assert (target / "model" / "a.safetensors").stat().st_size == 5000
