"""The model that is judged: what its repository or folder holds, as far as it was read."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec

from meshtui.compat.configuration import SENTENCES, Configuration, parse_object
from meshtui.domain.errors import InvalidInput
from meshtui.domain.task import Task
from meshtui.domain.text import one_line
from meshtui.hub.safetensors_header import SafetensorsHeader

CARD = "README.md"
# The small files that rules look into; a reader fetches those that are there.
TEXTS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "hf_quant_config.json",
    "params.json",
    "model_index.json",
    "modules.json",
    "adapter_config.json",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    *SENTENCES,
    CARD,
)
# Tags of the Hub and what they are called here.
_TASKS = {
    "text-generation": Task.TEXT_GENERATION,
    "text2text-generation": Task.TEXT_GENERATION,
    "image-text-to-text": Task.IMAGE_TEXT_TO_TEXT,
    "any-to-any": Task.IMAGE_TEXT_TO_TEXT,
    "video-text-to-text": Task.IMAGE_TEXT_TO_TEXT,
    "audio-text-to-text": Task.IMAGE_TEXT_TO_TEXT,
    "feature-extraction": Task.FEATURE_EXTRACTION,
    "sentence-similarity": Task.FEATURE_EXTRACTION,
    "text-ranking": Task.TEXT_RANKING,
    "text-classification": Task.TEXT_CLASSIFICATION,
    "text-to-image": Task.TEXT_TO_IMAGE,
}


class SubjectFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the model."""

    path: str
    size_bytes: int


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What the Hub said when it was asked: `refusal` is its reason, with what helps. `stale` is
    why it could not be asked again, so that what it said before stands in."""

    gated: bool = False
    private: bool = False
    refusal: str | None = None
    fix: str = ""
    stale: str | None = None


class Subject(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A model as far as it is known.

    `files` is None where only texts were given. `texts` holds the content of small files by name
    (see `TEXTS`); `unreadable` why others could not be had. `headers` are those of safetensors
    files by path; `wrong_headers` says which files have one that cannot be true, and why.
    `relation` is the model card's `base_model_relation`.
    """

    name: str
    source: str
    texts: Mapping[str, bytes]
    files: tuple[SubjectFile, ...] | None = None
    unreadable: Mapping[str, str] = {}
    headers: Mapping[str, SafetensorsHeader] = {}
    wrong_headers: Mapping[str, str] = {}
    commit: str | None = None
    pipeline: str | None = None
    library: str | None = None
    licence: str | None = None
    tags: tuple[str, ...] = ()
    relation: str | None = None
    access: Access = Access()

    @cached_property
    def configuration(self) -> Configuration:
        """What the files say; of those beside config.json, such as can be read. Raises
        `InvalidInput` where config.json (or what stands in for it) cannot be."""
        for name in ("config.json", "model_index.json", "params.json"):
            if name in self.broken:
                raise InvalidInput(self.broken[name])
            if name in self.unreadable:
                raise InvalidInput(f"{name} cannot be used: {one_line(self.unreadable[name])}.")
        return Configuration(
            {name: self.json(name) for name in self.texts if name.endswith(".json")}
        )

    @cached_property
    def broken_configuration(self) -> str | None:
        """Why the configuration cannot be read; None where it can."""
        try:
            _ = self.configuration
        except InvalidInput as error:
            return error.message
        return None

    @cached_property
    def broken(self) -> Mapping[str, str]:
        """Small files that hold no JSON object although their names say so, and why."""
        return self._objects[1]

    def json(self, name: str) -> Mapping[str, Any]:
        """The object in a small file; empty where there is none or it is none."""
        return self._objects[0].get(name, {})

    @cached_property
    def _objects(self) -> tuple[Mapping[str, Mapping[str, Any]], Mapping[str, str]]:
        found, broken = {}, {}
        for name, content in self.texts.items():
            if name.endswith(".json") and name != "modules.json":
                try:
                    found[name] = parse_object(name, content)
                except InvalidInput as error:
                    broken[name] = error.message
        return found, broken

    def has(self, name: str) -> bool:
        """Whether the model has a file of that name, as far as is known."""
        return name in self.texts or name in self._paths

    @cached_property
    def _paths(self) -> frozenset[str]:
        return frozenset(file.path for file in self.files or ())

    def paths(self, *suffixes: str) -> list[str]:
        """Files that end so, wherever they are."""
        return [file.path for file in self.files or () if file.path.lower().endswith(suffixes)]

    @cached_property
    def is_pipeline(self) -> bool:
        """Whether it is a pipeline of diffusers."""
        return self.has("model_index.json")

    @cached_property
    def template(self) -> str | None:
        """The chat template, where vLLM would find one: the processor's, the tokenizer's (as
        text, or the one named `default` of a list), then a file of its own."""
        for name in ("processor_config.json", "tokenizer_config.json"):
            if text := _template(self.json(name).get("chat_template")):
                return text
        if content := self.texts.get("chat_template.jinja"):
            return content.decode("utf-8", "replace")
        return _template(self.json("chat_template.json").get("chat_template"))

    @cached_property
    def task(self) -> Task | None:
        """What the model is for, by what it is made of before what its card says."""
        if self.is_pipeline:
            return Task.TEXT_TO_IMAGE
        said = _TASKS.get(self.pipeline or "")
        if said is None:
            said = next((task for tag, task in _TASKS.items() if tag in self.tags), None)
        if said is not Task.TEXT_RANKING and self.has("modules.json"):
            return Task.FEATURE_EXTRACTION
        return said or self._task_of_architecture()

    def _task_of_architecture(self) -> Task | None:
        if self.broken_configuration:
            return None
        configuration = self.configuration
        for name in configuration.architectures:
            if name.endswith("ForSequenceClassification"):
                labels = configuration.top.mapping("id2label") or {"0": ""}
                is_ranking = len(labels) == 1 or configuration.top.get_int("num_labels") == 1
                return Task.TEXT_RANKING if is_ranking else Task.TEXT_CLASSIFICATION
            if name.endswith("ForConditionalGeneration") and (
                configuration.section("vision_config") is not None
            ):
                return Task.IMAGE_TEXT_TO_TEXT
            if name.endswith(("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")):
                return Task.TEXT_GENERATION
            if name.endswith(("Model", "ForMaskedLM")):
                return Task.FEATURE_EXTRACTION
        return None

    @property
    def shown_name(self) -> str:
        return one_line(self.name, 120)


def _template(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    if isinstance(value, list):
        named = {
            item.get("name"): item.get("template")
            for item in value
            if isinstance(item, dict) and isinstance(item.get("template"), str)
        }
        text = named.get("default") or next(iter(named.values()), None)
        return text if isinstance(text, str) else None
    return None
