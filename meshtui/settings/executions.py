"""Execution configs of kind `kubernetes`: one TOML file each in the folder `execution`."""

import re
from collections.abc import Mapping
from pathlib import Path

from meshtui.domain.errors import NotFound
from meshtui.domain.execution import LOCAL, KubernetesExecution, looks_secret
from meshtui.settings.objects import ObjectFolder
from meshtui.settings.toml_file import KeyPath, Wrong

# The rules of Kubernetes: RFC 1123 labels and subdomains, qualified names, quantities.
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(?:\.{_LABEL.pattern})*")
_NAME_PART = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_QUANTITY = re.compile(r"\d+(?:\.\d+)?(?:[kMGTPE]i?|Ki|m)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ADDRESS = re.compile(r"https?://[^\s/]+(?:/\S*)?")
# They select pods and say whose they are.
_OWN_PREFIXES = ("app.kubernetes.io/", "meshtui.io/")


class Executions(ObjectFolder[KubernetesExecution]):
    """The user's execution configs by name. `local` needs no file: it is always there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, KubernetesExecution, check=check_execution)

    def find(self, name: str) -> KubernetesExecution:
        """Raises `NotFound` that names those that there are, and the file's fault if it has one."""
        found = self.objects.get(name)
        if found is None:
            known = ", ".join([LOCAL, *self.objects])
            faults = [str(item) for item in self.broken if Path(item.path).stem == name]
            raise NotFound(
                f"There is no execution config {name!r} for a cluster.",
                hint=" ".join([f"There are: {known}.", *faults]),
            )
        return found


def check_execution(execution: KubernetesExecution) -> None:
    """Raises `Wrong` for what the types let pass and a cluster would refuse."""
    if execution.name == LOCAL:
        raise Wrong("local is the name of this machine", at=("name",))
    if execution.gpus < 1:
        raise Wrong("must be at least 1", at=("gpus",))
    if execution.restarts < 0:
        raise Wrong("must be at least 0", at=("restarts",))
    _matches(_LABEL, execution.namespace, "a namespace", ("namespace",))
    for key in ("runtime_class", "service_account", "priority_class"):
        value = getattr(execution, key)
        if value is not None:
            _matches(_SUBDOMAIN, value, "a name of Kubernetes", (key,))
    for index, secret in enumerate(execution.image_pull_secrets):
        _matches(_SUBDOMAIN, secret, "a name of Kubernetes", ("image_pull_secrets", index))
    if execution.image is not None and (not execution.image or re.search(r"\s", execution.image)):
        raise Wrong("is not the name of an image", at=("image",))
    if execution.shared_memory is not None:
        _matches(_QUANTITY, execution.shared_memory, "a quantity such as 8Gi", ("shared_memory",))
    _check_labels(execution.labels, "labels")
    _check_labels(execution.node_selector, "node_selector", own=True)
    for key in execution.annotations:
        _check_key(key, ("annotations", key))
    _check_environment(execution.environment)
    for index, toleration in enumerate(execution.tolerations):
        at: KeyPath = ("tolerations", index)
        if not toleration.key and toleration.operator != "Exists":
            raise Wrong('needs a key, or operator = "Exists"', at=(*at, "key"))
        if toleration.operator == "Exists" and toleration.value:
            raise Wrong('has no value where the operator is "Exists"', at=(*at, "value"))
    for key in execution.resources.__struct_fields__:
        value = getattr(execution.resources, key)
        if value is not None:
            _matches(_QUANTITY, value, "a quantity such as 4 or 16Gi", ("resources", key))
    if execution.storage is not None:
        storage = execution.storage
        _matches(_SUBDOMAIN, storage.claim, "a name of Kubernetes", ("storage", "claim"))
        _matches(_QUANTITY, storage.size, "a quantity such as 200Gi", ("storage", "size"))
    if execution.proxy is not None:
        for key in ("http", "https"):
            _check_proxy(getattr(execution.proxy, key), ("proxy", key))


def _check_labels(labels: Mapping[str, str], field: str, *, own: bool = False) -> None:
    for key, value in labels.items():
        at = (field, key)
        _check_key(key, at)
        if not own and key.startswith(_OWN_PREFIXES):
            raise Wrong("is set by meshtui itself", at=at)
        if value:
            _matches(_NAME_PART, value, "a label's value (63 letters, digits, - _ .)", at)


def _check_key(key: str, at: KeyPath) -> None:
    prefix, slash, name = key.rpartition("/")
    if slash:
        _matches(_SUBDOMAIN, prefix, "a label's prefix", at)
    _matches(_NAME_PART, name, "a label's name (63 letters, digits, - _ .)", at)


def _check_environment(environment: Mapping[str, str]) -> None:
    for name in environment:
        at = ("environment", name)
        _matches(_VARIABLE, name, "the name of an environment variable", at)
        if looks_secret(name):
            raise Wrong(
                "looks like a secret, which would stand in the pod for all to read: name the "
                "connection's access_token instead",
                at=at,
            )


def _check_proxy(address: str | None, at: KeyPath) -> None:
    if address is None:
        return
    if not _ADDRESS.fullmatch(address):
        raise Wrong("must be an address such as http://host:port", at=at)
    if "@" in address:
        raise Wrong("holds a password, which would stand in the pod for all to read", at=at)


def _matches(pattern: re.Pattern[str], value: str, what: str, at: KeyPath) -> None:
    if not pattern.fullmatch(value):
        raise Wrong(f"is not {what}", at=at)
