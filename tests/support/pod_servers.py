"""Servers to be, as the tests of clusters describe them."""

from typing import Any

from meshtui.deploy.kubernetes.spec import PodServer, describe
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.execution import KubernetesExecution

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
KEY = "key-that-nobody-may-see"
HUB_TOKEN = "hf_token-that-nobody-may-see"


def pod_server(
    namespace: str = "models",
    *,
    model: str = MODEL,
    enabled: Any = None,
    properties: dict[str, str] | None = None,
    **execution: Any,
) -> PodServer:
    """A server of that model; `execution` are fields of its execution config, `properties` are
    those of its connection."""
    return describe(
        Connection(name="cloud", execution="gpu", properties=properties or {}),
        EnabledModel(model=model, **(enabled or {})),
        KubernetesExecution(name="gpu", namespace=namespace, **execution),
        hub_token=HUB_TOKEN,
        api_key=KEY,
    )
