"""What decoders of the common shape differ in, from `config/memory/weights_vllm.toml`."""

from functools import cache
from typing import Any

import msgspec

from meshtui.compat.section import Section
from meshtui.settings.shipped import toml_data

TABLE = "memory/weights_vllm.toml"

Flag = bool | tuple[str, ...]


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """One class of decoders.

    A `Flag` is a fixed answer, or the values of the configuration that give it, the first that is
    there. `norms` is how many a layer has, `qk_norm` whether queries and keys have a norm of a
    head's size (`head`) or of all heads (`all`). `shared_expert` says that a layer with experts has
    one for all tokens. `positions` is 1 for a table of learned positions, and one more for every
    row that it has in addition. `tied` is the class's own answer where the
    configuration gives none.
    """

    qkv_bias: Flag = ("qkv_bias", "attention_bias")
    out_bias: Flag = ("attention_bias",)
    mlp_bias: Flag = ("mlp_bias",)
    expert_bias: bool = False
    shared_expert: bool = False
    router_bytes: int | None = None
    norms: int = 2
    norm_bias: bool = False
    qk_norm: str = ""
    gated: bool = True
    positions: int = 0
    rotary: bool = True
    rotary_bytes: int | None = None
    sinks: bool = False
    head_bias: bool = False
    tied: bool | None = None

    @staticmethod
    def flag(text: Section, asked: Flag) -> bool:
        """The answer for a configuration."""
        if isinstance(asked, bool):
            return asked
        return next((text.get_bool(name) for name in asked if text.has(name)), False)


@cache
def traits_of(architecture: str) -> Traits | None:
    """The traits of an architecture that is listed; None for others."""
    return _all().get(architecture)


@cache
def _all() -> dict[str, Traits]:
    entries: list[dict[str, Any]] = toml_data(TABLE)["decoder"]
    found = {}
    for entry in entries:
        traits = msgspec.convert(
            {key: value for key, value in entry.items() if key != "architectures"}, Traits
        )
        found.update(dict.fromkeys(entry["architectures"], traits))
    return found
