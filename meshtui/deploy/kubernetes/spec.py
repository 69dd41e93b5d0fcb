"""What a server is to be on a cluster: its engine's command line, image, names and secrets."""

import base64
import hashlib
import re
import secrets
from pathlib import Path

import msgspec

from meshtui.cache.names import folder_name
from meshtui.cache.store import MODEL
from meshtui.deploy.kubernetes.delivery_choice import delivery_of
from meshtui.deploy.servers import server_id
from meshtui.domain.codec import to_json
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.delivery import Delivery, DeliveryMode
from meshtui.domain.errors import InvalidInput
from meshtui.domain.execution import KubernetesExecution, looks_secret
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.runtime import Package, RuntimeStatus
from meshtui.domain.task import Engine, EngineChoice
from meshtui.engines.base import LaunchRequest, Machine
from meshtui.engines.model_facts import ModelFacts
from meshtui.engines.registry import adapter
from meshtui.settings.shipped import toml_data

PORT = 8000
MODELS_PATH = "/models"
IMAGE_PATH = "/model-image"
API_KEY = "api-key"
HUB_TOKEN = "hf-token"
_NOT_LABEL = re.compile(r"[^A-Za-z0-9_.-]+")
_VERSION = re.compile(r":v?(?P<version>\d+\.\d+\.\d+)")
# They would make an engine refuse a model that it is to fetch itself.
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


class Secrets(msgspec.Struct, frozen=True):
    """Values that stand in the Secret only, by key. Never printed."""

    values: dict[str, str]

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self.values)})"

    def encoded(self) -> dict[str, str]:
        """As the field `data` of a Secret."""
        return {key: base64.b64encode(text.encode()).decode() for key, text in self.values.items()}


