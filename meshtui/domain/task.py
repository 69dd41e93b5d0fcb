"""Tasks and engines, in the words that the field uses."""

from enum import StrEnum


class Task(StrEnum):
    """What a model is for: the Hub's pipeline tags."""

    TEXT_GENERATION = "text-generation"
    IMAGE_TEXT_TO_TEXT = "image-text-to-text"
    FEATURE_EXTRACTION = "feature-extraction"
    TEXT_RANKING = "text-ranking"
    TEXT_CLASSIFICATION = "text-classification"
    TEXT_TO_IMAGE = "text-to-image"

    @classmethod
    def _missing_(cls, value: object) -> "Task | None":
        """The Hub's other tag of models that embed."""
        return cls.FEATURE_EXTRACTION if value == "sentence-similarity" else None


# Those whose models answer prompts.
CHAT = (Task.TEXT_GENERATION, Task.IMAGE_TEXT_TO_TEXT)
# Those whose models read text and answer with numbers.
POOLING = (Task.FEATURE_EXTRACTION, Task.TEXT_RANKING, Task.TEXT_CLASSIFICATION)


class Ability(StrEnum):
    """What can be asked of a model. A task gives one or more."""

    CHAT = "chat"
    EMBED = "embed"
    RERANK = "rerank"
    CLASSIFY = "classify"
    IMAGE = "make pictures"

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Those whose models can do it. Embedders rank by how near the vectors are."""
        return {
            Ability.CHAT: CHAT,
            Ability.EMBED: (Task.FEATURE_EXTRACTION,),
            Ability.RERANK: (Task.TEXT_RANKING, Task.FEATURE_EXTRACTION),
            Ability.CLASSIFY: (Task.TEXT_CLASSIFICATION,),
            Ability.IMAGE: (Task.TEXT_TO_IMAGE,),
        }[self]


class Engine(StrEnum):
    """What serves a model."""

    VLLM = "VLLM"
    TRANSFORMERS = "TRANSFORMERS"
    DIFFUSERS = "DIFFUSERS"

    @property
    def label(self) -> str:
        return {"VLLM": "vLLM", "TRANSFORMERS": "transformers", "DIFFUSERS": "diffusers"}[self]


class EngineChoice(StrEnum):
    """The setting `engine.completion`."""

    AUTO = "AUTO"
    VLLM = "VLLM"
    TRANSFORMERS = "TRANSFORMERS"
