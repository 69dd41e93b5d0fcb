"""Sending a model to a volume, beside `kubectl cp` of the same files into the same pod."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from meshtui.cache.work import Work
from meshtui.deploy.kubernetes.api import Cluster
from meshtui.deploy.kubernetes.delivery_marks import make_claim
from meshtui.deploy.kubernetes.delivery_pod import loading_pod
from meshtui.deploy.kubernetes.sendable import sendable
from meshtui.deploy.kubernetes.upload import CONTAINER, Upload
from tests.bench.measure import Row, median, require
from tests.cluster.conftest import Access
from tests.cluster.volumes import python_server
from tests.support.shelf import model_files, put_entry

pytestmark = pytest.mark.cluster

MODEL = "org/large"
_MEGABYTES = 80
_TURNS = 2


async def test_a_model_arrives_as_fast_as_kubectl_copies_it(
    cluster: Cluster,
    use_cluster: Access,
    namespace: str,
    python_node: str,
    shelf: Path,
    kubectl: Path,
) -> None:
    block = os.urandom(1 << 20)
    shards = {f"model-{number}.safetensors": block * _MEGABYTES for number in (1, 2)}
    entry = put_entry(MODEL, {**model_files(), **shards})
    what = sendable(entry, Work())
    for path in entry.model_dir.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())  # so that the disk is not busy with it later
    server = python_server(namespace, python_node, MODEL)
    await make_claim(cluster, server)
    async with loading_pod(cluster, server, lambda _: None) as pod:

        async def ours_s() -> float:
            """Sent, hashed on the other side, flushed to disk, and in its place."""
            began = time.perf_counter()
            assert await Upload(cluster, namespace, pod, what, lambda _: None).run()
            took_s = time.perf_counter() - began
            await asyncio.to_thread(shutil.rmtree, shelf / what.name)
            return took_s

        async def kubectl_s() -> float:
            began = time.perf_counter()
            await asyncio.to_thread(copy)
            took_s = time.perf_counter() - began
            await asyncio.to_thread(shutil.rmtree, shelf / "copy")
            return took_s

        def copy() -> None:
            access = ("--kubeconfig", use_cluster.kubeconfig, "--context", use_cluster.context)
            place = f"{namespace}/{pod}:/models/copy"
            subprocess.run(
                [kubectl, *access, "cp", "-c", CONTAINER, str(entry.folder), place],
                check=True,
                capture_output=True,
            )
            assert len(list((shelf / "copy" / "model").iterdir())) == len(shards) + 2

        loop = asyncio.get_running_loop()

        def timed(measure: Callable[[], Coroutine[None, None, float]]) -> float:
            return asyncio.run_coroutine_threadsafe(measure(), loop).result()

        def attempt() -> list[Row]:
            both = [(timed(ours_s), timed(kubectl_s)) for _ in range(_TURNS)]
            ours, theirs = (median(figures) for figures in zip(*both, strict=True))
            return [Row("send a model to a volume, beside kubectl cp", ours, theirs, 1.0, "s")]

        await asyncio.to_thread(require, f"Sending {2 * _MEGABYTES} MB to a volume", attempt)
