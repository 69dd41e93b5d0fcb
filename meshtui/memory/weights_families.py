"""Which rules build an architecture."""

from meshtui.memory.weights_context import WeightsContext
from meshtui.memory.weights_decoder import decoder
from meshtui.memory.weights_modules import Blueprint
from meshtui.memory.weights_traits import Traits, traits_of


def blueprint_of(context: WeightsContext) -> Blueprint:
    """The modules of a model on one rank. Raises `InvalidInput` where sizes are missing."""
    for architecture in context.configuration.architectures:
        traits = traits_of(architecture)
        if traits is not None:
            return decoder(context, traits)
    return decoder(context, Traits())
