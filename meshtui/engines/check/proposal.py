"""Serving settings with which a model runs."""

import re
from functools import cache
from typing import Any

from meshtui.compat.subject import Subject
from meshtui.compat.support import wants_chat
from meshtui.compat.tables import VllmTable
from meshtui.domain.check import Proposal
from meshtui.domain.task import Engine
from meshtui.engines.check.case import Case
from meshtui.engines.check.memory import Judged
from meshtui.settings.shipped import toml_data

_SHORTEST = 1024


def propose(
    subject: Subject, case: Case, judged: Judged | None, engine: Engine | None
) -> Proposal | None:
    """What the wishes ask for where that fits; else shorter requests, then an FP8 cache, then more
    GPUs. None where none of these helps, or no engine would serve the model."""
    if engine is None:
        return None
    ranks, kv_dtype = case.setting.tensor_parallel_size, _set(case.serving.kv_cache_dtype)
    length = case.setting.max_tokens
    if judged is not None:
        length = judged.report.max_tokens or None
        if judged.report.fits is False and judged.fit is None:
            return None
        if judged.fit is not None and not judged.fit.fits:
            changes = {change.name: change.value for change in judged.changes}
            if judged.fit.longest >= _SHORTEST and "shorter-length" in changes:
                length = rounded(judged.fit.longest)
            elif "fp8-kv-cache" in changes:
                kv_dtype = changes["fp8-kv-cache"]
            elif "more-gpus" in changes:
                ranks = int(changes["more-gpus"])
            else:
                return None
    own = None if subject.broken_configuration else subject.configuration.quantization
    chat = engine is Engine.VLLM and wants_chat(subject, case.setting)
    tools, reasoning = parsers_of(subject.name, case.setting.vllm) if chat else (None, None)
    return Proposal(
        max_tokens=length,
        tensor_parallel_size=ranks,
        quantization=None if own is not None else case.setting.quantization,
        kv_cache_dtype=kv_dtype,
        trust_remote_code=case.setting.trust_remote_code,
        tool_call_parser=tools,
        reasoning_parser=reasoning,
    )


def rounded(tokens: int) -> int:
    """A length that people would choose: whole units of 1024, where there is one."""
    return tokens - tokens % 1024 if tokens >= 1024 else tokens


def parsers_of(name: str, table: VllmTable) -> tuple[str | None, str | None]:
    """vLLM's parsers of tool calls and of reasoning for a model's family, by its name, where that
    release has them."""
    model = name.partition("@")[0].rpartition("/")[2]
    for pattern, entry in _parsers():
        if pattern.search(model):
            tools, reasoning = entry.get("tool_call"), entry.get("reasoning")
            return (
                tools if tools in table.tool_parsers else None,
                reasoning if reasoning in table.reasoning_parsers else None,
            )
    return None, None


@cache
def _parsers() -> tuple[tuple[re.Pattern[str], dict[str, Any]], ...]:
    return tuple(
        (re.compile(entry["name"]), entry) for entry in toml_data("families.toml")["parsers"]
    )


def _set(dtype: str) -> str | None:
    return None if dtype == "auto" else dtype
