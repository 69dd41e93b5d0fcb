"""This machine as a node of the tests' cluster: the real kubelet, containerd and runc.

Pods run for real. Images are assembled here, so no registry is needed; GPUs are advertised as
extended resources, as the device plugin would.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from meshtui.deploy import with_parent
from tests.cluster.binaries import Missing, go_program, kubelet
from tests.support.waiting import wait_until

HOLDER = "localhost/meshtui-test/holder:1"
SERVER = "localhost/meshtui-test/server:1"
NAME = "this-machine"
# Of the node and of its pods; neither leaves this machine.
_NODE_ADDRESS = "10.213.86.1"
_POD_NETWORK = "10.213.87.0/24"
_BRIDGE = "meshtuitest0"
_CNI_FOLDERS = ("/usr/lib/cni", "/opt/cni/bin")
_TIMEOUT_S = 60.0


def missing_parts() -> str | None:
    """Why no pod can run for real here; None where all is there."""
    if os.geteuid() != 0:
        return "a kubelet needs root"
    for program, package in (("containerd", "containerd"), ("runc", "runc"), ("ip", "iproute2")):
        if shutil.which(program) is None:
            return f"{program} is not installed: install Debian's package {package}"
    if _cni_folder() is None:
        return "there are no CNI plugins: install Debian's package containernetworking-plugins"
    return None


class Machine:
    """Start it once, stop it at the end."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self._folder = folder
        self._kubeconfig = kubeconfig
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._socket = folder / "containerd.sock"

    def start(self) -> None:
        """Returns when containerd answers and the images are in; the node registers itself."""
        program = go_program("webserver")
        _run("ip", "addr", "replace", f"{_NODE_ADDRESS}/32", "dev", "lo")
        self._write_configurations()
        self._spawn("containerd", "containerd", "--config", str(self._folder / "containerd.toml"))
        wait_until(lambda: self._ctr("version", check=False), "containerd answers", _TIMEOUT_S)
        for name, arguments in ((HOLDER, []), (SERVER, ["serve"])):
            archive = self._folder / "image.tar"
            files = {"bin/python3": program.read_bytes()}
            write_image(archive, name, files, ["/bin/python3", *arguments])
            self._ctr("images", "import", str(archive))
        self._spawn(
            "kubelet",
            str(kubelet()),
            *("--kubeconfig", str(self._kubeconfig), "--hostname-override", NAME),
            *("--config", str(self._folder / "kubelet.yaml"), "--node-ip", _NODE_ADDRESS),
            *("--root-dir", str(self._folder / "kubelet")),
            *("--cert-dir", str(self._folder / "certificates")),
        )

    def stop(self) -> None:
        """Ends the node and whatever containers are left on it."""
        self._end("kubelet")
        if self._socket.exists():
            for task in self._ctr("tasks", "ls", "-q", check=False).split():
                self._ctr("tasks", "rm", "-f", task, check=False)
        self._end("containerd")
        for mount in _mounts_below(self._folder):
            _run("umount", "-l", mount, check=False)
        _run("ip", "link", "del", _BRIDGE, check=False)
        _run("ip", "addr", "del", f"{_NODE_ADDRESS}/32", "dev", "lo", check=False)

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def _ctr(self, *words: str, check: bool = True) -> str:
        return _run("ctr", "-a", str(self._socket), "-n", "k8s.io", *words, check=check)

    def _spawn(self, name: str, *command: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-I", "-S", str(with_parent.__file__), str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"},
            )

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.wait()

    def _write_configurations(self) -> None:
        folder = self._folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cni").mkdir(exist_ok=True)
        addresses = {"type": "host-local", "ranges": [[{"subnet": _POD_NETWORK}]]}
        bridge = {"type": "bridge", "bridge": _BRIDGE, "isGateway": True, "ipam": addresses}
        network = {"cniVersion": "0.4.0", "name": "meshtui-test", "plugins": [bridge]}
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
            "address": _NODE_ADDRESS,
            "readOnlyPort": 0,
            "healthzPort": 0,
            "failSwapOn": False,
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            # No slices of the machine for pods: what it is inside of may not allow that.
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "localStorageCapacityIsolation": False,
            "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1%"},
            "containerRuntimeEndpoint": f"unix://{self._socket}",
        }
        (folder / "kubelet.yaml").write_text(yaml.safe_dump(settings))


def write_image(path: Path, name: str, files: Mapping[str, bytes], entrypoint: list[str]) -> None:
    """An image of executables, as `docker save` would write it."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for file, content in files.items():
            _add(archive, file, content)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    settings = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"Entrypoint": entrypoint},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    encoded = json.dumps(settings).encode()
    config = f"{hashlib.sha256(encoded).hexdigest()}.json"
    manifest = [{"Config": config, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        _add(archive, config, encoded)
        _add(archive, f"{digest}/layer.tar", layer.getvalue())
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o755
    archive.addfile(entry, io.BytesIO(content))


def _cni_folder() -> str | None:
    return next((one for one in _CNI_FOLDERS if Path(one, "bridge").exists()), None)


def _mounts_below(folder: Path) -> list[str]:
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((one for one in points if one.startswith(f"{folder}/")), reverse=True)


def _run(*command: str, check: bool = True) -> str:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": path})
    if check and done.returncode != 0:
        raise Missing(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout if done.returncode == 0 else ""
