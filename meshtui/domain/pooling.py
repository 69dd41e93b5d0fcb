"""What is asked of models that read text and answer with numbers, and what they answer."""

import msgspec


class EmbedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to make vectors of. `connection` is needed where several enable the model.
    `dimensions` asks for shorter vectors, of models that were made for it. `truncate`: what does
    not fit into the context is cut off, and not refused."""

    model: str
    texts: tuple[str, ...]
    connection: str | None = None
    dimensions: int | None = None
    truncate: bool = False


class RerankRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to order by how well they answer the query. The rest is as in `EmbedRequest`."""

    model: str
    query: str
    texts: tuple[str, ...]
    connection: str | None = None
    truncate: bool = False


class ClassifyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to put into the model's classes. The rest is as in `EmbedRequest`."""

    model: str
    texts: tuple[str, ...]
    connection: str | None = None
    truncate: bool = False


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """One vector a text, in their order. `prompt_tokens` is what the engine counted."""

    model: str
    vectors: tuple[tuple[float, ...], ...]
    prompt_tokens: int = 0


class Ranked(msgspec.Struct, frozen=True):
    """The place of a text among those that were sent, and its score: the higher the better, in
    the model's own measure."""

    index: int
    score: float


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """All texts, the best first."""

    model: str
    results: tuple[Ranked, ...]
    prompt_tokens: int = 0


class Classified(msgspec.Struct, frozen=True):
    """The likeliest class of a text, and the share of each class, in the model's order. Where the
    model names no classes, a label is the number of its class."""

    label: str
    scores: dict[str, float]


class Classes(msgspec.Struct, frozen=True, kw_only=True):
    """One answer a text, in their order."""

    model: str
    results: tuple[Classified, ...]
    prompt_tokens: int = 0
