"""The preflight against a real cluster: what is missing is named, with what to do."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.objects import path_of
from meshtui.deploy.kubernetes.permissions import PERMISSIONS, role, role_binding
from meshtui.deploy.kubernetes.preflight import Preflight, preflight
from meshtui.domain.execution import KubernetesExecution, Storage
from meshtui.domain.finding import Finding, Level
from tests.cluster.accounts import account_config, subject
from tests.cluster.conftest import Access
from tests.cluster.control_plane import ControlPlane
from tests.cluster.looking import Placed
from tests.cluster.nodes import PlayedKubelet
from tests.support.pod_servers import pod_server

pytestmark = pytest.mark.cluster


def execution(namespace: str, **wishes: Any) -> KubernetesExecution:
    """To run on this test's nodes only."""
    selector = {"meshtui-test": namespace, **wishes.pop("node_selector", {})}
    return KubernetesExecution(name="gpu", namespace=namespace, node_selector=selector, **wishes)


def of(found: Preflight, rule: str) -> Finding:
    (finding,) = (one for one in found.findings if one.rule == rule)
    if finding.level is not Level.OK:
        assert finding.fix or finding.rule == "gpu-count"
    return finding


async def test_all_is_well_where_it_is(
    cluster: Cluster, namespace: str, kubelet: PlayedKubelet
) -> None:
    await kubelet.node(gpus=4)
    found = await preflight(cluster, execution(namespace, gpus=2))
    assert found.is_fine, found.findings
    assert [one for one in found.findings if one.level is not Level.OK] == []
    assert "v1." in of(found, "cluster-version").message
    assert "admin" in of(found, "cluster-user").message
    (node,) = (node for node in found.nodes if node.labels.get("meshtui-test") == namespace)
    assert (node.product, node.count, node.free) == ("NVIDIA-A100-SXM4-80GB", 4, 4)
    assert node.memory_bytes == 81920 * 1024**2 and node.compute_capability == 8.0
    assert node.driver == "570.124.06" and node.cuda == "12.8"


async def test_gpus_in_use_are_not_free(
    cluster: Cluster, namespace: str, kubelet: PlayedKubelet
) -> None:
    await kubelet.node(gpus=4)
    placed = Placed(cluster, pod_server(namespace, gpus=4))
    await placed.apply()
    await placed.pod()
    found = await preflight(cluster, execution(namespace))
    assert of(found, "gpu-free").level is Level.WARNING and found.is_fine


@pytest.mark.parametrize(
    ("node", "wishes", "words"),
    [
        ({"gpus": 1}, {"gpus": 2}, "it has 1 GPUs"),
        (
            {"taints": [{"key": "team", "value": "a", "effect": "NoSchedule"}]},
            {},
            "its taint team=a:NoSchedule is not tolerated",
        ),
        (
            {},
            {"node_selector": {"nvidia.com/gpu.product": "NVIDIA-H100"}},
            "its label nvidia.com/gpu.product is NVIDIA-A100-SXM4-80GB",
        ),
    ],
    ids=["count", "taint", "product"],
)
async def test_nodes_that_can_never_take_the_pod_say_why(
    cluster: Cluster,
    namespace: str,
    kubelet: PlayedKubelet,
    node: dict[str, Any],
    wishes: dict[str, Any],
    words: str,
) -> None:
    await kubelet.node(**node)
    found = await preflight(cluster, execution(namespace, **wishes))
    fit = of(found, "gpu-fit")
    assert fit.level is Level.BLOCKER and words in fit.message and not found.is_fine


async def test_gpus_without_a_device_plugin_are_seen(
    cluster: Cluster, namespace: str, kubelet: PlayedKubelet
) -> None:
    await kubelet.node(gpus=0, labels={"nvidia.com/gpu.present": "true"})
    found = await preflight(cluster, execution(namespace))
    plugin = of(found, "device-plugin")
    # Other nodes of the cluster may have GPUs that pods can have.
    assert plugin.level is not Level.OK and "GPU Operator" in plugin.fix