class PodServer(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides a server's objects. `secret_environment` maps variables to keys of
    the Secret. `fetched_to` is the model's folder in the pod, by way of `delivery`; None: the
    engine fetches it itself. `spec_json` is the whole wish, without secrets, as another meshtui
    reads it."""

    id: str
    connection: str
    model: ModelRef
    execution: KubernetesExecution
    image: str
    python: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    secret_environment: dict[str, str]
    secrets: Secrets
    delivery: Delivery
    fetched_to: str | None
    hub_endpoint: str | None
    startup_budget_s: int
    spec_json: str

    @property
    def name(self) -> str:
        """Of the Deployment and all that belongs to it; never `vllm`, whose Service would set
        variables that the engine takes for its own."""
        return f"mt-{self.id}"

    @property
    def connection_label(self) -> str:
        return label_value(self.connection)


def describe(
    connection: Connection,
    enabled: EnabledModel,
    execution: KubernetesExecution,
    *,
    hub_token: str | None = None,
    api_key: str | None = None,
) -> PodServer:
    """What a server of this model is on that cluster. A pure function but for a fresh API key
    where none is given. Raises `InvalidInput` for settings that cannot be had there."""
    if (enabled.engine or connection.engine_completion) is EngineChoice.TRANSFORMERS:
        raise InvalidInput(
            "Pods run vLLM; the engine TRANSFORMERS is for this machine only.",
            hint="Set the engine to AUTO or VLLM.",
        )
    gpus, parallel = execution.gpus, enabled.tensor_parallel_size
    if parallel > gpus:
        raise InvalidInput(
            f"The model is to be split over {parallel} GPUs, and pods of {execution.name} have "
            f"{gpus}.",
            hint="Raise gpus in the execution config, or lower tensor_parallel_size.",
        )
    ref = ModelRef.parse(enabled.model)
    defaults = toml_data("kubernetes/defaults.toml")
    image = execution.image or defaults["image"]["name"]
    key = api_key or secrets.token_urlsafe(32)
    delivery = delivery_of(connection, execution, ref)
    fetched_to = _model_path(delivery, execution, ref)
    launch = adapter(Engine.VLLM).launch(
        LaunchRequest(
            model=enabled.model,
            model_dir=Path(fetched_to or ref.model_id),
            # The default is to use all GPUs of the pod.
            enabled=msgspec.structs.replace(
                enabled,
                tensor_parallel_size=gpus if parallel == 1 else parallel,
                extra_engine_args=(*_revision(ref, fetched_to), *enabled.extra_engine_args),
            ),
            runtime=_runtime(image),
            python=Path(defaults["image"]["python"]),
            machine=Machine(gpu_count=gpus),
            port=PORT,
            api_key=key,
            facts=ModelFacts(has_config=True),
            remote=True,
        )
    )
    budget_s = max(int(launch.start_timeout_s), defaults["probes"]["startup_budget_s"])
    environment = {
        **launch.environment,
        "VLLM_ENGINE_READY_TIMEOUT_S": str(budget_s),
        **_proxy(execution),
        **execution.environment,
    }
    hidden = {name for name in environment if looks_secret(name)}
    if fetched_to is None:
        hidden.update(_OFFLINE)
    values = {API_KEY: key}
    names = {"VLLM_API_KEY": API_KEY}
    for name in sorted(hidden.difference(_OFFLINE, names)):
        names[name] = _secret_key(name)
        values[names[name]] = environment[name]
    if hub_token:
        values[HUB_TOKEN] = hub_token
    return PodServer(
        id=server_id(connection.name, enabled.model),
        connection=connection.name,
        model=ref,
        execution=execution,
        image=image,
        python=defaults["image"]["python"],
        argv=launch.argv,
        environment={name: v for name, v in environment.items() if name not in hidden},
        secret_environment=names,
        secrets=Secrets(values),
        delivery=delivery,
        fetched_to=fetched_to,
        hub_endpoint=connection.properties.get("hub.endpoint") or None,
        startup_budget_s=budget_s,
        spec_json=_spec_json(connection, enabled, execution),
    )


def label_value(text: str) -> str:
    """The text as the value of a label: at most 63 of the characters that are allowed there."""
    return _NOT_LABEL.sub("-", text)[:63].strip("-_.")


def model_hash(model: str) -> str:
    """Stands for a model where its name does not fit."""
    return hashlib.sha256(model.encode()).hexdigest()[:16]


def _model_path(delivery: Delivery, execution: KubernetesExecution, ref: ModelRef) -> str | None:
    """Where the engine finds the model, in the layout of the workstation's cache."""
    if delivery.mode is DeliveryMode.EXISTING:
        root = IMAGE_PATH if delivery.image else MODELS_PATH
        return f"{root}/{delivery.path}".rstrip("/")
    if execution.storage is None:
        return None
    return f"{MODELS_PATH}/{folder_name(ref)}/{MODEL}"


def _revision(ref: ModelRef, fetched_to: str | None) -> tuple[str, ...]:
    return ("--revision", ref.revision) if ref.revision and fetched_to is None else ()


def _runtime(image: str) -> RuntimeStatus:
    """The stack in an image, as far as its tag tells; unknown counts as the newest."""
    found = _VERSION.search(image)
    packages = (Package("vllm", found["version"]),) if found else ()
    return RuntimeStatus(name=image, packages=packages)


def _proxy(execution: KubernetesExecution) -> dict[str, str]:
    proxy = execution.proxy
    if proxy is None:
        return {}
    both = {"HTTP_PROXY": proxy.http, "HTTPS_PROXY": proxy.https, "NO_PROXY": proxy.exempt}
    # Programs disagree about the case.
    return {
        name: value for upper, value in both.items() if value for name in (upper, upper.lower())
    }


def _secret_key(variable: str) -> str:
    return f"env-{variable.lower().replace('_', '-')}"


def _spec_json(
    connection: Connection, enabled: EnabledModel, execution: KubernetesExecution
) -> str:
    told = {
        name: value for name, value in enabled.engine_environment.items() if not looks_secret(name)
    }
    return to_json(
        {
            "connection": connection.name,
            "enabled": msgspec.structs.replace(enabled, engine_environment=told),
            "execution": execution,
        }
    ).decode()
