"""A report in a few words: its sign, its headline, and the facts beside it."""

import math

from meshtui.domain.check import CheckReport, CheckWishes, Verdict
from meshtui.domain.errors import MeshtuiError
from meshtui.domain.finding import Finding, Level
from meshtui.domain.memory import GIB
from meshtui.domain.task import Engine
from meshtui.domain.text import one_line

from .. import words

_RULES = {
    "custom-code": "Model's own code",
    "instruct": "Instruct",
    "max-tokens": "Max tokens",
    "tensor-parallel": "Tensor parallel",
    "gpu": "GPU",
    "kv-cache": "KV cache",
}
_SOURCES = {
    "hub": "read from the Hub",
    "cache": "in the cache",
    "folder": "a folder",
    "configuration": "from its configuration alone",
}
_ORDER = (Level.BLOCKER, Level.WARNING, Level.OK)


def title(rule: str) -> str:
    """A rule's name for people."""
    name = one_line(rule, 40)
    return _RULES.get(name) or name.replace("-", " ").replace("_", " ").capitalize()


def _inside(rule: str) -> str:
    """The name as it stands inside a sentence."""
    name = title(rule)
    return name if name[1:2].isupper() else name[:1].lower() + name[1:]


def level_sign(level: Level) -> tuple[str, str]:
    """The sign of a finding and the theme variable of its colour."""
    return {
        Level.OK: (words.READY, "$success"),
        Level.WARNING: (words.ATTENTION, "$warning"),
        Level.BLOCKER: (words.FAILED, "$error"),
    }[level]


def verdict_sign(verdict: Verdict) -> tuple[str, str]:
    """As `level_sign`, of a whole report."""
    return {
        Verdict.RUNS: (words.READY, "$success"),
        Verdict.WARNINGS: (words.ATTENTION, "$warning"),
        Verdict.BLOCKED: (words.FAILED, "$error"),
        Verdict.UNKNOWN: (words.ABSENT, "$muted"),
    }[verdict]


def ordered(findings: tuple[Finding, ...]) -> list[Finding]:
    """What stands in the way first, else as the rules gave them."""
    return sorted(findings, key=lambda finding: _ORDER.index(finding.level))


def of_level(report: CheckReport, level: Level) -> list[Finding]:
    return [finding for finding in report.findings if finding.level is level]


def headline(report: CheckReport) -> str:
    """`runs on vLLM 0.33.0, with 2 warnings`."""
    match report.verdict:
        case Verdict.UNKNOWN:
            return "could not tell"
        case Verdict.BLOCKED:
            rules = dict.fromkeys(_inside(f.rule) for f in of_level(report, Level.BLOCKER))
            return f"does not run: {', '.join(rules)}" if rules else "does not run"
        case _:
            on = f" on {engine(report)}" if report.engine else ""
            if report.memory and report.memory.fits is False:
                return f"runs{on}, with changes"
            found = len(of_level(report, Level.WARNING))
            return f"runs{on}" + (f", with {words.plural(found, 'warning')}" if found else "")


def engine(report: CheckReport) -> str:
    """The engine with its version, where that is known."""
    version = report.vllm_version if report.engine is Engine.VLLM else None
    return words.engine_text(report.engine, one_line(version, 30) if version else None)


def facts(report: CheckReport) -> list[str]:
    """What kind of model it is, and where that was read."""
    found = [report.task.value if report.task else ""]
    found += [one_line(name, 60) for name in report.architectures[:1]]
    if report.context_length:
        found.append(f"{report.context_length:,} tokens")
    source = _SOURCES.get(report.source, one_line(report.source, 40))
    found.append(source + (f" at {one_line(report.commit, 7)}" if report.commit else ""))
    if report.licence:
        found.append(f"licence {one_line(report.licence, 40)}")
    return [fact for fact in found if fact]


def gib(size_bytes: int) -> str:
    """`14.99`, `0.04`, `1,304`: as many digits as are of use."""
    value = size_bytes / GIB
    return f"{value:,.2f}" if abs(value) < 1000 else f"{value:,.0f}"


def gib_range(low_bytes: int, high_bytes: int) -> str:
    """`0.52–1.41`, or one figure where both read the same."""
    low, high = gib(low_bytes), gib(high_bytes)
    return low if low == high else f"{low}–{high}"


def requests(concurrency: float) -> str:
    """How many requests at a time: rounded down, for half a one more is none."""
    if concurrency >= 10:
        return f"{math.floor(concurrency):,} requests"
    floored = math.floor(concurrency * 10) / 10
    return f"{floored:.1f} requests"


def where(report: CheckReport, wishes: CheckWishes) -> str:
    """The GPUs it was checked for."""
    memory = report.memory
    name = (memory.gpu if memory else None) or wishes.gpu
    count = memory.gpu_count if memory else wishes.gpus or 1
    return f"{one_line(name, 40)} × {count}" if name else "no GPU"


def error_text(error: MeshtuiError) -> str:
    return one_line(error.message, 1000)
