"""Keeps the node of the tests' cluster, and takes all of it away when its owner goes.

Used as a script: `python -I -S keeper.py SETTINGS.json`. The node's programs run in a PID and a
mount namespace of their own, so that the kernel ends every container, and unmounts everything,
with the first process of that namespace. What the kernel does not take away (the bridge, control
groups, files) this process does, as soon as its standard input ends: also where the tests were
killed and could do nothing any more. So it is no child that dies with them.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

# Where container programs keep things outside of the folders that they are told.
_SHARED = ("/run/containerd", "/run/netns", "/var/lib", "/var/log")
_ENDING_S = 20.0


def main() -> None:
    if sys.argv[1] == "inside":
        inside(sys.argv[2])
    else:
        keep(sys.argv[1])


def keep(settings: str) -> None:
    """Outside: starts the node, waits for the owner's end, and cleans up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests; their end is ours
    plan = json.loads(Path(settings).read_text())
    network(plan)
    made = [folder for folder in _SHARED if not Path(folder).exists()]
    for folder in made:
        Path(folder).mkdir(parents=True)
    unshare = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    script = (sys.executable, "-I", "-S", __file__, "inside", settings)
    node = subprocess.Popen([*unshare, *script], stdin=subprocess.DEVNULL)
    try:
        sys.stdin.buffer.read()
    finally:
        node.kill()
        node.wait()
        clean(plan, made)


def network(plan: dict[str, str]) -> None:
    """The node's address: it leads nowhere but to this machine."""
    run("ip", "link", "del", plan["bridge"])  # of a run whose keeper was killed too
    run("ip", "addr", "replace", f"{plan['address']}/32", "dev", "lo")


def clean(plan: dict[str, str], made: list[str]) -> None:
    """All that is left when the processes are gone."""
    run("ip", "link", "del", plan["bridge"])
    run("ip", "addr", "del", f"{plan['address']}/32", "dev", "lo")
    folder = Path(plan["folder"])
    tasks = folder / "containerd-state" / "io.containerd.runtime.v2.task" / "k8s.io"
    names = [task.name for task in tasks.iterdir()] if tasks.exists() else []
    deadline = time.monotonic() + _ENDING_S
    # Below each controller, or where there is one tree for all, below that.
    roots = [root for at in ("k8s.io", "*/k8s.io") for root in Path("/sys/fs/cgroup").glob(at)]
    groups = [root / name for name in names for root in roots if (root / name).exists()]
    groups += roots  # where no other node uses it
    for group in groups:
        # The kernel is still ending what ran in it.
        while not removed(group) and group.name != "k8s.io" and time.monotonic() < deadline:
            time.sleep(0.02)
    for name in ("containerd", "containerd-state", "kubelet"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in reversed(made):
        removed(Path(name))


def removed(folder: Path) -> bool:
    """Takes an empty folder away, if it is one."""
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def inside(settings: str) -> None:
    """The first process of the namespace: starts the programs and reaps whatever ends."""
    plan = json.loads(Path(settings).read_text())
    run("mount", "--make-rshared", "/")  # of this namespace alone; volumes of pods need it
    for folder in _SHARED:
        run("mount", "-t", "tmpfs", "meshtui-test", folder)
    for name in ("containerd", "kubelet"):
        with Path(plan["folder"], f"{name}.log").open("ab") as log:
            subprocess.Popen(plan[name], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if name == "containerd":
            while run(*plan["ctr"], "version"):
                time.sleep(0.05)
            for image in plan["images"]:
                run(*plan["ctr"], "images", "import", image)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(1)


def run(*command: str) -> int:
    """The status of a command; what it says of its failure is seen in the keeper's log."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    main()
