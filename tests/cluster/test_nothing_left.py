"""A node of the tests takes everything with it, also where the tests are killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster.binaries import Missing
from tests.cluster.machine import HOLDER, missing_parts, node_programs
from tests.support.processes import is_running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.cluster

# Starts a node whose API server is nowhere, with a pod that needs none, and waits to be killed.
_OWNER = """
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


def traces_outside() -> dict[str, list[str]]:
    """What a node may leave behind outside of its folder."""
    trees = ("k8s.io/*/", "*/k8s.io/*/")
    groups = [one for tree in trees for one in Path("/sys/fs/cgroup").glob(tree)]
    links = sorted(one.name for one in Path("/sys/class/net").iterdir())
    folders = ("/run/netns", "/run/containerd", "/var/log/pods", "/var/lib/cni", "/var/lib/kubelet")
    return {
        "groups": sorted(map(str, groups)),
        "links": [one for one in links if one.startswith(("veth", "meshtuitest"))],
        "mounts": [
            line.split()[1]
            for line in Path("/proc/mounts").read_text().splitlines()
            if "meshtui-test" in line or "/run/netns/" in line
        ],
        "files": [str(one) for folder in folders for one in Path(folder).glob("*/*")],
    }


def test_a_node_whose_tests_are_killed_is_taken_away(tmp_path: Path) -> None:
    if reason := missing_parts():
        pytest.skip(f"the tests with real pods are left out: {reason}")
    try:
        programs = node_programs()
    except Missing as error:
        pytest.skip(f"the tests with real pods are left out: {error}")
    folder, kubeconfig = tmp_path / "machine", tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(_KUBECONFIG))
    before = traces_outside()
    places = (folder, kubeconfig, programs.kubelet, programs.webserver)
    words = [*map(str, places), yaml.safe_dump(_POD)]
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdin and owner.stdout
    try:
        said = owner.stdout.readline()
        keeper = int(said)
        running = folder / "containerd-state" / "io.containerd.runtime.v2.task" / "k8s.io"
        wait_until(lambda: len(list(running.glob("*/init.pid"))) == 2, "the pod runs", 120)
        assert traces_outside()["groups"] != before["groups"]
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        owner.stdin.close()
        owner.stdout.close()
    wait_until(lambda: not is_running(keeper), "its keeper has done its work", 120)
    assert processes_of(folder) == []
    left = traces_outside()
    assert {kind: [one for one in left[kind] if one not in before[kind]] for kind in left} == {
        kind: [] for kind in left
    }
    assert not (folder / "containerd").exists()  # images are large
