"""What can be asked of models that read text and answer with numbers."""

from abc import ABC, abstractmethod
from typing import TypeVar

from meshtui.client.channel import Channel
from meshtui.client.safe import decode
from meshtui.domain.pooling import (
    Classes,
    ClassifyRequest,
    Embeddings,
    EmbedRequest,
    Ranking,
    RerankRequest,
)

T = TypeVar("T")


class PoolingQuestions(ABC):
    """The part of `ControllerClient` for embedders, rerankers and classifiers.

    Each starts the model's server where needed and takes as long as that and the work do;
    cancelling it cancels in the engine. Raises `NotFound` and `Conflict` where the model is not
    enabled, or on several connections; `InvalidInput` where its task does not fit or a text is too
    long; `StartFailed` and `EngineError`.
    """

    @abstractmethod
    async def _open(self) -> Channel: ...

    async def embed(self, request: EmbedRequest) -> Embeddings:
        return await self._answer(Embeddings, "/embed", request)

    async def rerank(self, request: RerankRequest) -> Ranking:
        return await self._answer(Ranking, "/rerank", request)

    async def classify(self, request: ClassifyRequest) -> Classes:
        return await self._answer(Classes, "/classify", request)

    async def _answer(self, kind: type[T], path: str, request: object) -> T:
        channel = await self._open()
        async with channel.stream("POST", path, body=request) as response:
            found: T = decode(await response.read(), kind)
            return found
