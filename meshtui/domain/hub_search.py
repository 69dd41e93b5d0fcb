"""Models as a search of the Hub lists them."""

import msgspec


class FoundModel(msgspec.Struct, frozen=True, kw_only=True):
    """What the Hub says of a model in a list; None where it does not say.

    `task` is the Hub's pipeline tag, which may be one that meshtui does not serve. `weights_bytes`
    is the size of its safetensors at the default branch; `last_modified` is ISO 8601.
    """

    model: str
    task: str | None = None
    library: str | None = None
    licence: str | None = None
    gated: bool = False
    private: bool = False
    downloads: int | None = None
    likes: int | None = None
    parameters: int | None = None
    weights_bytes: int | None = None
    last_modified: str | None = None
