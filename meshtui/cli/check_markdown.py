"""A verdict as Markdown, to keep or to send."""

import re

from meshtui.cli.check_report import gib, interval, proposed
from meshtui.domain.check import CheckReport
from meshtui.domain.text import one_line

# Text of a model's authors must not become markup.
_MARKUP = re.compile(r"([\\`*_\[\]<>|#~])")


def markdown(report: CheckReport) -> str:
    """A section with tables of findings and memory."""
    facts = {
        "verdict": f"{report.verdict.value}: {report.summary}",
        "engine": report.engine.label if report.engine else "none",
        "runtime": " ".join(word for word in (report.runtime, "vLLM", report.vllm_version) if word)
        if report.vllm_version
        else report.runtime,
        "architecture": ", ".join(report.architectures),
        "commit": report.commit,
        "licence": report.licence,
        "context length": f"{report.context_length:,}" if report.context_length else None,
        "proposed": proposed(report),
    }
    lines = [f"## {plain(report.model)}", ""]
    lines += [f"- {name}: {plain(value)}" for name, value in facts.items() if value]
    lines += ["", "| finding | level | what was seen | what to do |", "|---|---|---|---|"]
    lines += [
        f"| {f.rule} | {f.level.value} | {plain(f.message)} | {plain(f.fix)} |"
        for f in report.findings
    ]
    if (memory := report.memory) is not None:
        on = f"{memory.gpu} × {memory.gpu_count}" if memory.gpu else "each GPU"
        marks = [word for word, on_ in (("simulated", memory.simulated),
                                        ("measured", memory.measured)) if on_]  # fmt: skip
        lines += ["", f"Memory of {plain(on)} ({', '.join(marks) or 'seen'}), per GPU:", ""]
        lines += ["| part | size and how it was reckoned |", "|---|---|"]
        lines += [f"| {plain(p.name)} | {plain(interval(p))} |" for p in memory.parts]
        lines += [f"| together | {gib(memory.total_bytes_per_gpu)} |"]
    if report.alternatives:
        lines += ["", f"Also: {plain(', '.join(report.alternatives))}"]
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    """One line that Markdown shows as it is."""
    return _MARKUP.sub(r"\\\1", one_line(text, 2000))
