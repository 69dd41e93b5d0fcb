"""Models of the standard Hugging Face cache: seen as they are, adopted without a copy, and no way
out of the cache by a link."""

import asyncio
import hashlib
import json
import os
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest

from meshtui.cache.checksums import read_checksums
from meshtui.cache.hub_cache import adopt, plan_adopt, scan, snapshot
from meshtui.cache.hub_repo import hub_cache_folder
from meshtui.cache.store import CHECKSUMS, ModelStore
from meshtui.cache.verify import verify
from meshtui.cache.work import Work
from meshtui.domain.errors import Conflict, InvalidInput, MeshtuiError, NotFound, Unavailable
from meshtui.domain.finding import Level
from meshtui.domain.model_cache import HubCacheRepo
from meshtui.domain.model_ref import ModelRef
from tests.hub_server import HubServer
from tests.support.models import files
from tests.support.synthetic_shelf import blob_name, fill_hub_repo, list_tree

MODEL = "acme/tiny"
CONTENT = files(README__md=b"---\nlicense: mit\n---\nHello") | {"1_Pooling/config.json": b"{}\n"}
WEIGHTS = "model.safetensors"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "hub"


def only(root: Path) -> HubCacheRepo:
    [repo] = scan(root)
    return repo


def take(repo: HubCacheRepo, store: ModelStore, *, replace: bool = False) -> ModelRef:
    return adopt(repo, store, Work(), replace=replace, allow_copy=False)


def blockers(repo: HubCacheRepo) -> list[str]:
    return [finding.rule for finding in repo.findings if finding.level is Level.BLOCKER]


def assert_adopted(store: ModelStore, ref: ModelRef, content: dict[str, bytes]) -> None:
    """The entry has that content, checksums that hold, and no byte of its own."""
    entry = store.get(ref)
    for path, data in content.items():
        file = entry.model_dir / path
        assert not file.is_symlink() and file.read_bytes() == data
        assert file.stat().st_nlink > 1
    sums = read_checksums(entry.folder / CHECKSUMS)
    assert sums == {path: hashlib.sha256(data).hexdigest() for path, data in content.items()}
    assert entry.metadata.size_in_bytes == sum(map(len, content.values()))


FETCH = textwrap.dedent("""
    import sys
    from huggingface_hub import hf_hub_download
    for path in sys.argv[2:]:
        print(hf_hub_download(sys.argv[1], path))
""")


async def test_what_the_hubs_own_client_fetched_is_adopted(
    store: ModelStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(root))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    async with HubServer() as hub:
        commit = hub.add(MODEL, CONTENT).commit
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FETCH, MODEL, *CONTENT, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await client.communicate()
    assert client.returncode == 0
    [repo] = plan_adopt(store, scan(None))
    assert (repo.model, repo.commit, repo.refs, repo.how) == (MODEL, commit, ("main",), "link")
    assert repo.files == len(CONTENT) and repo.size_bytes == sum(map(len, CONTENT.values()))
    assert repo.findings == () and not repo.cached
    assert said.decode().startswith(repo.folder)
    ref = take(repo, store)
    assert_adopted(store, ref, CONTENT)
    metadata = store.get(ref).metadata
    assert metadata.commit_hash == commit and "license:mit" in (metadata.tags or ())
    assert verify(ref, store, Work()).ok
    assert plan_adopt(store, scan(None))[0].cached


def share(snapshot: Path, data: bytes) -> Path:
    """Moves the weights to where repositories share them, as the Hub's client does with what comes
    from Xet."""
    name = hashlib.blake2s(data).hexdigest()
    shared = snapshot.parents[2] / "blobs" / name[:2] / name
    shared.parent.mkdir(parents=True, exist_ok=True)
    blob = snapshot.parents[1] / "blobs" / blob_name(WEIGHTS, data)
    blob.rename(shared)
    shared.chmod(0o444)
    blob.symlink_to(f"../../blobs/{name[:2]}/{name}")
    return shared


def test_content_that_repositories_share_is_adopted(store: ModelStore, root: Path) -> None:
    weights = share(fill_hub_repo(root, MODEL, CONTENT), CONTENT[WEIGHTS])
    ref = take(only(root), store)
    assert_adopted(store, ref, CONTENT)
    adopted = store.get(ref).model_dir / WEIGHTS
    assert adopted.samefile(weights)
    weights.unlink()
    assert adopted.read_bytes() == CONTENT[WEIGHTS]


