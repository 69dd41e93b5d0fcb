"""Watches against a real API server: complete, taken up again, and few requests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.deploy.kubernetes.watch import Watch
from tests.cluster.accounts import account_config
from tests.cluster.control_plane import ControlPlane
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster


def config_map(name: str, value: str = "", **labels: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels},
        "data": {"value": value},
    }


class Seen:
    """What a watch told."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str | None]] = []
        self.troubles: list[ClusterError | None] = []

    def changed(self, name: str, one: Json | None) -> None:
        self.changes.append((name, one["data"]["value"] if one else None))


@asynccontextmanager
async def watching(cluster: Cluster, path: str, seen: Seen) -> AsyncIterator[Watch]:
    watch = Watch(
        cluster, path, changed=seen.changed, troubled=seen.troubles.append, selector="mine=yes"
    )
    watch.start()
    try:
        await watch.current()
        yield watch
    finally:
        await watch.close()


async def test_what_is_there_and_what_changes_is_told_once(
    cluster: Cluster, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await cluster.create(path, config_map("a", "1", mine="yes"))
    await cluster.create(path, config_map("foreign", "1"))
    seen = Seen()
    async with watching(cluster, path, seen) as watch:
        assert seen.changes == [("a", "1")]
        await cluster.patch(f"{path}/a", {"data": {"value": "2"}})
        await cluster.create(path, config_map("b", "1", mine="yes"))
        await cluster.delete(f"{path}/a")
        await eventually(lambda: len(seen.changes) == 4, f"all changes: {seen.changes}")
        assert seen.changes[1:] == [("a", "2"), ("b", "1"), ("a", None)]
        assert set(watch.objects) == {"b"} and watch.lists == 1


async def test_a_killed_api_server_is_waited_for_and_nothing_is_lost(
    cluster: Cluster, namespace: str, control_plane: ControlPlane
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await cluster.create(path, config_map("kept", "1", mine="yes"))
    seen = Seen()
    async with watching(cluster, path, seen) as watch:
        control_plane.kill_api_server()
        try:
            await eventually(lambda: seen.troubles[-1:] and seen.troubles[-1], "it is noticed")
        finally:
            control_plane.start_api_server()
        await cluster.create(path, config_map("new", "1", mine="yes"))
        await eventually(lambda: ("new", "1") in seen.changes, f"it goes on: {seen.changes}", 60)
        await eventually(lambda: seen.troubles[-1] is None, "all is well again")
        # The new server may have forgotten the place: then the list is read again, once. Nothing
        # is told twice either way.
        assert watch.lists <= 2 and seen.changes == [("kept", "1"), ("new", "1")]


async def test_a_place_that_is_forgotten_makes_it_read_the_list_again(
    cluster: Cluster, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await cluster.create(path, config_map("goes", "1", mine="yes"))
    seen = Seen()
    watch = Watch(cluster, path, changed=seen.changed, selector="mine=yes")
    watch.start()
    await watch.current()
    await watch.close()
    await cluster.delete(f"{path}/goes")
    await cluster.create(path, config_map("comes", "1", mine="yes"))
    watch._version = "1"  # older than anything that the server can still tell about
    watch.start()
    try:
        await eventually(lambda: len(seen.changes) == 3, f"what happened meanwhile: {seen.changes}")
        assert sorted(seen.changes[1:], key=str) == [("comes", "1"), ("goes", None)]
        assert watch.lists == 2
    finally:
        await watch.close()


async def test_a_watch_that_is_not_allowed_says_so_at_once(
    cluster: Cluster, namespace: str, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = await account_config(cluster, control_plane, namespace, "blind")
    monkeypatch.setenv("KUBECONFIG", str(config))
    blind = await Cluster.connect()
    watch = Watch(blind, f"/api/v1/namespaces/{namespace}/pods", changed=lambda *_: None)
    watch.start()
    try:
        with pytest.raises(ClusterError, match="may not list pods"):
            await watch.current()
    finally:
        await watch.close()
        await blind.close()


async def test_a_listener_that_fails_does_not_end_the_watch(
    cluster: Cluster, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    seen: list[str] = []

    def fail(name: str, one: Json | None) -> None:
        seen.append(name)
        raise RuntimeError("no")

    watch = Watch(cluster, path, changed=fail, selector="mine=yes")
    watch.start()
    try:
        await watch.current()
        for name in ("a", "b"):
            await cluster.create(path, config_map(name, mine="yes"))
        await eventually(lambda: seen == ["a", "b"], "both are told")
    finally:
        await watch.close()
