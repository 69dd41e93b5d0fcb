"""Everything that is known of a model before it runs, put together."""

from collections.abc import Iterator

import msgspec

from meshtui.compat.lengths import longest_length
from meshtui.compat.rules import findings as findings_of_rules
from meshtui.compat.rules.weights import RULE as WEIGHTS
from meshtui.compat.subject import Subject
from meshtui.domain.check import CheckReport, CheckWishes, Verdict
from meshtui.domain.errors import InvalidInput, MeshtuiError, Unavailable
from meshtui.domain.finding import Finding, Level
from meshtui.domain.memory import GIB
from meshtui.domain.task import Engine
from meshtui.domain.text import one_line
from meshtui.engines.check.case import Case, Place, case_of
from meshtui.engines.check.known import Known
from meshtui.engines.check.memory import Judged, alternatives, check_ram, judge, other_sets
from meshtui.engines.check.pictures import judge_pictures
from meshtui.engines.check.proposal import propose
from meshtui.engines.choice import Decision, decide

ENGINE, MEMORY, EXACT, RUNTIME = "engine", "memory", "exact", "runtime"
# Rules about vLLM alone: what they refuse, another engine may do.
_OF_VLLM = ("quantization", "gpu")


def check(known: Known, wishes: CheckWishes, place: Place) -> CheckReport:
    """The verdict on a model under wishes. Whatever is wrong with the model is a finding; wishes
    that mean nothing raise `InvalidInput` or `NotFound`."""
    subject = known.subject
    case = case_of(subject, wishes, place)
    found = list(findings_of_rules(subject, case.setting))
    engine, of_engine, telling = _engine(subject, case)
    if engine is Engine.TRANSFORMERS:
        found = [_softened(one) if one.rule in _OF_VLLM else one for one in found]
    found += of_engine
    judged, of_memory, enough = _memory(known, case)
    if any(one.rule == WEIGHTS and one.level is Level.BLOCKER for one in found):
        # It is known already what is wrong with the files.
        of_memory = [one for one in of_memory if one.rule != WEIGHTS]
    found += [*of_memory, *case.place.told, *_exact(case, judged)]
    found.append(_runtime(case))
    verdict = _verdict(found, telling)
    configuration = None if subject.broken_configuration else subject.configuration
    return CheckReport(
        model=subject.shown_name,
        verdict=verdict,
        engine=engine,
        findings=tuple(found),
        memory=judged.report if judged else None,
        task=case.setting.task or subject.task,
        source=subject.source,
        commit=subject.commit,
        licence=one_line(subject.licence, 100) if subject.licence else None,
        summary=_summary(verdict, engine, case, found, judged),
        architectures=tuple(one_line(a, 100) for a in configuration.architectures[:10])
        if configuration
        else (),
        context_length=longest_length(configuration, case.setting.vllm_version)
        if configuration and not subject.is_pipeline
        else None,
        runtime=case.setting.runtime or None,
        vllm_version=case.setting.vllm_version,
        proposal=propose(subject, case, judged, engine),
        changes=tuple(change.message for change in judged.changes) if judged else (),
        alternatives=enough,
    )


def failed(model: str, error: MeshtuiError, rule: str = "configuration") -> CheckReport:
    """The report on a model of which nothing could be read. Where somebody gave no answer, it
    cannot be told whether it runs."""
    can_be_told = not isinstance(error, Unavailable)
    level = Level.BLOCKER if can_be_told else Level.WARNING
    found = [Finding(rule=rule, level=level, message=error.message, fix=error.hint or "")]
    verdict = _verdict(found, can_be_told)
    said = "does not run" if can_be_told else "could not tell"
    return CheckReport(
        model=one_line(model, 400),
        verdict=verdict,
        findings=tuple(found),
        summary=f"{said}: {error.message}",
    )


