"""The objects of a server on a cluster, as they are described. `tests/cluster` asks a real API
server whether it takes them."""

import base64
import json
from typing import Any

import pytest

from meshtui.deploy.kubernetes.objects import (
    claim,
    deployment,
    fetch_job,
    manifests,
    owned_by,
    path_of,
    secret,
    service,
)
from meshtui.deploy.kubernetes.spec import PodServer, describe
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.errors import InvalidInput
from meshtui.domain.execution import KubernetesExecution, Proxy, Storage, Toleration
from meshtui.domain.task import EngineChoice
from tests.support.pod_servers import HUB_TOKEN, KEY, MODEL, pod_server


def pod(server: PodServer) -> Any:
    return deployment(server)["spec"]["template"]["spec"]


def container(server: PodServer) -> Any:
    return pod(server)["containers"][0]


def variables(container: Any) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def option(argv: list[str], name: str) -> str:
    return argv[argv.index(name) + 1]


def test_secrets_stand_in_the_secret_only() -> None:
    server = pod_server(
        storage=Storage(), enabled={"engine_environment": {"MY_API_KEY": "mine", "LEVEL": "3"}}
    )
    others = json.dumps([deployment(server), service(server), claim(server), fetch_job(server)])
    for value in (KEY, HUB_TOKEN, "mine"):
        assert value not in others
        assert value not in repr(server)
        assert base64.b64encode(value.encode()).decode() in json.dumps(secret(server))
    env = variables(container(server))
    assert env["LEVEL"] == "3" and env["TOKENIZERS_PARALLELISM"] == "false"
    reference = env["MY_API_KEY"]["secretKeyRef"]
    assert reference["name"] == server.name and reference["key"] in secret(server)["data"]
    assert env["VLLM_API_KEY"]["secretKeyRef"] == {"name": server.name, "key": "api-key"}
    assert all(one["kind"] != "Secret" for one in manifests(server, with_secret=False))


def test_the_engine_listens_to_the_network_and_finishes_answers() -> None:
    argv = container(pod_server())["command"]
    assert argv[:3] == ["python3", "-m", "vllm.entrypoints.launchers.api_server.entry"]
    assert (option(argv, "--host"), option(argv, "--port")) == ("0.0.0.0", "8000")
    assert option(argv, "--shutdown-timeout") == "30"
    assert option(argv, "--model") == option(argv, "--served-model-name") == MODEL
    old = container(pod_server(image="registry.local/vllm/vllm-openai:v0.20.1"))["command"]
    assert "--shutdown-timeout" not in old and "vllm.entrypoints.openai.api_server" in old


def test_a_pod_asks_for_gpus_and_nothing_else() -> None:
    assert container(pod_server(gpus=2))["resources"] == {"limits": {"nvidia.com/gpu": "2"}}
    assert option(container(pod_server(gpus=4))["command"], "--tensor-parallel-size") == "4"
    assert "--tensor-parallel-size" not in container(pod_server())["command"]
    with pytest.raises(InvalidInput, match="split over 4 GPUs") as error:
        pod_server(gpus=2, enabled={"tensor_parallel_size": 4})
    assert "Raise gpus" in (error.value.hint or "")


def test_the_budget_of_the_start_is_the_same_everywhere() -> None:
    spec = deployment(pod_server())["spec"]
    served = spec["template"]["spec"]["containers"][0]
    startup = served["startupProbe"]
    assert startup["failureThreshold"] * startup["periodSeconds"] == 3600
    assert variables(served)["VLLM_ENGINE_READY_TIMEOUT_S"] == "3600"
    assert spec["progressDeadlineSeconds"] == 4200
    assert spec["strategy"] == {"type": "Recreate"}
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 60


def test_services_put_no_variables_into_the_engine() -> None:
    assert pod(pod_server())["enableServiceLinks"] is False
    assert service(pod_server())["metadata"]["name"].startswith("mt-smollm2-135m-instruct-")


def test_shared_memory_grows_with_the_gpus() -> None:
    def limits(**execution: Any) -> list[str]:
        found = pod(pod_server(**execution))["volumes"]
        return [v["emptyDir"]["sizeLimit"] for v in found if v["name"] == "shm"]

    assert limits() == ["2Gi"] and limits(gpus=8) == ["16Gi"]
    assert limits(shared_memory="1Gi") == ["1Gi"] and limits(increased_shared_memory=False) == []


def test_a_model_comes_from_the_hub_or_from_the_volume() -> None:
    direct = pod_server(model=f"{MODEL}@v1")
    argv, env = container(direct)["command"], variables(container(direct))
    assert (option(argv, "--model"), option(argv, "--revision")) == (MODEL, "v1")
    assert "HF_HUB_OFFLINE" not in env and env["HF_TOKEN"]["secretKeyRef"]["optional"]
    assert "initContainers" not in pod(direct)

    volume = Storage(claim="weights")
    stored = pod_server(
        model=f"{MODEL}@v1", storage=volume, properties={"model.delivery": "direct"}
    )
    argv, env = container(stored)["command"], variables(container(stored))
    assert option(argv, "--model").startswith("/models/HuggingFaceTB_2fSmolLM2")
    assert "--revision" not in argv
    assert env["HF_HUB_OFFLINE"] == "1" and "HF_TOKEN" not in env
    job = fetch_job(stored)["spec"]["template"]["spec"]
    (fetching,) = job["containers"]
    target = variables(fetching)["MESHTUI_TARGET"]
    assert f"{target}/model" == option(argv, "--model")
    assert variables(fetching)["MESHTUI_REVISION"] == "v1"
    assert "resources" not in fetching  # no GPU is held meanwhile
    assert pod(stored)["initContainers"] == [fetching]
    # What the workstation sends is there before the pod is made.
    assert "initContainers" not in pod(pod_server(storage=volume))


