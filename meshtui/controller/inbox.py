"""Between the task that reads an engine and the one that writes to a client."""

import asyncio

from meshtui.domain.generation import RunEvent, RunText, RunWaiting


class Inbox:
    """Events of one run that were not sent yet. Text that came meanwhile is one event: the
    reader takes all chunks of a network read before the writer has its turn, so that one read is
    one event, and a slow client gets fewer and larger ones."""

    def __init__(self) -> None:
        self._events: list[RunEvent | list[str]] = []
        self._news = asyncio.Event()

    def put(self, event: RunEvent) -> None:
        if isinstance(event, RunText):
            if self._events and isinstance(self._events[-1], list):
                self._events[-1].append(event.text)
            else:
                self._events.append([event.text])
        elif (
            isinstance(event, RunWaiting)
            and self._events
            and isinstance(self._events[-1], RunWaiting)
        ):
            self._events[-1] = event
        else:
            self._events.append(event)
        self._news.set()

    async def take(self) -> list[RunEvent]:
        """Everything that came, at least one event."""
        await self._news.wait()
        self._news.clear()
        events, self._events = self._events, []
        return [RunText("".join(e)) if isinstance(e, list) else e for e in events]