def test_each_snapshot_has_the_name_that_a_person_would_give_it(root: Path) -> None:
    for letter, ref in (("a", "main"), ("b", "v1.0"), ("c", "refs/pr/7"), ("d", "")):
        fill_hub_repo(root, MODEL, CONTENT, commit=letter * 40, ref=ref)
    names = {repo.commit[0]: (repo.model, repo.refs) for repo in scan(root)}
    assert names == {
        "a": (MODEL, ("main",)),
        "b": (f"{MODEL}@v1.0", ("v1.0",)),
        "c": (f"{MODEL}@refs/pr/7", ("refs/pr/7",)),
        "d": (f"{MODEL}@{'d' * 40}", ()),
    }


def test_a_folder_that_cannot_be_looked_at_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be read: File name too long"):
        scan(tmp_path / ("x" * 300))
    with pytest.raises(NotFound, match="There is no folder"):
        scan(tmp_path / "none")


def test_files_without_links_are_adopted_too(store: ModelStore, root: Path) -> None:
    folder = root / "models--acme--tiny" / "snapshots" / ("c" * 40)
    for path, data in CONTENT.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    list_tree(folder, CONTENT)
    assert_adopted(store, take(only(root), store), CONTENT)


def test_one_missing_blob_hides_nothing_and_is_told(store: ModelStore, root: Path) -> None:
    broken = fill_hub_repo(root, MODEL, CONTENT)
    fill_hub_repo(root, "acme/whole", CONTENT)
    (broken / WEIGHTS).resolve().unlink()
    repo, whole = plan_adopt(store, scan(root))
    assert blockers(repo) == ["missing"] and WEIGHTS in repo.findings[0].message
    assert whole.findings == ()
    with pytest.raises(InvalidInput, match=WEIGHTS):
        take(repo, store)
    assert store.list() == [] and not any(store.staging.folder.glob("*"))


def test_a_download_that_was_broken_off_is_not_adopted(root: Path) -> None:
    without = {path: data for path, data in CONTENT.items() if path != WEIGHTS}
    folder = fill_hub_repo(root, MODEL, without)
    assert blockers(only(root)) == []
    assert {finding.rule for finding in only(root).findings} == {"weights"}
    half = folder.parents[1] / "blobs" / f"{blob_name(WEIGHTS, CONTENT[WEIGHTS])}.0a1b.incomplete"
    half.write_bytes(b"half")
    assert blockers(only(root)) == ["unfinished"]
    list_tree(folder, CONTENT)
    [finding] = only(root).findings
    assert finding.rule == "incomplete" and WEIGHTS in finding.message
    half.unlink()
    assert blockers(only(root)) == ["incomplete"]


def test_what_the_list_of_the_commit_tells_is_held_against_the_files(root: Path) -> None:
    folder = fill_hub_repo(root, MODEL, CONTENT)
    list_tree(folder, CONTENT | {"vocab.json": b"{}", "picture.png": b"x", "model.onnx": b"x"})
    [finding] = only(root).findings
    assert finding.level is Level.WARNING and "vocab.json is missing" in finding.message
    weights = (folder / WEIGHTS).resolve()
    os.truncate(weights, 5)
    assert blockers(only(root)) == ["size"]


def test_every_shard_must_be_there_but_not_those_of_pickles(root: Path) -> None:
    index = json.dumps({"weight_map": {"a": WEIGHTS, "b": "model-2.safetensors"}}).encode()
    pickles = json.dumps({"weight_map": {"a": "pytorch_model-1.bin"}}).encode()
    fill_hub_repo(root, MODEL, CONTENT | {"model.safetensors.index.json": index})
    fill_hub_repo(root, "acme/other", CONTENT | {"pytorch_model.bin.index.json": pickles})
    other, sharded = scan(root)
    assert blockers(other) == []
    assert blockers(sharded) == ["shard"]


def test_damaged_content_is_not_adopted(store: ModelStore, root: Path) -> None:
    folder = fill_hub_repo(root, MODEL, CONTENT)
    (folder / "tokenizer.json").resolve().write_bytes(b"[]")
    with pytest.raises(InvalidInput, match=r"tokenizer.json is damaged"):
        take(only(root), store)
    assert store.list() == []


