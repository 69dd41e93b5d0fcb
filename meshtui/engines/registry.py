"""The engines that there are. A new one is one module and one line here."""

from meshtui.domain.task import Engine
from meshtui.engines.base import EngineAdapter
from meshtui.engines.diffusers_serve import DiffusersAdapter
from meshtui.engines.transformers_serve import TransformersAdapter
from meshtui.engines.vllm import VllmAdapter

_ADAPTERS: dict[Engine, EngineAdapter] = {
    Engine.VLLM: VllmAdapter(),
    Engine.TRANSFORMERS: TransformersAdapter(),
    Engine.DIFFUSERS: DiffusersAdapter(),
}


def adapter(engine: Engine) -> EngineAdapter:
    """The adapter of an engine."""
    return _ADAPTERS[engine]
