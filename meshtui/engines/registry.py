"""The engines that there are. A new one is one module and one line here."""

from meshtui.domain.errors import InvalidInput
from meshtui.domain.task import Engine
from meshtui.engines.base import EngineAdapter
from meshtui.engines.transformers_serve import TransformersAdapter
from meshtui.engines.vllm import VllmAdapter

_ADAPTERS: dict[Engine, EngineAdapter] = {
    Engine.VLLM: VllmAdapter(),
    Engine.TRANSFORMERS: TransformersAdapter(),
}


def adapter(engine: Engine) -> EngineAdapter:
    """The adapter of an engine; raises `InvalidInput` for one that this version cannot run."""
    found = _ADAPTERS.get(engine)
    if found is None:
        raise InvalidInput(
            f"The engine {engine.label} is not available in this version of meshtui.",
            hint="Choose a text-generation model.",
        )
    return found
