"""Which rules build an architecture."""

from collections.abc import Callable
from functools import cache

import msgspec

from meshtui.domain.text import one_line
from meshtui.memory.kv_tables import model_types
from meshtui.memory.weights_context import WeightsContext
from meshtui.memory.weights_decoder import decoder
from meshtui.memory.weights_deepseek_v4 import deepseek_v4
from meshtui.memory.weights_encoder_decoder import whisper
from meshtui.memory.weights_encoders import clip, encoder
from meshtui.memory.weights_gemma3n import gemma3n
from meshtui.memory.weights_gemma4 import gemma4
from meshtui.memory.weights_modules import Blueprint
from meshtui.memory.weights_recurrent import gated_delta, jamba, nemotron_h
from meshtui.memory.weights_states import granite_hybrid, lfm2, mamba, mamba2, zamba2
from meshtui.memory.weights_traits import TABLE, Traits, traits_of
from meshtui.settings.shipped import toml_data

_Rule = Callable[[WeightsContext, Traits], Blueprint]
_RULES: dict[str, _Rule] = {
    "gated_delta": gated_delta,
    "jamba": jamba,
    "gemma4": gemma4,
    "gemma3n": gemma3n,
    "mamba": mamba,
    "mamba2": mamba2,
    "zamba2": zamba2,
    "lfm2": lfm2,
    "granite_hybrid": granite_hybrid,
    "whisper": lambda context, traits: whisper(context),
    "deepseek_v4": deepseek_v4,
    "nemotron_h": nemotron_h,
    "encoder": lambda context, traits: encoder(context, classifies=False),
    "classifier": lambda context, traits: encoder(context, classifies=True),
    "clip": lambda context, traits: clip(context),
}


def blueprint_of(context: WeightsContext) -> Blueprint:
    """The modules of a model on one rank. Raises `InvalidInput` where sizes are missing."""
    for architecture in context.configuration.architectures:
        traits = traits_of(architecture)
        rule = _rules().get(architecture)
        if rule is not None:
            return _RULES[rule](context, traits or Traits())
        if traits is not None:
            return decoder(context, traits)
    if context.text.model_type in model_types("encoders"):
        return encoder(context, classifies=False)
    found = decoder(context, Traits())
    names = ", ".join(context.configuration.architectures[:3])
    note = f"How {one_line(names, 100) or 'the model'} is built is not known: as most decoders."
    return msgspec.structs.replace(found, notes=[*found.notes, note])


@cache
def _rules() -> dict[str, str]:
    return {
        architecture: rule
        for rule, architectures in toml_data(TABLE)["rules"].items()
        for architecture in architectures
    }