def _engine(subject: Subject, case: Case) -> tuple[Engine | None, list[Finding], bool]:
    """The engine, what is to be said of it, and whether anybody can tell."""
    if subject.is_pipeline:
        return Engine.DIFFUSERS, [_of_pipeline(case)], True
    readable = subject.has("config.json") or bool(subject.paths(".gguf"))
    if subject.broken_configuration or not readable:
        # The rule about the configuration says why.
        return None, [], True
    decision = decide(subject, case.setting, case.machine)
    if decision.engine is not None:
        return decision.engine, [_of_decision(decision, case)], True
    if decision.vllm.consent:
        message = f"vLLM, once it is allowed to: {decision.vllm.reason}"
        return Engine.VLLM, [_finding(Level.WARNING, message, decision.vllm.fix)], True
    if not decision.vllm.known:
        message = f"It cannot be told whether it runs. {decision.vllm.reason}"
        return None, [_finding(Level.WARNING, message, decision.fix)], False
    return None, [_finding(Level.BLOCKER, decision.reason, decision.fix)], True


def _of_pipeline(case: Case) -> Finding:
    if case.place.built and "diffusers" not in case.setting.packages:
        return _finding(
            Level.WARNING,
            f"diffusers serves it, which the runtime {case.setting.runtime} lacks.",
            "Add diffusers to the runtime.",
        )
    return _finding(Level.OK, "diffusers")


def _of_decision(decision: Decision, case: Case) -> Finding:
    if decision.engine is Engine.TRANSFORMERS:
        return _finding(
            Level.WARNING,
            f"{decision.reason} On transformers it runs with less: {'; '.join(decision.lost)}.",
            decision.fix,
        )
    version = case.setting.vllm_version or case.setting.vllm.version
    then = f"; {decision.fallback.label} if it does not start" if decision.fallback else ""
    return _finding(Level.OK, f"vLLM {version}{then}")


def _memory(known: Known, case: Case) -> tuple[Judged | None, list[Finding], tuple[str, ...]]:
    """What it takes, what is to be said of that, and GPUs that would do."""
    subject = known.subject
    if subject.broken_configuration:
        return None, [], ()
    try:
        if subject.is_pipeline:
            report, enough, said = judge_pictures(known, case)
            return Judged(report=report), [said], enough
        if not subject.has("config.json"):
            return None, [], ()
        judged = judge(subject, case, known.weights)
        if case.gpu is None and case.setting.on_cpu:
            check_ram(judged.report, case.machine.memory_bytes)
    except InvalidInput as error:
        unknown = Finding(
            rule=MEMORY,
            level=Level.WARNING,
            message=f"It cannot be told how much it takes: {error.message}",
            fix=error.hint or "",
        )
        return None, [unknown], ()
    found = [_of_memory(judged, case), *_disagreement(known, case)]
    return judged, found, other_sets(_alternatives(known, case), judged.report)


def _disagreement(known: Known, case: Case) -> Iterator[Finding]:
    """The files and the configuration may not belong together."""
    if said := known.weights(case.serving).disagreement:
        yield Finding(
            rule=WEIGHTS,
            level=Level.WARNING,
            message=said,
            fix="Check that all of the files are there, and that config.json is theirs.",
        )


def _of_memory(judged: Judged, case: Case) -> Finding:
    report, fit = judged.report, judged.fit
    takes = f"{report.total_bytes_per_gpu / GIB:.2f} GiB"
    if fit is None:
        return Finding(
            rule=MEMORY,
            level=Level.OK,
            message=f"{takes} a GPU, with one request of {report.max_tokens:,} tokens",
        )
    on = f"{report.gpu} × {report.gpu_count}" if report.gpu_count > 1 else f"{report.gpu}"
    if fit.fits:
        holds = (
            f"; {fit.concurrency:g} requests of {fit.max_tokens:,} tokens at a time"
            if fit.concurrency
            else ""
        )
        message = f"{takes} of {fit.gpu.memory_gib:.2f} GiB of {on}{holds}"
        if fit.surely:
            return Finding(rule=MEMORY, level=Level.OK, message=message)
        return Finding(
            rule=MEMORY,
            level=Level.WARNING,
            message=f"{message}. It is close: it may be too much.",
            fix="Allow fewer tokens, so that some memory stays free.",
        )
    fix = judged.changes[0].message if judged.changes else "Use larger GPUs, or more of them."
    shorter = next((c for c in judged.changes if c.name == "shorter-length"), None)
    if shorter is not None and case.setting.max_tokens is None:
        # Nobody asked for the model's whole length.
        return Finding(
            rule=MEMORY,
            level=Level.WARNING,
            message=f"On {on}: {fit.problem}",
            fix=f"Set max tokens to {fit.longest:,} or less.",
        )
    maybe = " It might just fit." if fit.hardly else ""
    return Finding(
        rule=MEMORY, level=Level.BLOCKER, message=f"On {on}: {fit.problem}{maybe}", fix=fix
    )


