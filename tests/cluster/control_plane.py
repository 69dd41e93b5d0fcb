"""A real Kubernetes control plane of the tests' own: etcd, API server, controllers, scheduler.

There is no kubelet: nodes are objects, and what a kubelet would report is played (see `nodes`).
"""

import base64
import contextlib
import csv
import os
import secrets
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import trustme
import yaml

from meshtui.deploy import with_parent
from meshtui.deploy.process import free_port
from tests.cluster.binaries import Binaries
from tests.support.waiting import wait_until

_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 20.0
# Needs a kubelet that reports, or a cloud.
_CONTROLLERS = "*,-node-lifecycle-controller,-node-ipam-controller,-node-route-controller"


class ControlPlane:
    """Start it once, stop it at the end: its processes die with this one in any case.

    They die with the *thread* that starts them, as the kernel counts parents: call it from the
    main thread, which blocks until they answer.
    """

    def __init__(self, folder: Path, binaries: Binaries) -> None:
        self._folder = folder
        self._binaries = binaries
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._token = secrets.token_urlsafe(16)
        self._etcd_port = self._port = 0
        self.kubeconfig = folder / "kubeconfig"

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        trustme.CA().private_key_pem.write_to_path(str(self._folder / "accounts.key"))
        with (self._folder / "tokens.csv").open("w", newline="") as file:
            csv.writer(file).writerow([self._token, "admin", "admin", "system:masters"])
        self._etcd_port, peers, self._port = free_port(), free_port(), free_port()
        etcd = f"http://127.0.0.1:{self._etcd_port}"
        self._run(
            "etcd",
            self._binaries.etcd,
            *("--data-dir", str(self._folder / "etcd")),
            *("--listen-client-urls", etcd, "--advertise-client-urls", etcd),
            *("--listen-peer-urls", f"http://127.0.0.1:{peers}"),
        )
        self.start_api_server()
        self._write_kubeconfig()
        self._run(
            "controller-manager",
            self._binaries.controller_manager,
            *("--kubeconfig", str(self.kubeconfig), "--leader-elect=false"),
            *("--service-account-private-key-file", str(self._folder / "accounts.key")),
            *("--root-ca-file", str(self._folder / "certificates" / "apiserver.crt")),
            *("--controllers", _CONTROLLERS, "--secure-port", str(free_port())),
            *("--bind-address", "127.0.0.1", "--cert-dir", str(self._folder / "controllers")),
            *("--kube-api-qps", "300", "--kube-api-burst", "600"),
        )
        self._run(
            "scheduler",
            self._binaries.scheduler,
            *("--kubeconfig", str(self.kubeconfig), "--leader-elect=false"),
            *("--bind-address", "127.0.0.1", "--secure-port", str(free_port())),
            *("--cert-dir", str(self._folder / "scheduler")),
            *("--kube-api-qps", "300", "--kube-api-burst", "600"),
        )
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self._wait(lambda: self._answers(account), "controller-manager")

    def start_api_server(self) -> None:
        """Also after `kill_api_server`, on the same port with the same data."""
        self._run(
            "apiserver",
            self._binaries.apiserver,
            *("--etcd-servers", f"http://127.0.0.1:{self._etcd_port}"),
            *("--bind-address", "127.0.0.1", "--secure-port", str(self._port)),
            *("--advertise-address", "127.0.0.1", "--endpoint-reconciler-type", "none"),
            *("--cert-dir", str(self._folder / "certificates")),
            *("--service-cluster-ip-range", "10.0.0.0/16", "--allow-privileged=true"),
            *("--service-account-issuer", "https://kubernetes.default.svc"),
            *("--service-account-key-file", str(self._folder / "accounts.key")),
            *("--service-account-signing-key-file", str(self._folder / "accounts.key")),
            *("--token-auth-file", str(self._folder / "tokens.csv")),
            *("--authorization-mode", "RBAC", "--profiling=false"),
            # The name of the tests' node is in no DNS.
            *("--kubelet-preferred-address-types", "InternalIP"),
        )
        self._wait(lambda: self._answers("/readyz"), "apiserver")

    def kill_api_server(self) -> None:
        process = self._processes.pop("apiserver")
        process.kill()
        process.wait()

    def stop(self) -> None:
        """Ends all processes, etcd last."""
        for name in ("scheduler", "controller-manager", "apiserver", "etcd"):
            process = self._processes.pop(name, None)
            if process is None:
                continue
            # Nobody needs a tidy end of these; etcd's data is thrown away.
            process.send_signal(signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_TIMEOUT_S)

    def kubeconfig_for(self, token: str, name: str = "guest", server: str | None = None) -> Path:
        """Another user's way in, with the context `tests`."""
        path = self._folder / f"kubeconfig-{name}"
        path.write_text(yaml.safe_dump(self._config(token, server)))
        return path

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def _write_kubeconfig(self) -> None:
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(yaml.safe_dump(self._config(self._token, None)))

    def _config(self, token: str, server: str | None) -> dict[str, object]:
        # The API server signed its own certificate, which therefore is its own authority.
        authority = (self._folder / "certificates" / "apiserver.crt").read_bytes()
        cluster = {
            "server": server or self.address,
            "certificate-authority-data": base64.b64encode(authority).decode(),
        }
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "user"}}],
            "users": [{"name": "user", "user": {"token": token}}],
        }

    def _run(self, name: str, program: Path, *arguments: str) -> None:
        command: Sequence[str] = [sys.executable, "-I", "-S", str(with_parent.__file__)]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*command, str(os.getpid()), str(program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._folder)},
            )

    def _wait(self, condition: object, name: str) -> None:
        assert callable(condition)

        def check() -> object:
            ended = self._processes[name].poll()
            assert ended is None, f"{name} ended with {ended}: {self.log(name)[-3000:]}"
            return condition()

        wait_until(check, f"{name} works: {self.log(name)[-1000:]}", _START_TIMEOUT_S)

    def _answers(self, path: str) -> bool:
        unchecked = ssl.create_default_context()
        unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
        request = urllib.request.Request(
            self.address + path, headers={"Authorization": f"Bearer {self._token}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=5, context=unchecked) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
