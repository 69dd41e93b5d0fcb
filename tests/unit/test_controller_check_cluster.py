"""Models are judged for the GPUs that a connection's pods can have, not for those of this machine.

The API server here answers what is asked of one; `tests/cluster` asks a real one.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from meshtui.controller.check_cluster import gpus_of_pod
from meshtui.deploy.kubernetes.nodes import GpuNode
from meshtui.domain.check import CheckWishes, Verdict
from meshtui.settings import paths
from tests.controller_support import running_controller
from tests.support.memory_data import configuration_files

GIB = 1 << 30


def node(name: str, product: str, gpus: int, mib: int, capability: int) -> dict[str, Any]:
    labels = {
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.memory": str(mib),
        "nvidia.com/gpu.compute.major": str(capability // 10),
        "nvidia.com/gpu.compute.minor": str(capability % 10),
    }
    status = {
        "allocatable": {"nvidia.com/gpu": str(gpus)},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    return {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": status}


NODES = [node("a", "NVIDIA-A10", 4, 23028, 86), node("h", "NVIDIA-H100-80GB-HBM3", 8, 81559, 90)]


@asynccontextmanager
async def api_server(busy: str = "") -> AsyncGenerator[str, None]:
    """Two nodes with GPUs; those of `busy` are taken."""

    async def nodes(_request: web.Request) -> web.Response:
        return web.json_response({"items": NODES, "metadata": {}})

    async def pods(_request: web.Request) -> web.Response:
        holds = [{"resources": {"limits": {"nvidia.com/gpu": "4"}}}]
        pod = {"spec": {"nodeName": busy, "containers": holds}, "status": {"phase": "Running"}}
        return web.json_response({"items": [pod] if busy else [], "metadata": {}})

    app = web.Application()
    app.router.add_get("/api/v1/nodes", nodes)
    app.router.add_get("/api/v1/pods", pods)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def connect_to(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int = 2) -> str:
    """A connection whose pods run there, and the folder of a model."""
    config = tmp_path / "kubeconfig"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: t\n"
        f'clusters: [{{name: t, cluster: {{server: "{server}"}}}}]\n'
        "users: [{name: t, user: {}}]\ncontexts: [{name: t, context: {cluster: t, user: t}}]\n"
    )
    monkeypatch.setenv("KUBECONFIG", str(config))
    for folder, text in (
        ("execution", f'kind = "kubernetes"\ngpus = {gpus}\n'),
        ("connections", 'execution = "lab"\n'),
    ):
        place = paths.config_dir() / folder / "lab.toml"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    files = configuration_files("meta-llama/Llama-3.1-8B-Instruct")
    assert files is not None
    model = tmp_path / "llama"
    model.mkdir()
    for name, content in files.items():
        (model / name).write_bytes(content)
    return str(model)


@pytest.mark.parametrize(
    ("busy", "gpu", "memory_gib"), [("", "A10 24GB", 22.06), ("a", "H100 SXM 80GB", 79.19)]
)
async def test_the_least_gpu_that_is_free_counts(
    busy: str, gpu: str, memory_gib: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api_server(busy) as server:
        model = connect_to(server, tmp_path, monkeypatch)
        async with running_controller({}) as running:
            report = await running.client.check(model, CheckWishes(connection="lab"))
            assert report.memory is not None and report.memory.gpu == gpu
            assert report.memory.gpu_bytes == pytest.approx(memory_gib * GIB, rel=0.001)
            assert not report.memory.simulated and report.runtime == "gpu"
            assert "gpu-nodes" in {finding.rule for finding in report.findings}
            split = CheckWishes(connection="lab", tensor_parallel_size=4)
            wide = await running.client.check(model, split)
            assert wide.verdict is Verdict.BLOCKED and "2 seen" in wide.summary
            named = CheckWishes(connection="lab", gpu="L40S")
            imagined = await running.client.check(model, named)
            assert imagined.memory is not None and imagined.memory.simulated
            assert "gpu-nodes" not in {finding.rule for finding in imagined.findings}


async def test_pods_that_no_node_takes_are_a_blocker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api_server() as server:
        model = connect_to(server, tmp_path, monkeypatch, gpus=16)
        async with running_controller({}) as running:
            report = await running.client.check(model, CheckWishes(connection="lab"))
            assert report.verdict is Verdict.BLOCKED
            assert "No GPU node takes a pod of 16 GPUs" in report.summary


async def test_a_cluster_that_is_away_costs_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = connect_to("http://127.0.0.1:9", tmp_path, monkeypatch)
    async with running_controller({}) as running:
        report = await running.client.check(model, CheckWishes(connection="lab"))
        assert report.verdict is Verdict.WARNINGS and report.engine is not None
        assert report.memory is not None and report.memory.gpu is None
        [said] = [finding for finding in report.findings if finding.rule == "gpu-nodes"]
        assert "not known beforehand" in said.message and said.fix


def test_gpus_that_are_not_in_the_catalogue_count_as_their_labels_say() -> None:
    slices = GpuNode(
        name="m",
        product="NVIDIA-A100-SXM4-40GB-MIG-3g.20gb",
        count=2,
        memory_bytes=20 * GIB,
        compute_capability=8.0,
        cuda="12.8",
    )
    found = gpus_of_pod([slices], 1)
    assert [gpu.spec.memory_bytes for gpu in found.gpus] == [20 * GIB]
    assert found.driver_cuda == "12.8" and found.gpus[0].spec.capability == 80
    unknown = GpuNode(name="u", product="Something", count=1)
    assert gpus_of_pod([unknown], 1).gpus == () and gpus_of_pod([], 1).gpus == ()
    older = GpuNode(name="o", product="Tesla-T4", count=1, cuda="12.10")
    assert gpus_of_pod([slices, older], 1).driver_cuda == "12.8"
