"""A real cluster for the tests of this folder: one of their own, or that of a context."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from meshtui.deploy.kubernetes.api import Cluster, Json
from tests.cluster import binaries
from tests.cluster.binaries import Missing
from tests.cluster.control_plane import ControlPlane
from tests.cluster.machine import NAME, Machine, missing_parts, node_programs, pack_image
from tests.cluster.nodes import PlayedKubelet
from tests.cluster.python_image import ENVIRONMENT, PYTHON, python_layer
from tests.cluster.volumes import volume
from tests.cluster.waiting import until

_CONTEXT = os.environ.get("MESHTUI_TEST_CONTEXT")
_HOW = '(CONTRIBUTING.md, "Tests with a cluster")'
_KUBECONFIG = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")


class Access(msgspec.Struct, frozen=True):
    """How the tests reach the cluster. `control_plane` is None where it is not their own."""

    kubeconfig: str
    context: str
    control_plane: ControlPlane | None = None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tests that are left out for the same reason are told in one line."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        report.longrepr = (str(Path(__file__).parent), None, f"{report.longrepr[2]} {_HOW}")
    return report


# The cluster lasts for the tests of this folder: what is measured elsewhere has the machine for
# itself.
@pytest.fixture(scope="package")
def access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    if _CONTEXT:
        yield Access(_KUBECONFIG, _CONTEXT)
        return
    try:
        programs = binaries.find()
    except Missing as error:
        pytest.skip(f"the cluster tests are left out. {error}")
    control_plane = ControlPlane(tmp_path_factory.mktemp("control-plane"), programs)
    try:
        control_plane.start()
        yield Access(str(control_plane.kubeconfig), "tests", control_plane)
    finally:
        control_plane.stop()


@pytest.fixture
def control_plane(access: Access) -> ControlPlane:
    """For tests that kill parts of it, or that need nodes of their own."""
    if access.control_plane is None:
        pytest.skip("needs a cluster of the tests' own: unset MESHTUI_TEST_CONTEXT")
    return access.control_plane


@pytest.fixture(scope="package")
def machine(access: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """This machine as a node: pods run for real."""
    reason = missing_parts()
    if access.control_plane is None:
        reason = "needs a cluster of the tests' own: unset MESHTUI_TEST_CONTEXT"
    if reason is not None:
        pytest.skip(f"the tests with real pods are left out: {reason}")
    assert access.control_plane is not None
    try:
        programs = node_programs()
    except Missing as error:
        pytest.skip(f"the tests with real pods are left out: {error}")
    folder = tmp_path_factory.mktemp("machine")
    found = Machine(folder, access.control_plane.kubeconfig, programs)
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="package")
def kubectl() -> Path:
    try:
        return binaries.kubectl()
    except Missing as error:
        pytest.skip(f"the tests beside kubectl are left out. {error}")


@pytest.fixture
def use_cluster(access: Access, monkeypatch: pytest.MonkeyPatch) -> Access:
    """Lets this test's programs find the cluster."""
    monkeypatch.setenv("KUBECONFIG", access.kubeconfig)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return access


@pytest_asyncio.fixture
async def cluster(use_cluster: Access) -> AsyncIterator[Cluster]:
    """The cluster as its administrator."""
    found = await Cluster.connect(use_cluster.context)
    try:
        yield found
    finally:
        await found.close()


@pytest_asyncio.fixture
async def namespace(cluster: Cluster) -> AsyncIterator[str]:
    """A namespace of this test's own; its deletion is begun at the end and not waited for."""
    name = f"meshtui-{secrets.token_hex(4)}"
    body: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await cluster.create("/api/v1/namespaces", body)
    try:
        async with asyncio.timeout(180):  # controllers find a restarted API server late
            while not (await cluster.get(f"/api/v1/namespaces/{name}/serviceaccounts"))["items"]:
                await asyncio.sleep(0.05)
        yield name
    finally:
        await cluster.delete(f"/api/v1/namespaces/{name}")


@pytest_asyncio.fixture
async def kubelet(
    cluster: Cluster, namespace: str, control_plane: ControlPlane
) -> AsyncIterator[PlayedKubelet]:
    """Nodes as objects, and what their kubelets would report, as this test plays it."""
    played = PlayedKubelet(cluster, namespace)
    try:
        yield played
    finally:
        await played.close()


@pytest_asyncio.fixture
async def node(cluster: Cluster, machine: Machine) -> str:
    """The real node, ready, with two GPUs advertised."""

    def is_ready(found: Json | None) -> bool:
        conditions = (found or {}).get("status", {}).get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    path = f"/api/v1/nodes/{NAME}"
    try:
        await until(cluster, path, is_ready, 60)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{machine.log('kubelet')[-3000:]}") from None
    gpus = {"nvidia.com/gpu": "2"}
    await cluster.patch(f"{path}/status", {"status": {"capacity": gpus, "allocatable": gpus}})
    await cluster.patch(path, {"spec": {"taints": []}})
    return NAME


@pytest.fixture(scope="package")
def python_image(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with what stock images have beside the engine; the real node has it."""
    archive = tmp_path_factory.mktemp("image") / "python.tar"
    pack_image(archive, PYTHON, python_layer(), {"Env": ENVIRONMENT})
    machine.load(archive)
    archive.unlink()
    return PYTHON


@pytest.fixture
def python_node(node: str, python_image: str) -> str:
    """The real node, once it has the image with Python."""
    return node


@pytest_asyncio.fixture
async def shelf(cluster: Cluster, namespace: str, tmp_path: Path) -> AsyncIterator[Path]:
    """The folder that pods see as the volume of `tests.cluster.volumes.CLAIM`."""
    folder = tmp_path / "volume"
    folder.mkdir()
    async with volume(cluster, namespace, folder):
        yield folder
