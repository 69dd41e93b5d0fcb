"""A cluster of the tests takes everything with it, also where the tests are killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from tests.cluster.binaries import Missing, find
from tests.cluster.machine import HOLDER, missing_parts, node_programs
from tests.support.processes import is_running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.cluster

# Starts a node whose API server is nowhere, with a pod that needs none, and waits to be killed.
_OWNER_OF_NODE = """
import sys
from pathlib import Path
from tests.cluster.machine import Machine, Programs
folder, kubeconfig, kubelet, webserver = map(Path, sys.argv[1:5])
machine = Machine(folder, kubeconfig, Programs(kubelet, webserver))
machine.start()
(machine.static_pods / "pod.yaml").write_text(sys.argv[5])
print(machine.keeper_pid, flush=True)
sys.stdin.read()
"""
# Starts a control plane and waits to be killed.
_OWNER_OF_CONTROL_PLANE = """
import sys
from pathlib import Path
from tests.cluster.binaries import Binaries
from tests.cluster.control_plane import ControlPlane
names = Binaries.__struct_fields__
control_plane = ControlPlane(
    Path(sys.argv[1]), Binaries(**dict(zip(names, map(Path, sys.argv[2:]))))
)
control_plane.start()
print("started", flush=True)
sys.stdin.read()
"""
_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "alone"},
    "spec": {"containers": [{"name": "one", "image": HOLDER, "imagePullPolicy": "Never"}]},
}
_KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "none",
    "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:9"}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "users": [{"name": "none", "user": {}}],
}


def processes_of(folder: Path) -> list[str]:
    """The command lines that name the folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(folder) in words and is_running(int(process.name)):
                found.append(words)
    return found


def traces_outside(folder: Path) -> set[str]:
    """Mounts that a node may leave, and files outside of its folder."""
    folders = ("/run/netns", "/run/containerd", "/var/log/pods", "/var/lib/cni", "/var/lib/kubelet")
    mounts = {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()}
    mounts = {one for one in mounts if one.startswith((str(folder), *folders))}
    return mounts | {str(one) for place in folders for one in Path(place).glob("*/*")}


def traces_in_kernel(folder: Path) -> list[Path]:
    """The control groups and network links of a node that runs; others may run beside it."""
    tasks = folder / "containerd-state" / "io.containerd.runtime.v2.task" / "k8s.io"
    names = [one.parent.name for one in tasks.glob("*/init.pid")]
    trees = [tree for at in ("k8s.io", "*/k8s.io") for tree in Path("/sys/fs/cgroup").glob(at)]
    groups = [tree / name for name in names for tree in trees if (tree / name).exists()]
    bridge = Path("/sys/class/net", json.loads((folder / "keeper.json").read_text())["bridge"])
    ports = [bridge.parent / port.name for port in (bridge / "brif").iterdir()]
    assert groups and ports
    return [*groups, bridge, *ports]


@contextlib.contextmanager
def killing(script: str, *words: str) -> Iterator[str]:
    """Runs a script until it has said a line, which is given, and kills it afterwards."""
    owner = subprocess.Popen(
        [sys.executable, "-c", script, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdin and owner.stdout
    try:
        yield owner.stdout.readline().strip()
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        owner.stdin.close()
        owner.stdout.close()


def test_a_control_plane_whose_tests_are_killed_ends(tmp_path: Path) -> None:
    try:
        programs = msgspec.structs.astuple(find())
    except Missing as error:
        pytest.skip(f"the cluster tests are left out. {error}")
    folder = tmp_path / "control-plane"
    with killing(_OWNER_OF_CONTROL_PLANE, str(folder), *map(str, programs)) as said:
        assert said == "started"
        assert len(processes_of(folder)) >= 4
    wait_until(lambda: processes_of(folder) == [], "all of its programs have ended", 60)


def test_a_node_whose_tests_are_killed_is_taken_away(tmp_path: Path) -> None:
    if reason := missing_parts():
        pytest.skip(f"the tests with real pods are left out: {reason}")
    try:
        programs = node_programs()
    except Missing as error:
        pytest.skip(f"the tests with real pods are left out: {error}")
    folder, kubeconfig = tmp_path / "machine", tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(_KUBECONFIG))
    before = traces_outside(folder)
    places = (folder, kubeconfig, programs.kubelet, programs.webserver)
    words = [*map(str, places), yaml.safe_dump(_POD)]
    with killing(_OWNER_OF_NODE, *words) as said:
        keeper = int(said)
        running = folder / "containerd-state" / "io.containerd.runtime.v2.task" / "k8s.io"
        wait_until(lambda: len(list(running.glob("*/init.pid"))) == 2, "the pod runs", 120)
        traces = traces_in_kernel(folder)
        assert all(trace.exists() for trace in traces)
    wait_until(lambda: not is_running(keeper), "its keeper has done its work", 120)
    assert processes_of(folder) == []
    assert [trace for trace in traces if trace.exists()] == []
    assert traces_outside(folder) - before == set()
    assert not (folder / "containerd").exists()  # images are large
