"""The settings under which a model is deployed as it was checked, and what they change."""

from collections.abc import Iterator

import msgspec

from meshtui.domain.check import CheckReport, CheckWishes, Proposal
from meshtui.domain.connection import Connection, EnabledModel
from meshtui.domain.text import one_line

# What the checker's wishes and its proposal both say, and an enabled model too.
_SHARED = ("max_tokens", "tensor_parallel_size", "quantization")
_SHOWN = (*_SHARED, "trust_remote_code", "extra_engine_args")
_CACHE_OPTION, _LENGTH_OPTION = "--kv-cache-dtype", "--max-model-len"
_TOOLS_OPTION, _REASONING_OPTION = "--tool-call-parser", "--reasoning-parser"
# Without it vLLM parses no tool call that was not forced.
_AUTO_TOOLS = "--enable-auto-tool-choice"


def filled(wishes: CheckWishes, proposal: Proposal | None) -> CheckWishes:
    """The wishes, and what the checker proposes where nothing is wished."""
    if proposal is None:
        return wishes
    names = (*_SHARED, "kv_cache_dtype")
    return msgspec.structs.replace(
        wishes,
        **{name: getattr(proposal, name) for name in names if getattr(wishes, name) is None},
    )


def as_checked(model: EnabledModel, report: CheckReport, wishes: CheckWishes) -> EnabledModel:
    """The model with what was wished for, and else with what the checker proposes."""
    wanted = filled(wishes, report.proposal)
    if wishes.max_tokens is None and wanted.max_tokens == report.context_length:
        # The model's own length needs no saying.
        wanted = msgspec.structs.replace(wanted, max_tokens=model.max_tokens)
    changes = {name: value for name in _SHARED if (value := getattr(wanted, name)) is not None}
    arguments = model.extra_engine_args
    if wanted.max_tokens is not None:
        arguments = _without(arguments, _LENGTH_OPTION)
    if wanted.kv_cache_dtype is not None:
        arguments = (*_without(arguments, _CACHE_OPTION), _CACHE_OPTION, wanted.kv_cache_dtype)
    arguments += _parsers(arguments, report.proposal)
    trusts = wishes.trust_remote_code or model.trust_remote_code
    return msgspec.structs.replace(
        model, **changes, extra_engine_args=arguments, trust_remote_code=trusts
    )


def _parsers(arguments: tuple[str, ...], proposal: Proposal | None) -> tuple[str, ...]:
    """What reads the family's tool calls and reasoning, unless others are set already."""
    options = {argument.partition("=")[0] for argument in arguments}
    found: tuple[str, ...] = ()
    if proposal is None:
        return found
    if proposal.tool_call_parser and _TOOLS_OPTION not in options:
        auto = () if _AUTO_TOOLS in options else (_AUTO_TOOLS,)
        found += (*auto, _TOOLS_OPTION, proposal.tool_call_parser)
    if proposal.reasoning_parser and _REASONING_OPTION not in options:
        found += (_REASONING_OPTION, proposal.reasoning_parser)
    return found


def _without(arguments: tuple[str, ...], option: str) -> tuple[str, ...]:
    """The arguments without `--option value` and `--option=value`."""
    kept: list[str] = []
    skips = False
    for argument in arguments:
        if not skips and argument != option and not argument.startswith(f"{option}="):
            kept.append(argument)
        skips = argument == option
    return tuple(kept)


def placed(connection: Connection, enabled: EnabledModel) -> Connection:
    """The connection with the model, in its place or at the end."""
    others = connection.enabled_models
    models = tuple(enabled if one.model == enabled.model else one for one in others)
    if enabled not in models:
        models = (*models, enabled)
    return msgspec.structs.replace(connection, enabled_models=models)


def differences(before: EnabledModel | None, after: EnabledModel) -> Iterator[str]:
    """`Max tokens: 37,056 (not set before)`, line by line; the settings alone for a new model."""
    usual = before or EnabledModel(model=after.model)
    for name in _SHOWN:
        was, now = getattr(usual, name), getattr(after, name)
        if now != was:
            label = name.replace("_", " ").replace(" args", " arguments").capitalize()
            yield f"{label}: {_text(now)}" + (f" ({_text(was)} before)" if before else "")


def _text(value: object) -> str:
    match value:
        case None | ():
            return "not set"
        case bool():
            return "on" if value else "off"
        case int():
            return f"{value:,}"
        case tuple():
            return one_line(" ".join(map(str, value)), 100)
    return one_line(str(value), 60)
