"""What a model's small JSON files say of it: the one reader for the checker and the estimator.

Nothing here trusts the files. What has the wrong type counts as absent; `InvalidInput` is raised
only where nothing can be said at all.
"""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from meshtui.compat.quantization import Quantization, read_quantization
from meshtui.compat.section import ClassDefaults, Section
from meshtui.domain.errors import InvalidInput
from meshtui.domain.text import one_line
from meshtui.settings.shipped import json_data

# Quantization maps with one entry an expert reach some megabytes.
MOST_BYTES = 32 * 1024 * 1024

_DTYPES = {
    "float32": "float32",
    "float": "float32",
    "float16": "float16",
    "half": "float16",
    "bfloat16": "bfloat16",
    "float64": "float32",
}
# Where the language model may be nested, if the class is not known: the names that transformers'
# `get_text_config` looks for, and those of models that bring their own code.
_TEXT_SECTIONS = (
    "text_config",
    "llm_config",
    "language_config",
    "thinker_config",
    "decoder",
    "generator",
    "text_encoder",
)
# What sentence-transformers keeps beside the configuration, by the kind of encoder
# (vllm/transformers_utils/config.py, `get_sentence_transformer_tokenizer_config`).
SENTENCES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_TABLES = ("model_defaults/vllm-0.32.json", "model_defaults/transformers-5.19.json")


class Configuration:
    """A model's configuration with the defaults of its class.

    `top` is `config.json` itself and `text` the part that describes the language model (the same,
    for models of text only). `pipeline` is the content of `model_index.json` and `mistral` that of
    `params.json`, where the repository has such a file; `generation`, `tokenizer` and `sentence`
    (the first of `SENTENCES`) likewise.
    """

    def __init__(self, files: Mapping[str, Mapping[str, Any]]) -> None:
        self.pipeline = files.get("model_index.json", {})
        self.mistral = files.get("params.json", {})
        self.generation = files.get("generation_config.json", {})
        self.tokenizer = files.get("tokenizer_config.json", {})
        self.sentence = next((files[name] for name in SENTENCES if files.get(name)), {})
        raw = files.get("config.json", {})
        self.has_config = bool(raw)
        self.top = _section(raw, _model_type(raw) or "")
        self.text = _text_section(self.top)
        self.quantization = self._read_quantization(raw, files.get("hf_quant_config.json", {}))

    @property
    def model_type(self) -> str:
        """`model_type` of the whole; empty where it is not named."""
        return self.top.model_type

    @property
    def architectures(self) -> tuple[str, ...]:
        return self.top.strings("architectures")

    @property
    def known_class(self) -> bool:
        """Whether the defaults of the configuration's class are known."""
        return self.top.defaults.known

    @property
    def dtype(self) -> str | None:
        """`bfloat16`, `float16` or `float32` as the files say, None where they do not."""
        for section in (self.top, self.text, self.section("vision_config")):
            for key in ("dtype", "torch_dtype"):
                value = section.raw.get(key) if section is not None else None
                if isinstance(value, str) and value.removeprefix("torch.") in _DTYPES:
                    return _DTYPES[value.removeprefix("torch.")]
        return None

    @property
    def custom_code(self) -> bool:
        """Whether the repository brings code of its own that must be run to load the model."""
        return bool(self.top.mapping("auto_map"))

    def section(self, name: str) -> Section | None:
        """A nested configuration, such as `vision_config`, with the defaults of its class; None
        where the model has none."""
        return _nested(self.top, name)

    def _read_quantization(
        self, raw: Mapping[str, Any], beside: Mapping[str, Any]
    ) -> Quantization | None:
        """As vLLM looks for it: the top, then the older name, then the nested text part; the side
        file only if there is no `quantization_config`."""
        sections = [raw.get("quantization_config")]
        if not sections[0] and beside:
            sections.append(beside)
        sections += [raw.get("compression_config"), self.text.raw.get("quantization_config")]
        return next((q for s in sections if (q := read_quantization(s)) is not None), None)


def read_configuration(files: Mapping[str, bytes]) -> Configuration:
    """Reads a model's JSON files, by name (`config.json`, `generation_config.json`,
    `tokenizer_config.json`, `hf_quant_config.json`, `model_index.json`, `params.json`, those of
    `SENTENCES`; others are ignored).

    Raises `InvalidInput` where a file is too large, is not JSON or not an object.
    """
    known = ("config.json", "generation_config.json", "tokenizer_config.json",
             "hf_quant_config.json", "model_index.json", "params.json", *SENTENCES)  # fmt: skip
    return Configuration({name: parse_object(name, files[name]) for name in known if name in files})


def parse_object(name: str, content: bytes) -> Mapping[str, Any]:
    """The object in a JSON file. Raises as `read_configuration`."""
    if len(content) > MOST_BYTES:
        raise InvalidInput(
            f"{name} is larger than {MOST_BYTES >> 20} MiB, which no configuration is.",
            hint="Check that the file is what its name says.",
        )
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = "too deeply nested" if isinstance(error, RecursionError) else str(error)
        raise InvalidInput(
            f"{name} is not valid JSON: {one_line(reason)}.",
            hint="The download may be incomplete: fetch the file again.",
        ) from error
    if not isinstance(data, dict):
        raise InvalidInput(f"{name} holds no JSON object.", hint="Fetch the file again.")
    return data


@cache
def class_defaults(model_type: str) -> ClassDefaults:
    """The defaults of the class for a `model_type`: those of vLLM's own classes come first."""
    for table in _TABLES:
        entry = json_data(table)["model_types"].get(model_type)
        if entry is not None:
            return ClassDefaults(entry)
    return ClassDefaults({})


def _known_type(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= 100 else None


def _model_type(raw: Mapping[str, Any]) -> str | None:
    return _known_type(raw.get("model_type"))


def _section(raw: Mapping[str, Any], model_type: str) -> Section:
    return Section(raw, class_defaults(model_type), model_type)


def _nested(parent: Section, name: str) -> Section | None:
    written = parent.raw.get(name)
    usual = parent.defaults.sections.get(name, "")
    if isinstance(written, Mapping):
        return _section(written, _model_type(written) or usual)
    if name in parent.defaults.sections and written is None:
        # Left out altogether: the class makes one, with values that may be its own.
        return _section(parent.defaults.section_fields.get(name, {}), usual)
    return None


def _text_section(top: Section) -> Section:
    if top.defaults.text:
        section: Section | None = top
        for name in top.defaults.text.split("."):
            section = _nested(section, name) if section is not None else None
        if section is not None:
            return section
    for name in _TEXT_SECTIONS:
        section = _nested(top, name)
        if section is not None and section.raw:
            inner = _nested(section, "text_config")
            return inner if inner is not None and inner.raw else section
    return top