async def test_names_that_are_not_there_are_found_before_a_pod_is_made(
    cluster: Cluster, namespace: str, kubelet: PlayedKubelet
) -> None:
    await kubelet.node()
    found = await preflight(
        cluster,
        execution(
            namespace,
            runtime_class="nvidia",
            service_account="nobody",
            priority_class="urgent",
            image_pull_secrets=("registry",),
            storage=Storage(storage_class="gold"),
        ),
    )
    for rule, name in (
        ("runtime-class", "nvidia"),
        ("service-account", "nobody"),
        ("priority-class", "urgent"),
        ("image-pull-secrets", "registry"),
        ("storage", "gold"),
    ):
        assert of(found, rule).level is Level.BLOCKER and name in of(found, rule).message
    assert of(found, "dry-run").level is Level.BLOCKER  # and the real admission agrees


async def test_quota_limits_and_pod_security_are_read(
    cluster: Cluster, namespace: str, kubelet: PlayedKubelet
) -> None:
    await kubelet.node(gpus=4)
    space = f"/api/v1/namespaces/{namespace}"
    quota = {"requests.nvidia.com/gpu": "1"}
    limits = [{"type": "Container", "default": {"memory": "2Gi"}}]
    for path, kind, spec in (
        ("resourcequotas", "ResourceQuota", {"hard": quota}),
        ("limitranges", "LimitRange", {"limits": limits}),
    ):
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "team"}, "spec": spec}
        await cluster.create(f"{space}/{path}", body)
    enforce = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await cluster.patch(space, enforce)
    await kubelet.until_quota_is_counted("team")
    found = await preflight(cluster, execution(namespace, gpus=2))
    assert of(found, "quota").level is Level.BLOCKER
    assert "2Gi" in of(found, "limit-range").message
    assert "restricted" in of(found, "pod-security").fix
    assert of(found, "dry-run").level is Level.BLOCKER
    better = await preflight(cluster, execution(namespace, security="restricted"))
    assert of(better, "quota").level is of(better, "pod-security").level is Level.OK
    assert of(better, "dry-run").level is Level.OK, of(better, "dry-run")


async def test_a_user_of_one_namespace_is_told_each_missing_permission(
    cluster: Cluster, namespace: str, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = await account_config(cluster, control_plane, namespace, "user")
    monkeypatch.setenv("KUBECONFIG", str(config))
    user = await Cluster.connect()
    try:
        nothing = await preflight(user, execution(namespace))
        for permission in PERMISSIONS:
            finding = of(nothing, f"permission-{permission.name}")
            wanted = Level.BLOCKER if permission.needed else Level.WARNING
            assert finding.level is wanted and ", ".join(permission.verbs) in finding.message
        for manifest in (role(namespace), role_binding(namespace, subject(namespace, "user"))):
            await cluster.apply(path_of(manifest), manifest)
        enough = await preflight(user, execution(namespace))
        assert enough.is_fine, enough.findings
        assert of(enough, "permissions").level is Level.OK
        assert of(enough, "gpu-nodes").level is Level.WARNING  # they may not be listed
        gone = await preflight(user, execution("not-there"))
        assert not gone.is_fine
    finally:
        await user.close()


async def test_a_namespace_that_is_not_there_is_the_reason(cluster: Cluster) -> None:
    found = await preflight(cluster, execution("not-there"))
    assert "kubectl create namespace" in of(found, "namespace").fix


async def test_the_command_prints_findings_and_nodes(
    use_cluster: Access, namespace: str, kubelet: PlayedKubelet, own_folders: Path
) -> None:
    await kubelet.node(gpus=8)
    folder = own_folders / "config" / "meshtui" / "execution"
    folder.mkdir(parents=True)
    text = f'kind = "kubernetes"\nnamespace = "{namespace}"\ncontext = "{use_cluster.context}"\n'
    selector = f'node_selector = {{ meshtui-test = "{namespace}" }}\n'
    (folder / "gpu.toml").write_text(text + selector)

    def doctor(*words: str) -> subprocess.CompletedProcess[str]:
        program = str(Path(sys.executable).parent / "meshtui")
        command = [program, "doctor", "--connection", "gpu", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    done = doctor()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The cluster would take a server." in done.stdout
    assert "NVIDIA-A100-SXM4-80GB" in done.stdout and "Traceback" not in done.stderr
    assert json.loads(doctor("--json").stdout)["nodes"]
    (folder / "gpu.toml").write_text(text + "gpus = 16\n" + selector)
    done = doctor()
    assert done.returncode == 1 and "BLOCKER" in done.stdout
