"""Reports of the checker as a script gives them: simple sums, so that a test can follow them."""

from meshtui.domain.check import CheckReport, CheckWishes, MemoryReport, Proposal, Verdict
from meshtui.domain.errors import NotFound
from meshtui.domain.finding import Finding, Level
from meshtui.domain.memory import GIB, GpuSpec, MemoryItem
from meshtui.domain.task import Engine, Task

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
QWEN = "Qwen/Qwen2.5-72B-Instruct"
BASE = "mistralai/Mistral-Small-24B-Base-2501"
MYSTERY = "acme/mystery"
OWN_LENGTH = 131_072


def _gpu(name: str, label: str, gib: float, capability: int, gb_s: float) -> GpuSpec:
    return GpuSpec(
        name=name,
        label=label,
        memory_bytes=int(gib * GIB),
        capability=capability,
        bandwidth_bytes_s=int(gb_s * 1e9),
    )


GPUS = [
    _gpu("t4", "Tesla T4 16GB", 14.56, 75, 320),
    _gpu("a10", "A10 24GB", 22.06, 86, 600),
    _gpu("l4", "L4 24GB", 22.03, 89, 300),
    _gpu("rtx-4090", "GeForce RTX 4090 24GB", 23.52, 89, 1008),
    _gpu("a100-40", "A100 40GB", 39.38, 80, 1555),
    _gpu("l40s", "L40S 48GB", 44.39, 89, 864),
    _gpu("h100", "H100 80GB HBM3", 79.11, 90, 3352),
]
_WEIGHTS_GIB = {LLAMA: 14.99, QWEN: 135.4, BASE: 43.9}
_KIB_A_TOKEN = {LLAMA: 128, QWEN: 320, BASE: 160}


def report(model: str, wishes: CheckWishes) -> CheckReport:
    """What the checker says of some well-known models. Raises `NotFound` for others."""
    if model == MYSTERY:
        return _mystery()
    if model not in _WEIGHTS_GIB:
        raise NotFound(
            f"The Hub knows no model {model}.", hint="Check its name, or whether it is private."
        )
    memory = _memory(model, wishes)
    findings = [
        _ok("configuration", f"config.json, {_architecture(model)}"),
        _ok("architecture", f"{_architecture(model)} is in vLLM 0.33.0"),
        _ok("weights", "4 files of safetensors, bfloat16"),
    ]
    if model == BASE:
        findings.append(
            Finding(
                rule="instruct",
                level=Level.BLOCKER,
                message="This is a base model, which continues text and does not answer: it has "
                "no chat template.",
                fix="Use mistralai/Mistral-Small-24B-Instruct-2501.",
            )
        )
    else:
        findings.append(
            _ok(
                "instruct",
                "instruct: the template ends turns with <|eot_id|>, which is in eos_token_id",
            )
        )
        findings.append(
            Finding(
                rule="access",
                level=Level.WARNING,
                message="The repository is gated; the token of the connection local has access.",
                fix="Nothing, unless others deploy it: they need to accept its terms as well.",
            )
        )
    findings.append(_memory_finding(memory))
    return _report(model, memory, tuple(findings))


def _report(model: str, memory: MemoryReport, findings: tuple[Finding, ...]) -> CheckReport:
    levels = {finding.level for finding in findings}
    verdict = Verdict.RUNS
    if Level.BLOCKER in levels:
        verdict = Verdict.BLOCKED
    elif Level.WARNING in levels:
        verdict = Verdict.WARNINGS
    fitting = memory.max_tokens_that_fit or 0
    changes = [] if memory.fits else ["Split the model over 4 of these GPUs."]
    if not memory.fits and fitting > 1024:
        changes.insert(0, f"Allow at most {fitting:,} tokens instead of {memory.max_tokens:,}.")
        changes.insert(1, "Keep the KV cache in FP8, half the size.")
    return CheckReport(
        model=model,
        verdict=verdict,
        engine=Engine.VLLM,
        findings=findings,
        memory=memory,
        task=Task.TEXT_GENERATION,
        source="hub",
        commit="0e9e39f249a16976918f6564b8830bc894c89659",
        licence="llama3.1" if model == LLAMA else "apache-2.0",
        summary="It runs." if verdict is not Verdict.BLOCKED else "It does not run.",
        architectures=(_architecture(model),),
        context_length=OWN_LENGTH,
        runtime="gpu",
        vllm_version="0.33.0",
        proposal=Proposal(max_tokens=min(memory.max_tokens, fitting) or None),
        changes=tuple(changes),
        alternatives=("L4 × 1", "L40S × 1", "A100-40 × 1", "T4 × 2"),
    )


