"""This machine as a node of the tests' cluster: the real kubelet, containerd and runc.

Pods run for real. Images are assembled here, so no registry is needed; GPUs are advertised as
extended resources, as the device plugin would.
"""

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
import yaml

from tests.cluster import keeper
from tests.cluster.binaries import go_program, kubelet
from tests.support.waiting import wait_until

HOLDER = "localhost/meshtui-test/holder:1"
SERVER = "localhost/meshtui-test/server:1"
NAME = "this-machine"
# Of the node and of its pods; neither leaves this machine. Several runs of the tests may each have
# a node here: the second number is the place that a run has taken.
_ADDRESSES = "10.213"
_PLACES = 32
_CNI_FOLDERS = ("/usr/lib/cni", "/opt/cni/bin")
_TIMEOUT_S = 120.0


def missing_parts() -> str | None:
    """Why no pod can run for real here; None where all is there."""
    if os.geteuid() != 0:
        return "a kubelet needs root"
    for program, package in (
        ("containerd", "containerd"),
        ("runc", "runc"),
        ("ip", "iproute2"),
        ("unshare", "util-linux"),
    ):
        if shutil.which(program) is None:
            return f"{program} is not installed: install Debian's package {package}"
    if _cni_folder() is None:
        return "there are no CNI plugins: install Debian's package containernetworking-plugins"
    # Root of a container that is not privileged may not.
    namespaces, mounting = ("--mount", "--pid", "--fork"), ("-t", "tmpfs", "meshtui-test", "/mnt")
    probe = ("unshare", *namespaces, "mount", *mounting)
    if said := subprocess.run(probe, capture_output=True, text=True, timeout=60).stderr:
        return f"this root may not have namespaces and mounts of its own ({said.strip()})"
    return None


class Programs(msgspec.Struct, frozen=True):
    """What a node is made of beside Debian's packages."""

    kubelet: Path
    webserver: Path


def node_programs() -> Programs:
    """Built first where they are not here. Raises `Missing`."""
    return Programs(kubelet=kubelet(), webserver=go_program("webserver"))


