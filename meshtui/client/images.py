"""What can be asked of models that make pictures."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator

from meshtui.client.channel import Channel, lines
from meshtui.client.safe import clean_struct
from meshtui.domain.codec import from_json
from meshtui.domain.errors import Unavailable
from meshtui.domain.images import ImageEvent, ImageRequest, ImagesEnded, ImageWaiting

_LOST = "The controller went away while the pictures were being made."


class ImageQuestions(ABC):
    """The part of `ControllerClient` for pictures."""

    @abstractmethod
    async def _open(self) -> Channel: ...

    async def images(self, request: ImageRequest) -> AsyncGenerator[ImageEvent, None]:
        """Makes pictures, starting the server where needed; the last event is `ImagesEnded`.
        Close the iterator (`aclose`) to cancel: the engine stops. Raises `NotFound` and `Conflict`
        where the model is not enabled, or on several connections, and `InvalidInput` where it
        makes no pictures."""
        channel = await self._open()
        ended = False
        async with channel.stream("POST", "/images", body=request, away=_LOST) as response:
            async for line in lines(response):
                if not line:
                    continue
                event: ImageEvent = from_json(line, ImageEvent)  # type: ignore[arg-type]
                if isinstance(event, ImageWaiting | ImagesEnded):
                    event = clean_struct(event)
                ended = isinstance(event, ImagesEnded)
                yield event
        if not ended:
            raise Unavailable(_LOST, hint="Running servers live on: ask again.")
