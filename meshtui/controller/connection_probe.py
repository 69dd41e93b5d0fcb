"""Testing a connection: whether what it names is there and answers."""

import asyncio
from collections.abc import Iterable, Sequence
from importlib import import_module

from meshtui.domain.connection import Connection
from meshtui.domain.editing import TokenOwner
from meshtui.domain.errors import BadToken, InvalidInput, MeshtuiError, NotFound
from meshtui.domain.execution import LOCAL, KubernetesExecution
from meshtui.domain.finding import Finding, Level
from meshtui.domain.runtime import BuildPhase, RuntimeStatus
from meshtui.domain.text import one_line
from meshtui.hub.account import owner
from meshtui.hub.reach import reach_of, why_unreachable
from meshtui.settings.executions import Executions
from meshtui.settings.secrets import check_reference, resolve

_CLUSTER_TIMEOUT_S = 60.0


async def probe(
    connection: Connection, executions: Executions, runtimes: Sequence[RuntimeStatus]
) -> list[Finding]:
    """Looks at everything at the same time; changes nothing. What fails is a finding."""
    where, hub, token = await asyncio.gather(
        _where(connection, executions), _hub(connection), _token(connection)
    )
    return [*where, *_runtime(connection, runtimes), *hub, *token, _models(connection)]


async def token_owner(reference: str, connection: Connection | None) -> TokenOwner:
    """The account of the token that `reference` names, at the Hub of `connection`. Raises
    `InvalidInput`, `NotFound` where there is no token, `BadToken` or `Unavailable`. Nothing that
    is raised holds the token."""
    check_reference(reference)
    if await asyncio.to_thread(resolve, reference) is None:
        raise NotFound(f"{one_line(reference)} names no token here.", hint=_missing(reference))
    asking = Connection(
        name="token", access_token=reference, properties=connection.properties if connection else {}
    )
    found = await owner(await asyncio.to_thread(reach_of, asking))
    if found is None:
        raise NotFound(f"{one_line(reference)} names no token here.", hint=_missing(reference))
    return found


def _missing(reference: str) -> str:
    scheme, _, rest = reference.partition(":")
    if scheme == "env":
        return (
            f"The variable {one_line(rest)} is not set where the controller was started: set it, "
            "then: meshtui controller restart"
        )
    if scheme == "hf":
        return "Log in first: hf auth login"
    return "There is nothing at that place, or it is empty."


async def _where(connection: Connection, executions: Executions) -> list[Finding]:
    if connection.execution == LOCAL:
        return [_ok("execution", "Servers run on this machine.")]
    try:
        execution = await asyncio.to_thread(executions.find, connection.execution)
        async with asyncio.timeout(_CLUSTER_TIMEOUT_S):
            return await _cluster(execution)
    except TimeoutError:
        reason = f"The cluster does not answer within {_CLUSTER_TIMEOUT_S:g} s."
        return [Finding(rule="execution", level=Level.BLOCKER, message=reason)]
    except MeshtuiError as error:
        return [_of_error("execution", Level.BLOCKER, error)]


async def _cluster(execution: KubernetesExecution) -> list[Finding]:
    # What talks to clusters takes half a second to import, and most connections do without.
    api = await asyncio.to_thread(import_module, "meshtui.deploy.kubernetes.api")
    preflight = await asyncio.to_thread(import_module, "meshtui.deploy.kubernetes.preflight")
    proxy = execution.proxy.https if execution.proxy is not None else None
    cluster = await api.Cluster.connect(execution.context, proxy=proxy)
    try:
        found = await preflight.preflight(cluster, execution)
    finally:
        await cluster.close()
    return list(found.findings)


def _runtime(connection: Connection, runtimes: Iterable[RuntimeStatus]) -> list[Finding]:
    is_local = connection.execution == LOCAL
    if connection.runtime is None:
        chosen = "The runtime is chosen by the machine: gpu where it has one."
        return [_ok("runtime", chosen)] if is_local else []
    status = next((one for one in runtimes if one.name == connection.runtime), None)
    name = one_line(connection.runtime)
    if status is None:
        return [
            Finding(
                rule="runtime",
                level=Level.BLOCKER,
                message=f"There is no runtime {name}.",
                fix="See: meshtui runtime list",
            )
        ]
    if not is_local:
        # Pods bring theirs in their image; that name is for the checker.
        return [_ok("runtime", f"The checker counts with the runtime {name}.")]
    match status.phase:
        case BuildPhase.READY:
            version = f" with vLLM {status.vllm_version}" if status.vllm_version else ""
            return [_ok("runtime", f"The runtime {name} is built{version}.")]
        case BuildPhase.FAILED:
            return [
                Finding(
                    rule="runtime",
                    level=Level.BLOCKER,
                    message=f"The runtime {name} could not be built.",
                    fix=f"See: meshtui runtime logs {name}",
                )
            ]
        case BuildPhase.BUILDING:
            return [_ok("runtime", f"The runtime {name} is being built.")]
    return [
        Finding(
            rule="runtime",
            level=Level.WARNING,
            message=f"The runtime {name} is not built yet: the first start does it.",
            fix=f"To do it now: meshtui runtime build {name}",
        )
    ]


async def _hub(connection: Connection) -> list[Finding]:
    try:
        reach = await asyncio.to_thread(reach_of, connection)
        why = await why_unreachable(reach)
    except MeshtuiError as error:
        return [_of_error("hub", Level.WARNING, error)]
    if why is None:
        return [_ok("hub", f"The Hub at {one_line(reach.endpoint)} answers.")]
    return [
        Finding(
            rule="hub",
            level=Level.WARNING,
            message=f"The Hub at {one_line(reach.endpoint)} cannot be reached: {why}.",
            fix="Models that are in the cache run without it.",
        )
    ]


async def _token(connection: Connection) -> list[Finding]:
    if connection.access_token is None:
        return [_ok("token", "No access token of its own: that of HF_TOKEN or hf auth login.")]
    try:
        found = await token_owner(connection.access_token, connection)
    except (BadToken, InvalidInput, NotFound) as error:
        return [_of_error("token", Level.BLOCKER, error)]
    except MeshtuiError as error:
        return [_of_error("token", Level.WARNING, error)]
    may = f", with the role {found.role}" if found.role else ""
    return [_ok("token", f"The access token is of the account {found.account}{may}.")]


def _models(connection: Connection) -> Finding:
    count = len(connection.enabled_models)
    if count:
        return _ok("models", f"{count} model{'' if count == 1 else 's'} enabled.")
    return Finding(
        rule="models",
        level=Level.WARNING,
        message="No model is enabled.",
        fix=f"meshtui connection enable-model {connection.name} ORG/NAME",
    )


def _ok(rule: str, message: str) -> Finding:
    return Finding(rule=rule, level=Level.OK, message=message)


def _of_error(rule: str, level: Level, error: MeshtuiError) -> Finding:
    return Finding(rule=rule, level=level, message=error.message, fix=error.hint or "")
