"""`meshtui connection enable-model` and `disable-model`: what may be run where."""

import argparse
import sys
from typing import Any

import msgspec

from meshtui.cli import exit_codes
from meshtui.cli.asking import confirm
from meshtui.cli.check_report import SIGNS, VERDICTS
from meshtui.cli.command import Noun, print_json
from meshtui.client import ControllerClient
from meshtui.client.connections import wishes_for
from meshtui.domain.check import CheckReport, Verdict
from meshtui.domain.connection import EnabledModel
from meshtui.domain.described import help_of
from meshtui.domain.editing import EditableConnection
from meshtui.domain.errors import InvalidInput, NotFound
from meshtui.domain.finding import Level
from meshtui.domain.generation import GenerationParameters
from meshtui.domain.task import EngineChoice, Task
from meshtui.domain.text import one_line

_GENERATION = {"temperature": float, "top_p": float, "seed": int}


def add_verbs(noun: Noun) -> None:
    """The verbs about the models of a connection."""
    enable = noun.verb(
        "enable-model", _enable, "enable a model, or change the settings of an enabled one"
    )
    enable.add_argument("connection", metavar="CONNECTION")
    enable.add_argument("model", metavar="MODEL", help="org/name[@revision], or a preset's name")
    _add_options(enable)
    disable = noun.verb("disable-model", _disable, "take a model off a connection")
    disable.add_argument("connection", metavar="CONNECTION")
    disable.add_argument("model", metavar="MODEL")


def _add_options(parser: argparse.ArgumentParser) -> None:
    says = help_of(EnabledModel)
    add = parser.add_argument
    add("--gpu-gb", type=int, metavar="GB", help="take the preset's settings for GPUs of that size")
    add("--task", choices=[one.value for one in Task], help=says["task"])
    add("--display-name", metavar="TEXT", help=says["display_name"])
    add("--max-tokens", metavar="N", help=f"{says['max_tokens']} (N or auto)")
    add("--quantization", metavar="NAME", help=f"{says['quantization']} (or none)")
    add("--tensor-parallel-size", type=int, metavar="N", help=says["tensor_parallel_size"])
    add("--engine", choices=[one.value for one in EngineChoice], help=says["engine"])
    add("--idle-timeout", type=float, metavar="SECONDS", help=says["idle_timeout_s"])
    add("--engine-arg", action="append", metavar="WORD", help=says["extra_engine_args"])
    add("--engine-env", action="append", metavar="NAME=VALUE", help=says["engine_environment"])
    add("--trust-remote-code", action=argparse.BooleanOptionalAction,
        help=says["trust_remote_code"])  # fmt: skip
    for name, kind in _GENERATION.items():
        add(f"--{name.replace('_', '-')}", type=kind, metavar="X", help="where no prompt says it")
    add("--answer-tokens", type=int, metavar="N", help="tokens of an answer where no prompt says")
    add("--no-check", action="store_true", help="do not ask the checker first")
    add("--yes", action="store_true", help="enable it also where the checker says that it fails")


async def _enable(client: ControllerClient, arguments: argparse.Namespace) -> int:
    seen = await client.editable_connection(arguments.connection)
    before = await _begun(client, seen, arguments)
    enabled = _with_options(before or _named(seen, arguments.model), arguments)
    report = None
    if not arguments.no_check:
        wishes = wishes_for(seen.connection, enabled)
        if before is None and arguments.task is None:
            # The model's own files tell what it is for.
            wishes = msgspec.structs.replace(wishes, task=None)
        report = await client.check(enabled.model, wishes)
        if wishes.task is None and report.task is not None:
            enabled = msgspec.structs.replace(enabled, task=report.task)
        if not arguments.json:
            _print_verdict(report)
        if report.verdict is Verdict.BLOCKED:
            await confirm(f"Enable {one_line(enabled.model)} all the same?", yes=arguments.yes)
    models = {one.model: one for one in seen.connection.enabled_models}
    was_there = enabled.model in models
    models[enabled.model] = enabled
    wanted = msgspec.structs.replace(seen.connection, enabled_models=tuple(models.values()))
    saved = await client.save_connection(arguments.connection, wanted, seen.revision)
    if arguments.json:
        print_json({"enabled": enabled, "report": report})
    else:
        done = "Changed" if was_there else "Enabled"
        print(f"{done} {one_line(enabled.model)} on {saved.connection.name}.")
        print(f"Try it: meshtui prompt {one_line(enabled.model)} 'Hello!'")
    return exit_codes.OK