def test_a_model_may_lie_on_a_volume_or_in_an_image_already() -> None:
    def existing(path: str = "", **properties: str) -> PodServer:
        named = {"model.delivery": "existing", "model.path": path}
        return pod_server(storage=Storage(), properties={**named, **properties})

    server = existing("/shared/{org}/{name}/")
    path = "/models/shared/HuggingFaceTB/SmolLM2-135M-Instruct"
    assert option(container(server)["command"], "--model") == path
    assert "initContainers" not in pod(server)

    image = existing("weights", **{"model.image": "registry.local/models/smollm2:1"})
    assert option(container(image)["command"], "--model") == "/model-image/weights"
    reference = {"reference": "registry.local/models/smollm2:1", "pullPolicy": "IfNotPresent"}
    assert {"name": "model-image", "image": reference} in pod(image)["volumes"]
    mounts = container(image)["volumeMounts"]
    assert {"name": "model-image", "mountPath": "/model-image", "readOnly": True} in mounts

    for path in ("../etc", "a/../../b", ""):
        with pytest.raises(InvalidInput):
            existing(path)


def test_a_way_that_needs_a_volume_is_refused_without_one() -> None:
    for way in ("managed-cache", "existing"):
        with pytest.raises(InvalidInput, match="has no volume") as error:
            pod_server(properties={"model.delivery": way, "model.path": "x"})
        assert "[storage]" in (error.value.hint or "")
    with pytest.raises(InvalidInput, match="'pigeon'"):
        pod_server(properties={"model.delivery": "pigeon"})


def test_each_wish_of_the_execution_config_arrives() -> None:
    server = pod_server(
        node_selector={"nvidia.com/gpu.product": "NVIDIA-L40S"},
        tolerations=(Toleration(key="team", value="a", effect="NoSchedule"),),
        affinity={"nodeAffinity": {}},
        runtime_class="nvidia",
        service_account="runner",
        priority_class="high",
        image_pull_secrets=("registry",),
        labels={"team": "a"},
        annotations={"note": "x"},
        environment={"NCCL_DEBUG": "INFO"},
        proxy=Proxy(https="http://proxy:3128", exempt="10.0.0.0/8"),
    )
    found = pod(server)
    assert found["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L40S"}
    assert [one["key"] for one in found["tolerations"]] == ["nvidia.com/gpu", "team"]
    assert found["runtimeClassName"] == "nvidia" and found["serviceAccountName"] == "runner"
    assert found["priorityClassName"] == "high" and found["affinity"] == {"nodeAffinity": {}}
    assert found["imagePullSecrets"] == [{"name": "registry"}]
    env = variables(found["containers"][0])
    assert env["NCCL_DEBUG"] == "INFO" and env["no_proxy"] == env["NO_PROXY"] == "10.0.0.0/8"
    for manifest in manifests(server):
        assert manifest["metadata"]["labels"]["team"] == "a"
        assert manifest["metadata"]["annotations"]["note"] == "x"


def test_the_whole_wish_is_on_the_deployment() -> None:
    server = pod_server(
        gpus=2, enabled={"max_tokens": 4096, "engine_environment": {"A_SECRET": "s3cret"}}
    )
    text = deployment(server)["metadata"]["annotations"]["meshtui.io/spec"]
    spec = json.loads(text)
    assert spec["connection"] == "cloud" and spec["enabled"]["max_tokens"] == 4096
    assert spec["execution"]["gpus"] == 2 and "s3cret" not in text


def test_labels_hold_what_names_may_not() -> None:
    server = describe(
        Connection(name="x" * 80, execution="gpu"),
        EnabledModel(model="org/Model_With.Dots-"[:-1] + "x" * 60),
        KubernetesExecution(name="gpu"),
    )
    for manifest in manifests(server):
        assert len(manifest["metadata"]["name"]) <= 52  # pods add 16 characters to it
        assert all(len(value) <= 63 for value in manifest["metadata"]["labels"].values())


def test_an_object_is_owned_by_the_deployment() -> None:
    server = pod_server()
    parent = {**deployment(server), "metadata": {"name": server.name, "uid": "u"}}
    (owner,) = owned_by(parent, service(server))["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Deployment", "u")
    assert path_of(deployment(server)).endswith(f"namespaces/models/deployments/{server.name}")


def test_what_pods_cannot_run_is_refused() -> None:
    with pytest.raises(InvalidInput, match="Pods run vLLM"):
        pod_server(enabled={"engine": EngineChoice.TRANSFORMERS})
