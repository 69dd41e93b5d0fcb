"""What prune would take, what it spares, and that half downloads under way stay."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from meshtui.cache.index import CacheIndex
from meshtui.cache.prune import Partial, partials, plan_prune, remove_partial
from meshtui.cache.store import MODEL, ModelStore
from meshtui.domain.errors import Conflict, MeshtuiError, NotFound
from meshtui.domain.model_cache import CacheEntry, PrunePlan, PruneWishes
from meshtui.domain.model_ref import ModelRef
from tests.support.models import files, put, write

DAY_S = 86_400.0
NOW_S = 1_800_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def entry(model: str, **facts: object) -> CacheEntry:
    return CacheEntry(model=model, folder=f"/nowhere/{model}", **facts)  # type: ignore[arg-type]


def plan(entries: list[CacheEntry], **wishes: object) -> PrunePlan:
    return plan_prune(entries, [], PruneWishes(**wishes), NOW_S)  # type: ignore[arg-type]


def names(found: PrunePlan) -> tuple[list[str], list[str]]:
    return [item.model for item in found.items], [item.model for item in found.kept]


def test_the_long_unused_go_and_the_used_stay() -> None:
    entries = [
        entry("a/new", last_used_at=NOW_S - DAY_S),
        entry("a/old", last_used_at=NOW_S - 40 * DAY_S),
        entry("a/older", downloaded_at=NOW_S - 50 * DAY_S),
        entry("a/fresh", downloaded_at=NOW_S - DAY_S),
        entry("a/served", last_used_at=NOW_S - 60 * DAY_S, served_by=("s1",)),
        entry("a/enabled", last_used_at=NOW_S - 60 * DAY_S, enabled_on=("local",)),
        entry("a/future", last_used_at=NOW_S + DAY_S),
    ]
    found = plan(entries, unused_s=30 * DAY_S)
    assert names(found) == (["a/older", "a/old"], ["a/enabled", "a/served"])
    assert found.items[1].reason == "Last used 40 days ago."
    assert found.kept[0].reason == "It is enabled on local."
    assert found.kept[1].reason == "A server uses it: s1."


def test_what_came_from_another_machine_counts_from_when_it_came(store: ModelStore) -> None:
    long_ago_ms = 1_400_000_000_000
    put(store, "a/imported", last_dss_usage=long_ago_ms, download_date=long_ago_ms)
    entries = CacheIndex(store).list()
    came_s = (store.folder(ModelRef("a/imported")) / MODEL).stat().st_mtime
    wishes = PruneWishes(unused_s=DAY_S)
    assert plan_prune(entries, [], wishes, came_s + DAY_S / 2).items == ()
    assert len(plan_prune(entries, [], wishes, came_s + 2 * DAY_S).items) == 1


def test_a_budget_takes_the_longest_unused_and_no_more() -> None:
    entries = [
        entry(f"a/m{age}", size_bytes=100, last_used_at=NOW_S - age * DAY_S) for age in range(5)
    ]
    entries[4] = entry("a/m4", size_bytes=100, last_used_at=1.0, served_by=("s",))
    assert names(plan(entries, budget_bytes=500)) == ([], [])
    assert names(plan(entries, budget_bytes=499)) == (["a/m3"], ["a/m4"])
    assert names(plan(entries, budget_bytes=250)) == (["a/m3", "a/m2", "a/m1"], ["a/m4"])
    assert names(plan(entries, budget_bytes=0))[0] == ["a/m3", "a/m2", "a/m1", "a/m0"]
    # What goes for another reason counts as gone.
    both = plan(entries, budget_bytes=400, unused_s=3 * DAY_S)
    assert names(both) == (["a/m3"], ["a/m4"])
    assert both.items[0].reason == "Last used 3 days ago."


def test_detached_revisions_go_but_never_the_last_of_a_model() -> None:
    entries = [
        entry("a/x"),
        entry("a/x@v1"),
        entry("a/x@v2", enabled_on=("local",)),
        entry("b/only@v1"),
        entry("c/two@old", last_used_at=1.0),
        entry("c/two@new", last_used_at=2.0),
        entry("d/pinned@v1", enabled_on=("local",)),
        entry("d/pinned@v2"),
        entry("not a name@v1", problem="broken"),
    ]
    found = plan(entries, detached=True)
    assert names(found) == (["a/x@v1", "d/pinned@v2", "c/two@old"], [])


def test_nothing_wished_takes_nothing() -> None:
    assert plan([entry("a/x")]) == PrunePlan()


def test_what_is_linked_elsewhere_frees_nothing(store: ModelStore, tmp_path: Path) -> None:
    content = files() | {"model.safetensors": bytes(1_000_000)}
    put(store, "a/own", content)
    linked = put(store, "a/linked", content)
    os.link(linked.model_dir / "model.safetensors", tmp_path / "elsewhere")
    found = plan_prune(CacheIndex(store).list(), [], PruneWishes(budget_bytes=0), NOW_S)
    frees = {item.model: item.frees_bytes for item in found.items}
    assert frees["a/linked"] < 1_000_000 <= frees["a/own"]


def half(store: ModelStore, model: str) -> Partial:
    stage = store.stage(ModelRef.parse(model), resume=True)
    write(stage.folder, {"parts/x.part": bytes(100_000)})
    return next(found for found in partials(store) if found.model == model)


def test_half_downloads_are_seen_and_removed(store: ModelStore) -> None:
    first, second = half(store, "a/one"), half(store, "a/two@v1")
    assert partials(store) == [first, second]
    assert first.size_bytes >= 100_000 and first.begun_by and not first.why_kept
    found = plan_prune([], partials(store), PruneWishes(partials=True), first.touched_at + 7200)
    assert [item.partial for item in found.items] == [first.name, second.name]
    assert found.items[0].reason.endswith("It last grew 2 hours ago.") or "; it last" in (
        found.items[0].reason
    )
    remove_partial(store, first.name)
    assert partials(store) == [second]
    with pytest.raises(NotFound):
        remove_partial(store, first.name)


@pytest.mark.parametrize("name", ["", "..", "../x.partial", "/etc/x.partial", "a.claim", ".partial",
                                  "there.partial/../x.partial"])  # fmt: skip
def test_nothing_but_a_half_download_is_removed(store: ModelStore, name: str) -> None:
    put(store, "a/entry")
    half(store, "a/one")
    with pytest.raises(MeshtuiError):
        remove_partial(store, name)
    assert len(store.list()) == 1 and len(partials(store)) == 1


HOLDER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from meshtui.cache.store import ModelStore
    from meshtui.domain.model_ref import ModelRef
    with ModelStore(Path(sys.argv[1])).holding(ModelRef("a/busy")):
        print("held", flush=True)
        sys.stdin.read()
""")


def test_a_download_that_is_under_way_stays(store: ModelStore) -> None:
    half(store, "a/busy")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        [busy] = partials(store)
        assert busy.why_kept
        found = plan_prune([], [busy], PruneWishes(partials=True), NOW_S)
        assert found.items == () and found.kept[0].reason == "Its download is under way."
        with pytest.raises(Conflict, match="under way"):
            remove_partial(store, busy.name)
        holder.kill()
    [left] = partials(store)
    assert not left.why_kept
    remove_partial(store, left.name)
    assert partials(store) == []
