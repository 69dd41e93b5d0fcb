"""The script that fetches a model into a volume, as a pod runs it, against a Hub."""

import asyncio
import os
import sys
from pathlib import Path

from meshtui.serving import fetch_model
from tests.hub_server import HubServer


async def run(hub: HubServer, target: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", Path(str(fetch_model.__file__)).read_text()),
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(target.parent),
            "HF_HOME": str(target.parent / "hf"),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
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


async def test_a_model_is_fetched_once_however_many_ask(tmp_path: Path) -> None:
    target = tmp_path / "models" / "tiny"
    async with HubServer() as hub:
        hub.add("org/tiny", {"config.json": b"{}", "model.safetensors": b"w" * 5000, "m.h5": b"h"})
        answers = await asyncio.gather(run(hub, target), run(hub, target))
        assert [code for code, _ in answers] == [0, 0], answers
        assert sorted("is complete" in said for _, said in answers) == [False, True]
        assert hub.sent_bytes("model.safetensors") == 5000
        assert (target / "model.safetensors").stat().st_size == 5000
        assert not (target / "m.h5").exists()
    code, said = await run(hub, target)  # the Hub is away now
    assert code == 0 and "is in" in said


async def test_a_model_that_is_not_complete_does_not_count(tmp_path: Path) -> None:
    target = tmp_path / "tiny"
    async with HubServer() as hub:
        code, said = await run(hub, target)
    assert code != 0 and not (target / fetch_model.COMPLETE).exists()
    assert "org/tiny" in said
