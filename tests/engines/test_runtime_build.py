"""The shipped cpu runtime as it was really built, and the built-in model as it is really made."""

import asyncio
import json
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from meshtui.cache.store import ModelStore
from meshtui.deploy.definitions import shipped_definitions
from meshtui.deploy.models import ModelShelf
from meshtui.deploy.runtime_types import InstalledRuntime
from meshtui.domain.connection import Connection
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.runtime import BuildPhase, RuntimeStatus
from tests.conftest import TEST_CACHE
from tests.runtime_support import cpu_machine, installer_caches
from tests.support.processes import is_running
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

REF = ModelRef("HuggingFaceTB/SmolLM2-135M-Instruct")
CONNECTION = Connection(name="tests")


def in_runtime(installed: InstalledRuntime, code: str, *arguments: str) -> str:
    """What a script prints in the runtime's own Python."""
    done = subprocess.run(
        [installed.python, "-I", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_the_runtime_holds_what_its_definition_pins(cpu_runtime: RuntimeStatus) -> None:
    assert cpu_runtime.phase is BuildPhase.READY
    assert not cpu_runtime.outdated
    assert cpu_runtime.version("transformers") == "5.19.0"
    assert cpu_runtime.version("torch") == "2.13.0"
    assert cpu_runtime.version("gguf") == "0.19.0"
    assert cpu_runtime.version("diffusers") == "0.42.1"
    if cpu_machine().cpu_flags & {"avx2", "avx512f"}:
        assert cpu_runtime.vllm_version == "0.32.0"
    else:
        assert "AVX2" in cpu_runtime.notices[0]
    # The disk check of a build asks for at least what it comes to.
    assert cpu_runtime.size_bytes
    assert cpu_runtime.size_bytes < shipped_definitions()["cpu"].disk_bytes


def test_the_built_in_model_answers_and_stops(
    installed_runtime: InstalledRuntime, smollm2_dir: Path
) -> None:
    answer = json.loads(
        in_runtime(
            installed_runtime,
            """
            import json, sys
            from transformers import AutoModelForCausalLM, AutoTokenizer
            tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
            model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
            question = [{"role": "user", "content": "What is the capital of France?"}]
            asked = tokenizer.apply_chat_template(
                question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
            said = model.generate(**asked, max_new_tokens=40, do_sample=False)
            tokens = said[0][asked["input_ids"].shape[1]:].tolist()
            print(json.dumps([tokenizer.decode(tokens), tokens[-1], str(model.dtype)]))
            """,
            str(smollm2_dir),
        ).splitlines()[-1]
    )
    assert answer == ["The capital of France is Paris.<|im_end|>", 2, "torch.bfloat16"]
    generation = json.loads((smollm2_dir / "generation_config.json").read_text())
    assert generation["eos_token_id"] == 2
    config = json.loads((smollm2_dir / "config.json").read_text())
    assert config["max_position_embeddings"] == 8192


MAKER = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from meshtui.cache.store import ModelStore
    from meshtui.deploy.models import ModelShelf
    from meshtui.domain.connection import Connection
    from meshtui.domain.model_ref import ModelRef
    from tests.conftest import TEST_CACHE
    from tests.runtime_support import build_cpu_runtime, installer_caches
    async def main():
        shelf = ModelShelf(
            ModelStore(Path(sys.argv[1])), installer_environment=installer_caches(TEST_CACHE))
        await shelf.ensure(
            ModelRef("HuggingFaceTB/SmolLM2-135M-Instruct"), Connection(name="tests"),
            await build_cpu_runtime(TEST_CACHE), lambda f, m: print(m, flush=True))
    asyncio.run(main())
""")


def converters(store: ModelStore) -> list[int]:
    """Live processes that convert into this store."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and is_running(int(entry.name)):
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"gguf_to_safetensors.py\0" in command and bytes(store.root) in command:
                found.append(int(entry.name))
    return found


async def test_without_the_hub_the_built_in_model_is_made_whatever_dies(
    installed_runtime: InstalledRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
    monkeypatch.setenv("MESHTUI_TEST_CACHE", str(TEST_CACHE))
    store = ModelStore(tmp_path / "models")
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MAKER, str(store.root),
        stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert child.stdout
    async with asyncio.timeout(120):
        while b"Reading the weights" not in await child.stdout.readline():
            assert child.returncode is None
    assert converters(store)
    child.kill()
    await child.wait()
    await eventually(lambda: not converters(store), "the converter's end with its parent")
    assert store.list() == []

    shelf = ModelShelf(store, installer_environment=installer_caches(TEST_CACHE))
    await shelf.open()
    assert not list((store.root / ".staging").iterdir())
    said: list[tuple[float | None, str]] = []
    one, two = await asyncio.gather(
        shelf.ensure(REF, CONNECTION, installed_runtime, lambda f, m: said.append((f, m))),
        shelf.ensure(REF, CONNECTION, installed_runtime, lambda f, m: None),
    )
    assert one == two
    assert (one / "model.safetensors").stat().st_size == 269_060_552
    fractions = [fraction for fraction, _ in said if fraction is not None]
    assert fractions == sorted(fractions)
    assert {"Reading the tokenizer", "Writing safetensors"} <= {message for _, message in said}
    entry = store.get(REF)
    assert entry.folder.name == "HuggingFaceTB_2fSmolLM2-135M-Instruct"
    assert entry.metadata.tags and "license:apache-2.0" in entry.metadata.tags
    assert entry.metadata.size_in_bytes and entry.metadata.size_in_bytes > 269_060_552
    assert {path.name for path in entry.folder.iterdir()} == {"model", "model_metadata.json"}
    assert [path.stat().st_mode & 0o777 for path in one.iterdir()] == [0o644] * 6
