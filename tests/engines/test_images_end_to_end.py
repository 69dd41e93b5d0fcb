"""Pictures from words to files: the command line, a controller as the user's, a real pipeline."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from meshtui.cli import exit_codes
from tests.conftest import TEST_CACHE, private_environment
from tests.layout import REPOSITORY
from tests.support.pipelines import tiny_pipelines

pytestmark = pytest.mark.engine

MODEL = "tiny/flux"
MESHTUI = str(Path(sys.executable).parent / "meshtui")
CONNECTION = f"""
[[enabled_models]]
model = "{MODEL}"
task = "text-to-image"

[[enabled_models]]
model = "org/other"
"""


class Machine:
    """A home with the runtime, and one pipeline in its cache."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.environment = {**os.environ, **private_environment(home)}
        self.environment["MESHTUI_RUNTIMES"] = str(TEST_CACHE / "runtimes")
        self.environment["HF_HUB_OFFLINE"] = "1"
        connections = home / "config" / "meshtui" / "connections"
        connections.mkdir(parents=True)
        (connections / "local.toml").write_text(CONNECTION)

    def meshtui(self, *words: str, status: int = 0, sent: str = "") -> str:
        done = subprocess.run(
            [MESHTUI, *words],
            env=self.environment,
            input=sent,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr


@pytest.fixture
def machine(tmp_path: Path, cpu_runtime: object, engine_python: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "home")
    pipeline = tiny_pipelines(engine_python) / "flux"
    machine.meshtui("cache", "build", str(pipeline), "--model", MODEL)
    yield machine
    for server in json.loads(machine.meshtui("server", "list", "--json")):
        machine.meshtui("server", "stop", str(server["id"]))
    machine.meshtui("controller", "stop")


def test_words_become_files(machine: Machine, tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    few = ("--size", "64x64", "--steps", "2")
    told = machine.meshtui("image", MODEL, "a cat", "-o", str(file), *few, "--seed", "7")
    assert json.loads(told) == {"path": str(file), "prompt": "a cat", "seed": 7, "model": MODEL}
    first = file.read_bytes()
    assert first.startswith(b"\x89PNG")

    # Nothing is overwritten, and what cannot be is said with what to do.
    again = ("image", MODEL, "a cat", "-o", str(file))
    assert "nothing is overwritten" in machine.meshtui(*again, status=exit_codes.USAGE)
    assert file.read_bytes() == first
    refused = machine.meshtui("image", MODEL, "a cat", "--size", "63x64", status=exit_codes.FAILED)
    assert "64x64 for example" in refused
    assert "cannot make pictures" in machine.meshtui(
        "image", "org/other", "a cat", "--force", status=exit_codes.USAGE
    )
    assert "cannot chat" in machine.meshtui("prompt", MODEL, "Hi", status=exit_codes.USAGE)

    folder = tmp_path / "many"
    folder.mkdir()
    lines = [{"prompt": "a cat", "seed": 7}, {"prompt": "Zwei Hunde!", "count": 2, "seed": 1}]
    sent = "\n".join(json.dumps(line) for line in lines)
    told = machine.meshtui("image", MODEL, "--jsonl", "-o", str(folder), *few, sent=sent)
    made = [json.loads(line) for line in told.splitlines()]
    assert [(one["prompt"], one["seed"]) for one in made] == [
        ("a cat", 7), ("Zwei Hunde!", 1), ("Zwei Hunde!", 2),
    ]  # fmt: skip
    assert sorted(path.name for path in folder.iterdir()) == [
        "a-cat-7.png", "zwei-hunde-1.png", "zwei-hunde-2.png",
    ]  # fmt: skip
    assert (folder / "a-cat-7.png").read_bytes() == first

    [server] = json.loads(machine.meshtui("server", "list", "--json"))
    assert server["engine"] == "DIFFUSERS" and server["phase"] == "Ready"


def test_programs_get_pictures(machine: Machine, tmp_path: Path) -> None:
    # As the documentation shows it in Python.
    document = (REPOSITORY / "docs" / "programs.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    [example] = [example for example in examples if "mesh.images" in example]
    done = subprocess.run(
        [sys.executable, "-c", example],
        env=machine.environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0 and "4 of 4" in done.stdout, done.stderr
    assert (tmp_path / "lighthouse.png").read_bytes().startswith(b"\x89PNG")

    # At the endpoint.
    machine.meshtui("endpoint", "on")
    said = dict(re.findall(r"(?m)^export (\w+)='?([^'\n]+)'?$", machine.meshtui("endpoint", "env")))
    address, key = said["OPENAI_BASE_URL"], said["OPENAI_API_KEY"]
    with openai.OpenAI(base_url=address, api_key=key, max_retries=0, timeout=300) as asking:
        answer = asking.images.generate(
            model=MODEL, prompt="a cat", size="64x64", extra_body={"steps": 2}  # type: ignore[arg-type]
        )  # fmt: skip
        assert answer.data and answer.data[0].b64_json
        events = list(
            asking.images.generate(
                model=MODEL,
                prompt="a cat",
                size="64x64",  # type: ignore[arg-type]
                stream=True,
                extra_body={"steps": 3},
            )
        )
        assert [str(event.type) for event in events][-1] == "image_generation.completed"
        with pytest.raises(openai.BadRequestError, match="multiples of"):
            asking.images.generate(model=MODEL, prompt="a cat", size="63x64")  # type: ignore[call-overload]
        with pytest.raises(openai.BadRequestError, match="cannot chat"):
            asking.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "Hi"}]
            )