def _architecture(model: str) -> str:
    return {QWEN: "Qwen2ForCausalLM", BASE: "MistralForCausalLM"}.get(model, "LlamaForCausalLM")


def _memory(model: str, wishes: CheckWishes) -> MemoryReport:
    gpu = next(gpu for gpu in GPUS if gpu.name == (wishes.gpu or "a10"))
    count = wishes.gpus or 1
    shrunk = 2 if wishes.quantization == "fp8" else 1
    weights = int(_WEIGHTS_GIB[model] * GIB / count / shrunk)
    per_token = _KIB_A_TOKEN[model] * 1024 // count
    if wishes.kv_cache_dtype == "fp8":
        per_token //= 2
    tokens = wishes.max_tokens or OWN_LENGTH
    usable = int(gpu.memory_bytes * 0.92)
    parts = (
        MemoryItem.exact("weights", weights, "8.03 billion parameters x 2 bytes"),
        _interval("activations", 0.4, 0.66, 1.0, "1.2 x logits + 0.3 x hidden states"),
        _interval("non_torch", 0.1, 0.12, 0.2, "CUDA and NCCL, as logged"),
    )
    overhead = sum(part.likely_bytes for part in parts[1:])
    pool = usable - weights - overhead
    request = per_token * tokens
    return MemoryReport(
        weights_bytes=weights,
        kv_cache_bytes_per_token=per_token,
        kv_cache_bytes_per_request=request,
        max_tokens=tokens,
        overhead_bytes=overhead,
        total_bytes_per_gpu=weights + overhead + request,
        gpu=gpu.name,
        gpu_count=count,
        gpu_bytes=gpu.memory_bytes,
        usable_bytes=usable,
        fits=request <= pool,
        max_tokens_that_fit=max(0, min(OWN_LENGTH, pool // per_token // 16 * 16)) or None,
        concurrency=round(pool / request, 2) if request <= pool else 0.0,
        parts=parts,
        notes=("The activations are fitted to logs of other GPUs of this generation.",),
    )


def _interval(name: str, low: float, likely: float, high: float, formula: str) -> MemoryItem:
    return MemoryItem(
        name=name,
        low_bytes=int(low * GIB),
        likely_bytes=int(likely * GIB),
        high_bytes=int(high * GIB),
        formula=formula,
    )


def _memory_finding(memory: MemoryReport) -> Finding:
    if memory.fits:
        return _ok("memory", f"fits on {memory.gpu} × {memory.gpu_count}")
    need, left = memory.kv_cache_bytes_per_request / GIB, memory.max_tokens_that_fit or 0
    return Finding(
        rule="memory",
        level=Level.BLOCKER,
        message=f"One request of {memory.max_tokens:,} tokens needs {need:.2f} GiB of KV cache; "
        f"room is left for {left:,} tokens.",
        fix=f"Set max tokens to {left:,}, the longest that fits."
        if left
        else "Use more of these GPUs, or larger ones.",
    )


def _ok(rule: str, message: str) -> Finding:
    return Finding(rule=rule, level=Level.OK, message=message)


def _mystery() -> CheckReport:
    return CheckReport(
        model=MYSTERY,
        verdict=Verdict.UNKNOWN,
        findings=(
            Finding(
                rule="architecture",
                level=Level.WARNING,
                message="MysteryForCausalLM is in no release of vLLM that is known here.",
                fix="Look into its model card for how it is run.",
            ),
        ),
        source="configuration",
        architectures=("MysteryForCausalLM",),
    )
