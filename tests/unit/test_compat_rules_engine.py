"""Rules about engines and GPUs: what a release has, and what a GPU can compute."""

import pytest

from meshtui.compat.rules.architecture import architecture, custom_code
from meshtui.compat.rules.gpu import gpu
from meshtui.compat.rules.length import max_tokens
from meshtui.compat.rules.parallel import tensor_parallel
from meshtui.compat.rules.quantization import quantization
from meshtui.compat.subject import Subject
from meshtui.compat.tables import versions_that_run, vllm_versions
from meshtui.domain.task import Task
from tests.support.memory_data import all_configurations
from tests.support.subjects import found, on, said, subject

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
MLLAMA = subject(
    config={
        "architectures": ["MllamaForConditionalGeneration"],
        "model_type": "mllama",
        "vision_config": {},
    }
)


def test_the_runtimes_version_decides() -> None:
    assert said(architecture, MLLAMA, on(vllm="0.9.0.1"))[0] == "ok"
    level, message, fix = said(architecture, MLLAMA, on(vllm="0.11.2"))
    assert level in ("blocker", "warning") and "up to version 0.10.2" in message
    assert "0.10.2" in fix
    newer = subject(like="openai/gpt-oss-20b")
    level, message, fix = said(architecture, newer, on(vllm="0.9.0.1"))
    assert level != "ok" and versions_that_run("GptOssForCausalLM")[0] in fix
    assert said(architecture, newer, on(vllm="0.32.0"))[0] == "ok"


def test_nearly_all_configurations_that_we_have_run_on_some_release() -> None:
    unknown = set()
    for model in all_configurations():
        names = subject(model, like=model).configuration.architectures
        if names and not versions_that_run(names[0]):
            unknown.add(names[0])
    # Names under which the authors published configurations, and which no registry has.
    assert unknown <= {"MiniMaxM3ForCausalLM", "Step3p7FlashForCausalLM"}


def test_every_minor_release_has_its_table() -> None:
    minors = {version.split(".")[1] for version in vllm_versions()}
    assert {"8", "9", *map(str, range(10, 34))} <= minors and "0.9.0.1" in vllm_versions()


def test_what_nobody_knows_is_no_reason_to_refuse() -> None:
    strange = subject(config={"architectures": ["NobodysForCausalLM"], "model_type": "nobody"})
    level, message, _ = said(architecture, strange)
    assert level == "warning" and "Neither vLLM" in message


def test_embedding_models_are_not_for_chat() -> None:
    bert = subject(config={"architectures": ["BertModel"], "model_type": "bert"})
    assert said(architecture, bert, on(task=Task.TEXT_GENERATION))[0] == "blocker"
    assert said(architecture, bert, on(task=Task.FEATURE_EXTRACTION))[0] == "ok"
    assert said(architecture, bert)[0] == "ok"


def test_code_of_the_model_is_a_warning_and_off_by_default() -> None:
    own = {"auto_map": {"AutoModelForCausalLM": "modeling.Funky"}, "model_type": "funky"}
    funky = subject(config={"architectures": ["FunkyForCausalLM"], **own})
    level, message, fix = said(custom_code, funky)
    assert level == "warning" and "your rights" in message and "trust_remote_code" in fix
    assert said(architecture, funky)[0] == "warning"
    assert "is on" in said(custom_code, funky, on(trust_remote_code=True))[1]
    native = subject(config={"architectures": ["LlamaForCausalLM"], **own})
    assert said(custom_code, native)[0] == "ok"
    assert not found(custom_code, subject(like=LLAMA))


def quantized(method: str, **more: object) -> Subject:
    section = {"quant_method": method, **more}
    return subject(config={"architectures": ["LlamaForCausalLM"], "quantization_config": section})


@pytest.mark.parametrize(
    ("model", "version", "gpu_name", "level", "message"),
    [
        (quantized("awq", bits=4), "0.32.0", "t4", "ok", "awq, 4 bits"),
        (quantized("awq"), "0.9.0.1", "v100-32", "blocker", "7.5"),
        (quantized("gptq", desc_act=True, group_size=128), "0.29.0", "a10", "ok", "gptq"),
        (quantized("gptq", desc_act=True, group_size=128), "0.32.0", "a10", "blocker", "desc_act"),
        (quantized("gptq", desc_act=False, group_size=128), "0.32.0", "a10", "ok", "gptq"),
        (quantized("bitsandbytes"), "0.27.1", "a10", "ok", "bitsandbytes"),
        (quantized("bitsandbytes"), "0.32.0", "a10", "blocker", "vllm-bnb-plugin"),
        (quantized("gguf"), "0.9.0.1", "a10", "ok", "gguf"),
        (quantized("gguf"), "0.32.0", "a10", "blocker", "vllm-gguf-plugin"),
        (quantized("mxfp4"), "0.32.0", "t4", "blocker", "8.0"),
        (quantized("mxfp4"), "0.32.0", "h100", "ok", "mxfp4"),
        (quantized("compressed-tensors"), "0.32.0", "a10", "ok", "compressed-tensors"),
        (quantized("invented"), "0.32.0", "a10", "blocker", "'invented'"),
        (subject(like="nvidia/DeepSeek-V3-0324-NVFP4"), "0.32.0", "b200", "ok", "modelopt_fp4"),
    ],
)
def test_quantization_by_release_and_gpu(
    model: Subject, version: str, gpu_name: str, level: str, message: str
) -> None:
    one = said(quantization, model, on(gpu_name, version))
    assert one[0] == level and message in one[1], one


