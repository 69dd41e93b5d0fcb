"""What can be asked of the controller about presets."""

from abc import ABC, abstractmethod

from meshtui.client.channel import Channel
from meshtui.domain.preset import Preset


class PresetQuestions(ABC):
    """The part of `ControllerClient` that is about presets."""

    @abstractmethod
    async def _open(self) -> Channel: ...

    async def presets(self) -> list[Preset]:
        """All of them: the shipped ones in the order to show them, then the user's by name. A
        user's preset stands for the shipped one of its name."""
        return await (await self._open()).call(list[Preset], "GET", "/presets")