class Machine:
    """Start it once, stop it at the end. Where the tests are killed, its keeper ends it."""

    def __init__(self, folder: Path, kubeconfig: Path, programs: Programs) -> None:
        self._folder = folder
        self._kubeconfig = kubeconfig
        self._programs = programs
        self._socket = folder / "containerd.sock"
        self._keeper: subprocess.Popen[bytes] | None = None
        self._place: socket.socket | None = None
        self.static_pods = folder / "pods"
        """Pods of manifests in this folder run without an API server."""

    def start(self) -> None:
        """Returns when containerd answers and the images are in; the node registers itself."""
        program = self._programs.webserver.read_bytes()
        self._folder.mkdir(parents=True, exist_ok=True)
        number = self._take_place()
        address, bridge = f"{_ADDRESSES}.{2 * number}.1", f"meshtuitest{number}"
        self._write_configurations(address, bridge, f"{_ADDRESSES}.{2 * number + 1}.0/24")
        images = []
        for name, arguments in ((HOLDER, []), (SERVER, ["serve"])):
            images.append(str(self._folder / f"image-{len(images)}.tar"))
            files = {"bin/python3": program}
            write_image(Path(images[-1]), name, files, ["/bin/python3", *arguments])
        plan = {
            "folder": str(self._folder),
            "address": address,
            "bridge": bridge,
            "ctr": self._ctr_words(),
            "images": images,
            "containerd": ["containerd", "--config", str(self._folder / "containerd.toml")],
            "kubelet": [
                *(str(self._programs.kubelet), "--kubeconfig", str(self._kubeconfig)),
                *("--hostname-override", NAME, "--node-ip", address),
                *("--config", str(self._folder / "kubelet.yaml")),
                *("--root-dir", str(self._folder / "kubelet")),
                *("--cert-dir", str(self._folder / "certificates")),
            ],
        }
        (self._folder / "keeper.json").write_text(json.dumps(plan))
        self._keep()
        wait_until(self._works, "the node has its images", _TIMEOUT_S)

    def stop(self) -> None:
        """Ends the node and whatever containers are left on it."""
        if self._keeper is not None:
            assert self._keeper.stdin is not None
            self._keeper.stdin.close()
            self._keeper.wait(_TIMEOUT_S)
            self._keeper = None
        if self._place is not None:
            self._place.close()
            self._place = None

    @property
    def keeper_pid(self) -> int:
        assert self._keeper is not None
        return self._keeper.pid

    def log(self, name: str) -> str:
        path = self._folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def load(self, archive: Path) -> None:
        """Makes another image known, as `docker save` writes it."""
        _run(*self._ctr_words(), "images", "import", str(archive))

    def _ctr_words(self) -> list[str]:
        return ["ctr", "-a", str(self._socket), "-n", "k8s.io"]

    def _take_place(self) -> int:
        """A number that no other run on this machine has, for as long as this one lives."""
        for number in range(_PLACES):
            # A name without a file, which is free again when nobody holds it any more.
            place = socket.socket(socket.AF_UNIX)
            try:
                place.bind(f"\0meshtui-test-node-{number}")
            except OSError:
                place.close()
                continue
            self._place = place
            return number
        raise RuntimeError(f"{_PLACES} nodes run here already")

    def _keep(self) -> None:
        assert self._place is not None
        script = [sys.executable, "-I", "-S", str(keeper.__file__)]
        with (self._folder / "keeper.log").open("ab") as log:
            self._keeper = subprocess.Popen(
                [*script, str(self._folder / "keeper.json")],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={"PATH": _path()},
                start_new_session=True,  # what ends the tests is not to end it
                pass_fds=[self._place.fileno()],  # the place is free when all is cleaned up
            )

    def _works(self) -> bool:
        assert self._keeper is not None
        ended = self._keeper.poll()
        logs = "\n".join(self.log(name)[-3000:] for name in ("keeper", "containerd"))
        assert ended is None, f"the node ended with {ended}: {logs}"
        done = subprocess.run(
            [*self._ctr_words(), "images", "ls", "-q"], capture_output=True, text=True
        )
        return all(name in done.stdout for name in (HOLDER, SERVER))

    def _write_configurations(self, address: str, bridge: str, pods: str) -> None:
        folder = self._folder
        (folder / "cni").mkdir(exist_ok=True)
        self.static_pods.mkdir(exist_ok=True)
        (folder / "resolv.conf").write_bytes(Path("/etc/resolv.conf").read_bytes())
        addresses = {"type": "host-local", "ranges": [[{"subnet": pods}]]}
        plugin = {"type": "bridge", "bridge": bridge, "isGateway": True, "ipam": addresses}
        network = {"cniVersion": "0.4.0", "name": "meshtui-test", "plugins": [plugin]}
        (folder / "cni" / "10-meshtui.conflist").write_text(json.dumps(network))
        (folder / "containerd.toml").write_text(
            f"""\
version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
[grpc]
  address = "{self._socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{HOLDER}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{_cni_folder()}"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
"""
        )
        settings = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            # It listens on an address of this machine alone.
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "address": address,
            "readOnlyPort": 0,
            "healthzPort": 0,
            "failSwapOn": False,
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            # No slices of the machine for pods: what it is inside of may not allow that.
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "staticPodPath": str(self.static_pods),
            "localStorageCapacityIsolation": False,
            "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1%"},
            "resolvConf": str(folder / "resolv.conf"),
            "containerRuntimeEndpoint": f"unix://{self._socket}",
        }
        (folder / "kubelet.yaml").write_text(yaml.safe_dump(settings))


def write_image(path: Path, name: str, files: Mapping[str, bytes], entrypoint: list[str]) -> None:
    """An image of executables, as `docker save` would write it."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for file, content in files.items():
            _add(archive, file, content)
    pack_image(path, name, layer.getvalue(), {"Entrypoint": entrypoint})


def pack_image(path: Path, name: str, layer: bytes, config_of: Mapping[str, object]) -> None:
    """An image of one layer; `config_of` is what containers of it run, and with what."""
    digest = hashlib.sha256(layer).hexdigest()
    settings = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": dict(config_of),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    encoded = json.dumps(settings).encode()
    config = f"{hashlib.sha256(encoded).hexdigest()}.json"
    manifest = [{"Config": config, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        _add(archive, config, encoded)
        _add(archive, f"{digest}/layer.tar", layer)
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o755
    archive.addfile(entry, io.BytesIO(content))


def _cni_folder() -> str | None:
    return next((one for one in _CNI_FOLDERS if Path(one, "bridge").exists()), None)


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": _path()})
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
