"""Waiting for what a cluster's controllers do."""

import asyncio
from collections.abc import Callable

from meshtui.deploy.kubernetes.api import Cluster, Json
from meshtui.deploy.kubernetes.errors import ClusterError


async def until(
    cluster: Cluster,
    path: str,
    condition: Callable[[Json | None], object],
    timeout_s: float = 120.0,
) -> Json:
    """The object (None: there is none) as soon as the condition holds of it."""
    found: Json | None = None
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    found = await cluster.get(path)
                except ClusterError as error:
                    if error.status != 404:
                        raise
                    found = None
                if condition(found):
                    return found or {}
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{path} is not as expected in {timeout_s} s: {found}") from None