def test_an_entry_is_replaced_only_where_that_is_wanted(store: ModelStore, root: Path) -> None:
    fill_hub_repo(root, MODEL, CONTENT)
    repo = only(root)
    ref = take(repo, store)
    with pytest.raises(Conflict):
        take(repo, store)
    newer = fill_hub_repo(root, MODEL, CONTENT | {"new.json": b"{}"}, commit="d" * 40)
    planned = {found.commit[0]: found for found in plan_adopt(store, scan(root))}
    assert planned["c"].model == f"{MODEL}@{'c' * 40}" and not planned["c"].cached
    assert planned["d"].cached and planned["d"].findings[0].rule == "other-commit"
    take(snapshot(newer), store, replace=True)
    assert (store.get(ref).model_dir / "new.json").exists()


def outside(root: Path) -> Path:
    secret = root.parent / "secret"
    secret.write_bytes(b"secret")
    return secret


def link_to(folder: Path, name: str, target: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)


@pytest.mark.parametrize(
    ("target", "rule"),
    [
        ("{secret}", "link"),
        ("../../../../secret", "link"),
        ("../../blobs/../../../secret", "link"),
        ("../../blobs/out", "link"),
        ("../../blobs/loop", "unreadable"),
        ("../../blobs/pipe", "file"),
        ("../../blobs", "file"),
        ("../../blobs/none", "missing"),
    ],
)
def test_links_that_lead_elsewhere_are_refused(
    store: ModelStore, root: Path, target: str, rule: str
) -> None:
    folder = fill_hub_repo(root, MODEL, CONTENT)
    blobs = folder.parents[1] / "blobs"
    (blobs / "out").symlink_to(outside(root))
    (blobs / "loop").symlink_to("loop")
    os.mkfifo(blobs / "pipe")
    link_to(folder, "config.json", target.format(secret=outside(root)))
    repo = only(root)
    assert blockers(repo) == [rule]
    with pytest.raises(MeshtuiError):
        take(repo, store)
    assert store.list() == []


