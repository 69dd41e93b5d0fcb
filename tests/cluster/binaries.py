"""The programs of a Kubernetes control plane: found where envtest looks, or built from source."""

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

import msgspec

from tests.cluster.go_toolchain import NoGo, go
from tests.conftest import TEST_CACHE

KUBERNETES_VERSION = "1.34.4"
_MODULE = Path(__file__).resolve().parent
_NEW_ENOUGH = 28  # minor versions of kubectl: older ones do not know all that tests ask of it
_BUILT = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
_ASSETS = os.environ.get("KUBEBUILDER_ASSETS")
_BUILD_TIMEOUT_S = 3000.0


class Missing(Exception):
    """A program that is neither here nor can be built; the message says how to get it."""


class Binaries(msgspec.Struct, frozen=True, kw_only=True):
    etcd: Path
    apiserver: Path
    controller_manager: Path
    scheduler: Path


def find() -> Binaries:
    """Where the programs are, built first where that is possible. Raises `Missing`."""
    return Binaries(
        etcd=_found("etcd"),
        apiserver=_found("kube-apiserver"),
        controller_manager=_found("kube-controller-manager"),
        scheduler=_found("kube-scheduler"),
    )


def kubelet() -> Path:
    """The node agent; raises `Missing`."""
    return _found("kubelet")


def kubectl() -> Path:
    """The command of everybody else; Debian's is far too old. Raises `Missing`."""
    for path in [_folders()[0] / "kubectl", Path(shutil.which("kubectl") or "")]:
        if os.access(path, os.X_OK) and path.is_file():
            words = [path, "version", "--client"]
            said = subprocess.run(words, capture_output=True, text=True, timeout=60).stdout
            version = re.search(r"v1\.(\d+)", said)
            if version is not None and int(version[1]) >= _NEW_ENOUGH:
                return path
    return _build("kubectl", _folders()[-1])


def go_program(folder: str) -> Path:
    """A small program of the tests' own, compiled from the folder of that name beside this file."""
    target = TEST_CACHE / "programs" / folder
    target.parent.mkdir(parents=True, exist_ok=True)
    try:  # some tenths of a second where nothing changed
        go().build(target, f"./{folder}", "-ldflags=-s -w", timeout_s=_BUILD_TIMEOUT_S)
    except NoGo as error:
        raise Missing(f"{folder} is not here: {error}") from None
    return target


def _folders() -> list[Path]:
    """Where programs may be, the most wanted first; what is built goes to the last."""
    built = TEST_CACHE / f"kubernetes-{KUBERNETES_VERSION}"
    return [Path(_ASSETS), built] if _ASSETS else [built]


def _found(name: str) -> Path:
    for folder in _folders():
        if os.access(folder / name, os.X_OK):
            return folder / name
    if on_path := shutil.which(name):
        return Path(on_path)
    if name in _BUILT:
        return _build(name, _folders()[-1])
    raise Missing(
        f"{name} is not installed: install Debian's package etcd-server, or let KUBEBUILDER_ASSETS "
        "name a folder with it."
    )


def _build(name: str, folder: Path) -> Path:
    """Compiles one program from the module beside this file. All of them take some ten minutes on
    two cores the first time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may need it at the same time
        if os.access(folder / name, os.X_OK):
            return folder / name
        _, minor, _ = KUBERNETES_VERSION.split(".")
        version = "k8s.io/component-base/version"
        flags = (
            f"-ldflags=-s -w -X {version}.gitVersion=v{KUBERNETES_VERSION} "
            f"-X {version}.gitMajor=1 -X {version}.gitMinor={minor}"
        )
        package = f"k8s.io/kubernetes/cmd/{name}"
        try:
            go().build(folder / name, package, flags, timeout_s=_BUILD_TIMEOUT_S)
        except NoGo as error:
            raise Missing(
                f"{name} is not here: {error}; or let KUBEBUILDER_ASSETS name a folder with it, "
                "or MESHTUI_TEST_CONTEXT a cluster."
            ) from None
        return folder / name
