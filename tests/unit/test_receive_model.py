"""The script that takes models in, as a pod runs it: by its standard input and output."""

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from meshtui.deploy.kubernetes.sendable import content_digest
from meshtui.serving import receive_model
from tests.support.mounts import needs_mounts, small_disk

NAME = "org_2ftiny"


class Talk:
    """Asks a running receiver."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin and process.stdout
        self._in, self._out = process.stdin, process.stdout

    async def ask(self, do: str, **request: Any) -> dict[str, Any]:
        line = json.dumps({"do": do, "name": NAME, **request}).encode() + b"\n"
        await self.write(line)
        return await self.answer()

    async def write(self, data: bytes) -> None:
        self._in.write(data)
        await self._in.drain()

    async def answer(self) -> dict[str, Any]:
        """The next one; that it is there it says by the way."""
        async with asyncio.timeout(60):
            while "at" in (found := json.loads(await self._out.readline())):
                pass
        return dict(found)

    async def put(self, path: str, data: bytes, **different: Any) -> dict[str, Any]:
        answer = await self.ask("put", path=path, size=len(data), sha256=sha256(data), **different)
        if "offset" not in answer:
            return answer
        await self.write(data[answer["offset"] :])
        return await self.answer()


@asynccontextmanager
async def receiver(root: Path) -> AsyncIterator[Talk]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", Path(str(receive_model.__file__)).read_text()),
        env={"PATH": os.environ["PATH"], "MESHTUI_VOLUME": str(root)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    try:
        yield Talk(process)
    finally:
        process.stdin.close()
        async with asyncio.timeout(60):
            await process.wait()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def checksums(**files: bytes) -> bytes:
    return json.dumps({"files": {name: sha256(data) for name, data in files.items()}}).encode()


async def test_a_model_appears_in_one_step_and_is_known_by_its_content(tmp_path: Path) -> None:
    files = {"model/a": b"one", "model/b": b"two", "checksums.json": checksums(a=b"one", b=b"two")}
    sizes = {path: len(data) for path, data in files.items()}
    digest = content_digest({"a": sha256(b"one"), "b": sha256(b"two")})
    async with receiver(tmp_path) as talk:
        assert await talk.ask("begin", digest=digest, files=sizes) == {"state": "begun", "have": {}}
        for path, data in files.items():
            assert await talk.put(path, data) == {"done": path}
            assert not (tmp_path / NAME).exists()
        assert await talk.ask("commit", files=sizes) == {"done": NAME}
        assert (tmp_path / NAME / "model" / "b").read_bytes() == b"two"
        assert (await talk.ask("begin", digest=digest, files=sizes))["state"] == "present"
        looked = await talk.ask("look", path=f"{NAME}/model")
        assert looked == {"found": True, "top": ["a", "b"]}
        assert await talk.ask("look", path="nothing") == {"found": False, "top": [NAME]}


async def test_one_sends_and_the_others_wait(tmp_path: Path) -> None:
    async with receiver(tmp_path) as second:
        async with receiver(tmp_path) as first:
            assert (await first.ask("begin", digest="d", files={}))["state"] == "begun"
            assert await second.ask("begin", digest="d", files={}) == {"waiting": True}
        assert (await second.answer())["state"] == "begun"  # the first one's connection ended


async def test_what_is_wrong_of_a_file_comes_anew(tmp_path: Path) -> None:
    staged = tmp_path / ".staging" / f"{NAME}.partial" / "model"
    staged.mkdir(parents=True)
    (staged / "a").write_bytes(b"x" * 400)
    async with receiver(tmp_path) as talk:
        begun = await talk.ask("begin", digest="d", files={"model/a": 1000})
        assert begun["have"] == {"model/a": 400}
        answer = await talk.put("model/a", b"a" * 1000)
        assert answer["error"] == "damaged" and (staged / "a").stat().st_size == 0
        assert await talk.put("model/a", b"a" * 1000) == {"done": "model/a"}
        (staged / "a").write_bytes(b"a" * 999)
        answer = await talk.ask("commit", files={"model/a": 1000})
        assert answer["error"] == "damaged" and not (tmp_path / NAME).exists()


@pytest.mark.parametrize("path", ["/etc/passwd", "../a", "model/../../a", "model//a", ""])
async def test_nothing_is_written_elsewhere(tmp_path: Path, path: str) -> None:
    async with receiver(tmp_path / "volume") as talk:
        (tmp_path / "volume").mkdir()
        assert (await talk.put(path, b"x"))["error"] == "invalid"
    async with receiver(tmp_path / "volume") as talk:
        assert (await talk.put("model/a", b"x", name=f"..{path}"))["error"] == "invalid"
    assert not [one for one in tmp_path.rglob("*") if one.is_file()]


@needs_mounts
async def test_a_volume_that_is_too_small_says_so_before_and_while_it_fills(tmp_path: Path) -> None:
    with small_disk(tmp_path / "volume", 24 << 20) as volume:
        async with receiver(volume) as talk:
            answer = await talk.ask("begin", digest="d", files={"model/a": 20 << 20})
            assert answer["error"] == "no-room" and answer["needed_bytes"] > answer["free_bytes"]
            assert (await talk.ask("begin", digest="d", files={"model/a": 4 << 20}))["state"]
            (volume / "of-others").write_bytes(bytes(22 << 20))
            answer = await talk.put("model/a", bytes(4 << 20))
            assert answer["error"] == "no-room" and "No space left" in answer["message"]