def test_folders_that_are_links_are_refused(store: ModelStore, root: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    fill_hub_repo(away, "acme/a", CONTENT)
    fill_hub_repo(away, "acme/b", CONTENT)
    (root / "models--acme--b").mkdir(parents=True)
    (root / "models--acme--a").symlink_to(away / "models--acme--a")
    (root / "models--acme--b" / "snapshots").symlink_to(away / "models--acme--b" / "snapshots")
    blobs = fill_hub_repo(root, "acme/c", CONTENT).parents[1] / "blobs"
    blobs.rename(away / "blobs")
    blobs.symlink_to(away / "blobs")
    assert [blockers(repo) for repo in scan(root)] == [["repository"], ["repository"], ["link"]]
    for repo in plan_adopt(store, scan(root)):
        with pytest.raises(MeshtuiError):
            take(repo, store)


@pytest.mark.parametrize("name", ["bad\x1b[2Jname", "bad\u202ename", "bad\nname", b"\xff".decode(
    "utf-8", "surrogateescape"), "bad\\name"])  # fmt: skip
def test_hostile_names_are_refused_and_can_be_shown(
    store: ModelStore, root: Path, name: str
) -> None:
    fill_hub_repo(root, MODEL, CONTENT | {name: b"x"})
    fill_hub_repo(root, f"acme/{name}", CONTENT)
    fill_hub_repo(root, "acme/commit", CONTENT, commit=f"{name}1")
    fill_hub_repo(root, "acme/ref", CONTENT, ref=name)
    repos = plan_adopt(store, scan(root))
    assert len(repos) == 4
    for repo in repos:
        assert msgspec.json.decode(msgspec.json.encode(repo), type=HubCacheRepo) == repo
        for text in (repo.model, repo.folder, repo.commit, *repo.refs):
            assert text.isprintable()
        if not blockers(repo):
            assert repo.model == f"acme/ref@{'c' * 40}"
            continue
        with pytest.raises(MeshtuiError):
            take(repo, store)


def test_what_is_no_snapshot_is_said(store: ModelStore, root: Path, tmp_path: Path) -> None:
    folder = fill_hub_repo(root, MODEL, CONTENT)
    for wrong in (folder.parent, folder.parents[1], tmp_path, Path("/"), folder / "1_Pooling"):
        with pytest.raises(InvalidInput):
            snapshot(wrong)
    with pytest.raises(NotFound):
        snapshot(root / "models--acme--tiny" / "snapshots" / ("0" * 40))
    assert snapshot(folder) == only(root)
    with pytest.raises(NotFound):
        scan(tmp_path / "nowhere")
    with pytest.raises(NotFound):
        adopt(HubCacheRepo(model=MODEL, commit="", folder=str(root / "x"), files=0, size_bytes=0),
              store, Work(), replace=False, allow_copy=False)  # fmt: skip


def test_other_things_in_the_cache_are_passed_over(root: Path) -> None:
    fill_hub_repo(root, MODEL, CONTENT)
    fill_hub_repo(root, "acme/refused", {}).rmdir()
    (root / "models--acme--refused" / "snapshots").rmdir()
    (root / "datasets--acme--data" / "snapshots" / "x").mkdir(parents=True)
    (root / ".locks").mkdir()
    (root / "version.txt").write_text("1")
    (root / "models--acme--file").write_text("no folder")
    assert [repo.model for repo in scan(root)] == [MODEL]


def test_the_environment_says_where_the_cache_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert scan(None) == []
    home = Path(os.environ["XDG_CACHE_HOME"]) / "huggingface" / "hub"
    assert hub_cache_folder() == home
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert hub_cache_folder() == tmp_path / "home" / "hub"
    monkeypatch.setenv("SOMEWHERE", str(tmp_path / "else"))
    monkeypatch.setenv("HF_HUB_CACHE", "$SOMEWHERE/hub")
    assert hub_cache_folder() == tmp_path / "else" / "hub"


OTHER_USER = textwrap.dedent("""
    import os, sys
    from pathlib import Path
    from meshtui.cache.hub_cache import adopt, plan_adopt, scan
    from meshtui.cache.store import ModelStore
    from meshtui.cache.work import Work
    from meshtui.domain.errors import MeshtuiError
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    store = ModelStore(Path(sys.argv[2]))
    [repo] = plan_adopt(store, scan(Path(sys.argv[1])))
    print(repo.how, *(finding.rule for finding in repo.findings))
    for allow_copy in (False, True):
        try:
            adopt(repo, store, Work(), replace=False, allow_copy=allow_copy)
            print("adopted")
        except MeshtuiError as error:
            print(error.code)
""")


async def as_nobody(root: Path, store: ModelStore) -> list[str]:
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OTHER_USER, str(root), str(store.root)),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await client.communicate()
    return said.decode().splitlines()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_files_of_somebody_else_are_copied_only_where_that_is_wanted(
    store: ModelStore, root: Path, tmp_path: Path
) -> None:
    folder = fill_hub_repo(root, MODEL, CONTENT)
    open_to_all(tmp_path)
    store.root.mkdir()
    os.chown(store.root, 65534, 65534)
    assert await as_nobody(root, store) == ["copy", "conflict", "adopted"]
    assert (store.get(ModelRef(MODEL)).model_dir / WEIGHTS).stat().st_nlink == 1
    (folder / WEIGHTS).resolve().chmod(0o600)
    store.delete(ModelRef(MODEL))
    assert await as_nobody(root, store) == ["copy unreadable", "invalid-input", "invalid-input"]


def open_to_all(folder: Path) -> None:
    """Lets other users reach a test's folder."""
    while folder != Path("/tmp") and folder != folder.parent:
        folder.chmod(folder.stat().st_mode | 0o055)
        folder = folder.parent


def test_a_shared_cache_gets_no_files_that_its_group_cannot_read(
    store: ModelStore, root: Path
) -> None:
    folder = fill_hub_repo(root, MODEL, CONTENT)
    (folder / WEIGHTS).resolve().chmod(0o600)
    store.root.mkdir()
    store.root.chmod(0o2770)
    [repo] = plan_adopt(store, scan(root))
    assert repo.how in ("copy", "reflink")
    ref = adopt(repo, store, Work(), replace=False, allow_copy=True)
    assert (store.get(ref).model_dir / WEIGHTS).stat().st_mode & 0o060 == 0o060
