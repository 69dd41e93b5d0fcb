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


# Those whose models answer prompts.
CHAT = (Task.TEXT_GENERATION, Task.IMAGE_TEXT_TO_TEXT)
# Those whose models read text and answer with numbers.
POOLING = (Task.FEATURE_EXTRACTION, Task.TEXT_RANKING, Task.TEXT_CLASSIFICATION)


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