async def _begun(
    client: ControllerClient, seen: EditableConnection, arguments: argparse.Namespace
) -> EnabledModel | None:
    """What is known of the model: as it is enabled now, else its preset; None: nothing is."""
    for enabled in seen.connection.enabled_models:
        if enabled.model == arguments.model and arguments.gpu_gb is None:
            return enabled
    for preset in await client.presets():
        if arguments.model in (preset.name, preset.model):
            settings = preset.settings_for(arguments.gpu_gb) if arguments.gpu_gb else None
            if arguments.gpu_gb and settings is None:
                raise InvalidInput(
                    f"{preset.model} does not fit GPUs of {arguments.gpu_gb} GB, not even eight.",
                    hint=f"See: meshtui model presets {preset.name}",
                )
            found = preset.enabled_model(settings)
            return msgspec.structs.replace(found, idle_timeout_s=seen.default_idle_timeout_s)
    if arguments.gpu_gb is not None:
        raise NotFound(
            f"There is no preset for {arguments.model!r}, so --gpu-gb means nothing for it.",
            hint="See: meshtui model presets",
        )
    return None


def _named(seen: EditableConnection, model: str) -> EnabledModel:
    return EnabledModel(model=model, idle_timeout_s=seen.default_idle_timeout_s)


def _with_options(enabled: EnabledModel, arguments: argparse.Namespace) -> EnabledModel:
    fields: dict[str, Any] = {}
    if arguments.task:
        fields["task"] = Task(arguments.task)
    if arguments.engine:
        fields["engine"] = EngineChoice(arguments.engine)
    if arguments.max_tokens is not None:
        fields["max_tokens"] = _number_or_auto(arguments.max_tokens)
    if arguments.quantization is not None:
        fields["quantization"] = None if arguments.quantization == "none" else (
            arguments.quantization
        )  # fmt: skip
    for field, option in (
        ("display_name", "display_name"),
        ("tensor_parallel_size", "tensor_parallel_size"),
        ("idle_timeout_s", "idle_timeout"),
        ("trust_remote_code", "trust_remote_code"),
    ):
        if getattr(arguments, option) is not None:
            fields[field] = getattr(arguments, option)
    if arguments.engine_arg is not None:
        fields["extra_engine_args"] = tuple(arguments.engine_arg)
    if arguments.engine_env is not None:
        pairs = [item.partition("=") for item in arguments.engine_env]
        if any(not equals or not name for name, equals, _ in pairs):
            raise InvalidInput("--engine-env takes NAME=VALUE.")
        fields["engine_environment"] = {name: value for name, _, value in pairs}
    values = {name: getattr(arguments, name) for name in _GENERATION}
    generation: dict[str, Any] = {
        name: value for name, value in values.items() if value is not None
    }
    if arguments.answer_tokens is not None:
        generation["max_tokens"] = arguments.answer_tokens
    if generation:
        given = GenerationParameters(**generation)
        fields["generation"] = given.over(enabled.generation)
    return msgspec.structs.replace(enabled, **fields)


def _number_or_auto(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise InvalidInput("--max-tokens takes a whole number, or auto.") from None


def _print_verdict(report: CheckReport) -> None:
    """The verdict and what speaks against the model, on stderr."""
    sign = VERDICTS[report.verdict]
    print(f"{sign} {one_line(report.model)}  {one_line(report.summary, 2000)}", file=sys.stderr)
    for finding in report.findings:
        if finding.level is not Level.OK:
            said = f"{finding.message} {finding.fix}".strip()
            print(f"  {SIGNS[finding.level]} {one_line(said, 2000)}", file=sys.stderr)


async def _disable(client: ControllerClient, arguments: argparse.Namespace) -> int:
    seen = await client.editable_connection(arguments.connection)
    left = tuple(one for one in seen.connection.enabled_models if one.model != arguments.model)
    if len(left) == len(seen.connection.enabled_models):
        raise NotFound(
            f"{arguments.model} is not enabled on {arguments.connection}.",
            hint=f"See: meshtui connection show {arguments.connection}",
        )
    wanted = msgspec.structs.replace(seen.connection, enabled_models=left)
    await client.save_connection(arguments.connection, wanted, seen.revision)
    if arguments.json:
        print_json({"disabled": arguments.model})
    else:
        print(f"Disabled {one_line(arguments.model)} on {one_line(arguments.connection)}.")
    return exit_codes.OK
