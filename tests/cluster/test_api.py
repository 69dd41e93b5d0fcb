"""Requests to a real API server, and its refusals in words."""

import asyncio
import time
from pathlib import Path

import pytest

from meshtui.deploy.kubernetes.api import Cluster, Json, contexts
from meshtui.deploy.kubernetes.errors import ClusterError
from meshtui.domain.errors import InvalidInput
from tests.cluster.accounts import account_config, account_token
from tests.cluster.conftest import Access
from tests.cluster.control_plane import ControlPlane

pytestmark = pytest.mark.cluster


def config_map(name: str, **data: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": data,
    }


async def test_objects_are_applied_changed_and_deleted(cluster: Cluster, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps/one"
    dry = await cluster.apply(path, config_map("one", a="1"), dry_run=True)
    assert dry["data"] == {"a": "1"}
    with pytest.raises(ClusterError) as missing:
        await cluster.get(path)
    assert missing.value.status == 404 and missing.value.is_lasting
    first = await cluster.apply(path, config_map("one", a="1"))
    second = await cluster.apply(path, config_map("one", b="2"))
    assert second["data"] == {"b": "2"}  # what we do not name any more is ours no longer
    stale = {
        "metadata": {"resourceVersion": first["metadata"]["resourceVersion"]},
        "data": {"c": ""},
    }
    with pytest.raises(ClusterError) as conflict:
        await cluster.patch(path, stale)
    assert conflict.value.status == 409 and not conflict.value.is_lasting
    await cluster.delete(path)
    await cluster.delete(path)


async def test_a_permission_that_is_missing_is_named(
    cluster: Cluster, namespace: str, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = await account_config(cluster, control_plane, namespace, "guest")
    monkeypatch.setenv("KUBECONFIG", str(config))
    guest = await Cluster.connect("tests")
    try:
        with pytest.raises(ClusterError) as refused:
            await guest.get(f"/apis/apps/v1/namespaces/{namespace}/deployments")
    finally:
        await guest.close()
    why = refused.value.explanation
    assert why.failure_id == "k8s-rbac"
    assert f"system:serviceaccount:{namespace}:guest may not list deployments.apps" in why.cause
    assert "meshtui connection rbac" in why.fix


async def test_an_expired_login_is_read_anew_and_then_explained(
    cluster: Cluster, namespace: str, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await account_token(cluster, namespace, "worker")
    config = control_plane.kubeconfig_for("not-valid-any-more", "worker")
    monkeypatch.setenv("KUBECONFIG", str(config))
    worker = await Cluster.connect()
    try:
        with pytest.raises(ClusterError) as refused:
            await worker.get("/version/nothing")
        assert refused.value.status == 401
        assert "expired" in refused.value.explanation.cause
        tunnel = f"/api/v1/namespaces/{namespace}/pods/any/portforward"
        with pytest.raises(ClusterError) as refused:
            async with worker.websocket(tunnel, "v4.channel.k8s.io", ports="1"):
                pass
        assert refused.value.status == 401
        control_plane.kubeconfig_for(token, "worker")  # logged in again
        worker._reloaded_at = 0.0
        with pytest.raises(ClusterError) as forbidden:
            async with worker.websocket(tunnel, "v4.channel.k8s.io", ports="1"):
                pass
        assert forbidden.value.status == 403
        with pytest.raises(ClusterError) as forbidden:
            await worker.get(f"/api/v1/namespaces/{namespace}/pods")
        assert forbidden.value.status == 403  # known now, though not allowed
    finally:
        await worker.close()


async def test_a_cluster_that_is_away_is_told_apart(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = control_plane.kubeconfig_for("t", "away", server="https://127.0.0.1:9")
    monkeypatch.setenv("KUBECONFIG", str(away))
    cluster = await Cluster.connect()
    try:
        started = time.monotonic()
        with pytest.raises(ClusterError, match="does not answer") as error:
            await cluster.get("/version")
        assert time.monotonic() - started < 5
    finally:
        await cluster.close()
    assert error.value.status == 0 and not error.value.is_lasting


async def test_the_kubeconfig_is_explained_where_it_does_not_fit(
    use_cluster: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, current = await asyncio.to_thread(contexts)
    assert use_cluster.context in names and current
    with pytest.raises(InvalidInput, match="has no context 'moon'") as error:
        await Cluster.connect("moon")
    assert use_cluster.context in (error.value.hint or "")
    broken = tmp_path / "broken"
    broken.write_text("{")
    monkeypatch.setenv("KUBECONFIG", str(broken))
    with pytest.raises(InvalidInput, match="cannot be used"):
        await Cluster.connect()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(InvalidInput, match="There is no kubeconfig"):
        await Cluster.connect()
