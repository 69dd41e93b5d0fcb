"""What meshtui does in a namespace, hence what a user must be allowed to do there."""

import msgspec

from meshtui.deploy.kubernetes.api import Json

_SEE = ("get", "list", "watch")
_KEEP = (*_SEE, "create", "patch", "delete")


class Permission(msgspec.Struct, frozen=True, kw_only=True):
    """Verbs on a resource (`pods/log` is a subresource). `why` completes "needed to ..."; where it
    is not `needed`, meshtui does without."""

    resource: str
    group: str = ""
    verbs: tuple[str, ...]
    why: str
    needed: bool = True

    @property
    def name(self) -> str:
        return f"{self.resource}.{self.group}" if self.group else self.resource


PERMISSIONS = (
    Permission(resource="deployments", group="apps", verbs=_KEEP, why="run servers"),
    Permission(resource="services", verbs=_KEEP, why="give servers a name in the cluster"),
    Permission(resource="secrets", verbs=_KEEP, why="keep keys and tokens out of pods"),
    Permission(resource="pods", verbs=(*_SEE, "delete"), why="see how servers are"),
    Permission(resource="pods/log", verbs=("get",), why="read the engines' logs"),
    Permission(resource="events", verbs=_SEE, why="say why a pod does not start"),
    # Opened by GET over a websocket; newer clusters ask for `create` as well.
    Permission(resource="pods/portforward", verbs=("get", "create"), why="reach servers"),
    Permission(
        resource="persistentvolumeclaims",
        verbs=(*_SEE, "create", "patch"),
        why="keep models in a volume",
    ),
    Permission(resource="jobs", group="batch", verbs=_KEEP, why="fetch models without a GPU"),
    Permission(
        resource="pods/exec",
        verbs=("get", "create"),
        why="send models from this machine to a volume",
        needed=False,
    ),
    Permission(
        resource="replicasets",
        group="apps",
        verbs=_SEE,
        why="say why no pod is made",
        needed=False,
    ),
    Permission(
        resource="resourcequotas", verbs=("get", "list"), why="show the quota", needed=False
    ),
    Permission(resource="limitranges", verbs=("get", "list"), why="warn of limits", needed=False),
)


def role(namespace: str, *, name: str = "meshtui") -> Json:
    """The Role with everything that meshtui needs in a namespace; nothing is cluster-wide."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": [
            {
                "apiGroups": [permission.group],
                "resources": [permission.resource],
                "verbs": [*permission.verbs],
            }
            for permission in PERMISSIONS
        ],
    }


def role_binding(namespace: str, subject: Json, *, name: str = "meshtui") -> Json:
    """Gives the Role to a subject, such as `{"kind": "User", "name": ...}`."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "subjects": [subject],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
    }
