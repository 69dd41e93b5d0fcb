"""Pictures on their way, as an answer of the pane."""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from meshtui.domain.generation import ChatMessage, ChatRequest
from meshtui.domain.images import (
    ImageEvent,
    ImageMade,
    ImagePreview,
    ImageRequest,
    ImagesEnded,
    ImageStep,
    ImageWaiting,
)
from meshtui.domain.server import Phase

from .. import words
from . import picture_fields
from .answer import Answer, Standing
from .parameters import FieldSpec

if TYPE_CHECKING:
    from meshtui.client import ControllerClient

# Of each picture, unfinished: enough to see what it becomes.
PREVIEWS = 4


class PictureAnswer(Answer):
    """What was asked for, the steps done, and the pictures so far."""

    def __init__(self, asked: ImageRequest, label: str) -> None:
        request = ChatRequest(
            model=asked.model,
            connection=asked.connection,
            messages=(ChatMessage("user", asked.prompt),),
        )
        super().__init__(request, label)
        self.asked = asked
        self._step: ImageStep | None = None
        self._preview: bytes | None = None

    def stream(self, client: "ControllerClient") -> AsyncGenerator[ImageEvent, None]:
        return client.images(self.asked)

    def again(self) -> "PictureAnswer":
        return PictureAnswer(self.asked, self.label)

    @property
    def shows_pictures(self) -> bool:
        return True

    @property
    def fields(self) -> tuple[FieldSpec, ...]:
        return picture_fields.FIELDS

    def field_values(self) -> dict[str, str]:
        return picture_fields.write(self.asked)

    @property
    def shown(self) -> tuple[bytes, ...]:
        unfinished = (self._preview,) if self._preview and not self.standing.is_over else ()
        return (*(made.data for made in self.pictures), *unfinished)

    def take(self, event: object) -> bool:
        match event:
            case ImageWaiting(server):
                self.server, self.server_id = server, server.id
                if server.phase is Phase.READY:
                    self._begin()
            case ImageStep():
                first = self._step is None
                self._step = event
                if first:
                    self._arrived()
                return first
            case ImagePreview(_, data):
                self._preview = data
            case ImageMade():
                self.pictures.append(event)
                self._preview = None
            case ImagesEnded(error):
                self.explanation = error
                self.standing = Standing.FAILED if error else Standing.DONE
                self._end()
        return True

    def figures(self) -> list[str]:
        found: list[str] = []
        step = self._step
        if step is not None and not self.standing.is_over:
            left_s = step.elapsed_s / step.done * (step.total - step.done) if step.done else None
            found.append(f"step {step.done} of {step.total}")
            if left_s is not None:
                found.append(f"{words.clock(left_s)} left")
        elif step is not None:
            took = f"{words.short_time(step.elapsed_s)}" if step.elapsed_s else ""
            found += [words.plural(step.done, "step"), *([took] if took else [])]
        if self.pictures:
            seeds = ", ".join(str(made.seed) for made in self.pictures)
            found.append(f"seed {seeds}")
        return found
