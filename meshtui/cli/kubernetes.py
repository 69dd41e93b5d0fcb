"""What the nouns say about clusters: manifests and roles, as YAML that `kubectl apply` accepts."""

import argparse
import asyncio
import sys

import msgspec

from meshtui.cli import exit_codes
from meshtui.cli.command import print_json
from meshtui.client import ControllerClient
from meshtui.controller.catalogue import Catalogue
from meshtui.deploy.kubernetes.api import Json
from meshtui.deploy.kubernetes.objects import fetch_job, manifests
from meshtui.deploy.kubernetes.permissions import role, role_binding
from meshtui.deploy.kubernetes.spec import API_KEY, HUB_TOKEN, PodServer, describe
from meshtui.domain.connection import Connection
from meshtui.domain.delivery import DeliveryMode
from meshtui.domain.errors import InvalidInput
from meshtui.domain.execution import LOCAL, KubernetesExecution
from meshtui.domain.text import one_line
from meshtui.settings import paths
from meshtui.settings.secrets import resolve
from meshtui.settings.store import Settings


async def manifest(client: ControllerClient, arguments: argparse.Namespace) -> int:
    """Prints a server's objects; asks no cluster."""
    server = await asyncio.to_thread(_server, arguments)
    for warning in server.execution.warnings:
        print(f"meshtui: {one_line(warning)}", file=sys.stderr)
    found = manifests(server, with_secret=arguments.with_secret)
    if arguments.fetch_job:
        if server.fetched_to is None:
            raise InvalidInput(
                f"The execution config {server.execution.name} has no storage to fetch into.",
                hint="Add a [storage] section to it.",
            )
        found = [fetch_job(server)]
    if arguments.json:
        print_json(found)
        return exit_codes.OK
    _print_yaml(found)
    if not arguments.with_secret and not arguments.fetch_job:
        _tell_of_the_secret(server)
    if server.delivery.mode is DeliveryMode.MANAGED_CACHE and not arguments.fetch_job:
        print(
            f"The pod looks for {server.model} on its volume. This machine sends it there when it "
            "starts the server; without that, apply what --fetch-job prints first.",
            file=sys.stderr,
        )
    return exit_codes.OK


async def rbac(client: ControllerClient, arguments: argparse.Namespace) -> int:
    """Prints the Role that a connection needs, and a RoleBinding for whom it is."""
    execution = await asyncio.to_thread(execution_named, arguments.name)
    found = [role(execution.namespace)]
    group = "rbac.authorization.k8s.io"
    subject: Json | None = None
    if arguments.user:
        subject = {"kind": "User", "name": arguments.user, "apiGroup": group}
    elif arguments.group:
        subject = {"kind": "Group", "name": arguments.group, "apiGroup": group}
    elif arguments.service_account:
        subject = {
            "kind": "ServiceAccount",
            "name": arguments.service_account,
            "namespace": execution.namespace,
        }
    if subject is not None:
        found.append(role_binding(execution.namespace, subject))
    if arguments.json:
        print_json(found)
    else:
        _print_yaml(found)
    return exit_codes.OK


def _server(arguments: argparse.Namespace) -> PodServer:
    settings = _settings()
    catalogue = Catalogue(lambda: settings.connections.all, lambda: settings.broken)
    choice = catalogue.find(arguments.model, arguments.connection)
    execution = _execution(settings, choice.connection, arguments.execution)
    token = None
    if arguments.with_secret and choice.connection.access_token is not None:
        token = resolve(choice.connection.access_token)
    # The objects say where the server belongs, also where the cluster was named by hand.
    connection = msgspec.structs.replace(choice.connection, execution=execution.name)
    return describe(connection, choice.enabled, execution, hub_token=token)


def execution_named(name: str) -> KubernetesExecution:
    """By the name of a connection, or its own."""
    settings = _settings()
    found = settings.connections.all.get(name)
    if found is None:
        return settings.executions.find(name)
    return _execution(settings, found, None)


def _execution(settings: Settings, connection: Connection, name: str | None) -> KubernetesExecution:
    wanted = name or connection.execution
    if wanted == LOCAL:
        known = ", ".join(settings.executions.objects) or "none yet"
        raise InvalidInput(
            f"The connection {connection.name} runs models on this machine, not on a cluster.",
            hint=f"Execution configs for clusters: {known}. Each is a file in "
            f"{settings.executions.folder}.",
        )
    return settings.executions.find(wanted)


def _settings() -> Settings:
    settings = Settings(paths.config_dir())
    settings.refresh()
    return settings


def _print_yaml(objects: list[Json]) -> None:
    import yaml

    yaml.safe_dump_all(objects, sys.stdout, sort_keys=False, width=100, allow_unicode=True)


def _tell_of_the_secret(server: PodServer) -> None:
    """The pod waits for it, so whoever applies the rest has to know."""
    keys = [f"--from-literal={key}=..." for key in server.secrets.values if key != HUB_TOKEN]
    print(
        f"The Secret is not printed: nobody wants keys in a repository. The pod starts when it is "
        f"there:\n  kubectl -n {server.execution.namespace} create secret generic {server.name} "
        f"{' '.join(keys)}\n{API_KEY} is any string that keeps others out; {HUB_TOKEN} is for "
        f"models that need a token. --with-secret prints it with the rest.",
        file=sys.stderr,
    )