def _alternatives(known: Known, case: Case) -> tuple[str, ...]:
    """Nothing in them depends on the GPU that is asked for, nor on how many."""
    serving = msgspec.structs.replace(case.serving, gpu=None, tensor_parallel_size=1)
    key = (serving, case.setting.vllm_version, case.setting.quantization)
    found = known.alternatives(key)
    if found is None:
        try:
            found = alternatives(known.subject, case, known.weights)
        except MeshtuiError:
            found = ()
        known.keep_alternatives(key, found)
    return found


def _exact(case: Case, judged: Judged | None) -> list[Finding]:
    """What the runtime's own vLLM said, where it was asked."""
    answer = case.place.exact
    if answer is None or judged is None:
        return []
    if isinstance(answer, Unavailable):
        said = Finding(
            rule=EXACT, level=Level.WARNING, message=answer.message, fix=answer.hint or ""
        )
        return [said]
    report = judged.report
    request = answer.request_bytes.get(str(report.max_tokens))
    message = f"vLLM {answer.vllm_version} builds {answer.weights_bytes / GIB:.2f} GiB of weights"
    if request is None:
        return [Finding(rule=EXACT, level=Level.OK, message=message)]
    message += f", and a request of {report.max_tokens:,} tokens takes {request / GIB:.2f} GiB"
    if request == report.kv_cache_bytes_per_request:
        return [Finding(rule=EXACT, level=Level.OK, message=message)]
    return [
        Finding(
            rule=EXACT,
            level=Level.WARNING,
            message=f"{message}; the estimate of "
            f"{report.kv_cache_bytes_per_request / GIB:.2f} GiB is wrong.",
            fix="Count with the engine's figure, and report this.",
        )
    ]


def _runtime(case: Case) -> Finding:
    runtime = case.setting
    version = f"vLLM {runtime.vllm_version}" if runtime.vllm_version else "no vLLM"
    if runtime.transformers_version:
        version += f", transformers {runtime.transformers_version}"
    state = "" if case.place.built else "; it is not built yet"
    return Finding(rule=RUNTIME, level=Level.OK, message=f"{runtime.runtime}: {version}{state}")


def _softened(found: Finding) -> Finding:
    if found.level is not Level.BLOCKER:
        return found
    return msgspec.structs.replace(found, level=Level.WARNING)


def _finding(level: Level, message: str, fix: str = "") -> Finding:
    return Finding(rule=ENGINE, level=level, message=message, fix=fix)


def _verdict(found: list[Finding], can_be_told: bool) -> Verdict:
    levels = {finding.level for finding in found}
    if Level.BLOCKER in levels:
        return Verdict.BLOCKED
    if not can_be_told:
        return Verdict.UNKNOWN
    return Verdict.WARNINGS if Level.WARNING in levels else Verdict.RUNS


def _summary(
    verdict: Verdict,
    engine: Engine | None,
    case: Case,
    found: list[Finding],
    judged: Judged | None,
) -> str:
    if verdict is Verdict.BLOCKED:
        worst = next(one for one in found if one.level is Level.BLOCKER)
        return f"does not run: {worst.message}"
    if verdict is Verdict.UNKNOWN:
        worst = next((one for one in found if one.level is Level.WARNING), found[0])
        return f"could not tell: {worst.message}"
    on = engine.label if engine else "no engine"
    if engine is Engine.VLLM and case.setting.vllm_version:
        on += f" {case.setting.vllm_version}"
    gpu = judged.report if judged else None
    if gpu is not None and gpu.gpu:
        on += f" on {gpu.gpu}" + (f" × {gpu.gpu_count}" if gpu.gpu_count > 1 else "")
    if judged is not None and judged.fit is not None and not judged.fit.fits:
        return f"runs on {on}, with changes"
    return f"runs on {on}" + (", with reservations" if verdict is Verdict.WARNINGS else "")