def test_fp8_below_its_own_arithmetic_is_weight_only() -> None:
    fp8 = quantized("fp8")
    assert [f.level.value for f in found(quantization, fp8, on("a100-80"))] == ["ok", "warning"]
    assert [f.level.value for f in found(quantization, fp8, on("l4"))] == ["ok"]
    assert said(quantization, fp8, on("t4", "0.9.0.1"))[0] == "blocker"


def test_quantized_weights_want_no_other_mode() -> None:
    level, message, fix = said(quantization, quantized("awq"), on("a10", quantization="fp8"))
    assert level == "blocker" and "must be none" in message and "none" in fix
    assert said(quantization, quantized("awq"), on("a10", quantization="awq"))[0] == "ok"
    plain = subject(like=LLAMA)
    assert (
        "when the weights are loaded" in said(quantization, plain, on("l4", quantization="fp8"))[1]
    )
    assert not found(quantization, plain)


def test_gpus_by_their_capability() -> None:
    bf16 = subject(like=LLAMA)
    assert said(gpu, bf16, on("a10"))[0] == "ok"
    level, message, _ = said(gpu, bf16, on("t4"))
    assert level == "warning" and "float16" in message
    level, message, fix = said(gpu, bf16, on("v100-32"))
    assert level == "blocker" and "7.5" in message and "0.20" in fix
    assert said(gpu, bf16, on("v100-32", "0.9.0.1"))[0] == "warning"
    assert not found(gpu, bf16) and not found(gpu, bf16, on("t4", on_cpu=True))


@pytest.mark.parametrize(
    ("driver", "runtime", "levels"),
    [
        ("12.8", "12.8", ["ok"]),
        ("13.0", "12.8", ["ok"]),
        ("12.4", "12.8", ["warning", "ok"]),
        ("11.8", "12.8", ["blocker", "ok"]),
        ("12.9", "13.0", ["blocker", "ok"]),
        (None, "12.8", ["ok"]),
        ("12.4", None, ["ok"]),
    ],
)
def test_the_driver_must_take_the_runtimes_cuda(
    driver: str | None, runtime: str | None, levels: list[str]
) -> None:
    setting = on("a10", driver_cuda=driver, runtime_cuda=runtime)
    assert [f.level.value for f in found(gpu, subject(like=LLAMA), setting)] == levels


@pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "level"),
    [
        (32, 8, 1, None),
        (32, 8, 2, "ok"),
        (32, 8, 8, "ok"),
        (32, 8, 16, "warning"),
        (32, 8, 3, "blocker"),
        (71, 1, 2, "blocker"),
        (40, 10, 4, "blocker"),
        (32, 2, 4, "warning"),
    ],
)
def test_heads_divide(heads: int, kv_heads: int, size: int, level: str | None) -> None:
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama",
              "num_attention_heads": heads, "num_key_value_heads": kv_heads}  # fmt: skip
    findings = found(tensor_parallel, subject(config=config), on(tensor_parallel_size=size))
    assert [f.level.value for f in findings] == ([level] if level else [])


def test_more_gpus_than_there_are_and_blocks_that_do_not_split() -> None:
    few = on("a10", tensor_parallel_size=4, gpus_seen=2)
    assert "2 seen" in found(tensor_parallel, subject(like=LLAMA), few)[0].message
    config = {
        "architectures": ["LlamaForCausalLM"],
        "num_attention_heads": 32,
        "intermediate_size": 1408,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    }
    findings = found(tensor_parallel, subject(config=config), on(tensor_parallel_size=4))
    assert any("128 × 128" in f.message and f.level.value == "blocker" for f in findings)


def test_images_run_on_one_gpu_and_unquantized() -> None:
    flux = subject(texts={"model_index.json": b"{}"}, files=("model_index.json",))
    assert said(tensor_parallel, flux, on(tensor_parallel_size=2))[0] == "blocker"
    assert said(quantization, flux, on(quantization="fp8"))[0] == "blocker"
    assert not found(tensor_parallel, flux) and not found(max_tokens, flux)


@pytest.mark.parametrize(
    ("model", "own"),
    [
        (LLAMA, 131072),
        ("google/gemma-3-27b-it", 131072),
        ("mistralai/Mistral-7B-Instruct-v0.3", 32768),
        ("deepseek-ai/DeepSeek-V3", 163840),
        ("openai/gpt-oss-20b", 131072),
        ("microsoft/phi-4", 16384),
    ],
)
def test_the_models_own_limit_understands_rope_scaling(model: str, own: int) -> None:
    level, message, _ = said(max_tokens, subject(like=model))
    assert level == "ok" and f"{own:,}" in message
    assert said(max_tokens, subject(like=model), on(max_tokens=own))[0] == "ok"
    level, _, fix = said(max_tokens, subject(like=model), on(max_tokens=own + 1))
    assert level == "blocker" and f"{own:,}" in fix


def test_a_quantization_that_nobody_signed_is_none_for_vllm() -> None:
    unsigned = subject(like="nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4")
    level, message, fix = said(quantization, unsigned)
    assert level == "warning" and "NVFP4" in message and "unquantized" in message and fix
    assert said(quantization, subject(like="nvidia/DeepSeek-V3-0324-NVFP4"))[0] == "ok"


def test_linear_scaling_lengthens() -> None:
    config = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096,
              "rope_scaling": {"type": "linear", "factor": 4.0}}  # fmt: skip
    assert "16,384" in said(max_tokens, subject(config=config))[1]
