"""Splits the bytes of a `text/event-stream` into the data of its events.

The format is that of the HTML standard (server-sent events): lines end with LF, CRLF or CR, an
empty line ends an event, `data` lines of one event are joined by LF, lines that begin with a colon
are comments. Names and ids of events are of no use to us and are skipped.
"""

# An answer's chunk is well under a kilobyte; an engine that sends this much without an empty line
# does not speak the format.
_MAX_EVENT_BYTES = 32 * 1024 * 1024


class EventTooLong(ValueError):
    """The stream has no end of an event within reason."""


class EventSplitter:
    """Feed bytes as they arrive; complete events come out, whatever the borders of the pieces."""

    def __init__(self) -> None:
        self._held = b""
        self._started = False

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that are now complete; raises `EventTooLong`."""
        data = self._held + data
        if not self._started and data:
            if len(data) < 3 and b"\xef\xbb\xbf".startswith(data):
                self._held = data
                return []
            data = data.removeprefix(b"\xef\xbb\xbf")
            self._started = True
        carriage = b""
        if b"\r" in data:
            if data.endswith(b"\r"):  # Perhaps half of a CRLF.
                data, carriage = data[:-1], b"\r"
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *blocks, rest = data.split(b"\n\n")
        self._held = rest + carriage
        if len(self._held) > _MAX_EVENT_BYTES:
            raise EventTooLong("an event of the stream does not end")
        return [payload for block in blocks if (payload := _payload(block)) is not None]

    def rest(self) -> bytes:
        """The data of an event that the stream's end cut off, or nothing."""
        block = self._held.replace(b"\r", b"\n")
        self._held = b""
        return _payload(block) or b""


def _payload(block: bytes) -> bytes | None:
    """The data of one event; None where it has none (comments, keep-alives)."""
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    found = [
        line[6:] if line.startswith(b"data: ") else line[5:]
        for line in block.split(b"\n")
        if line.startswith(b"data:") or line == b"data"
    ]
    return b"\n".join(found) if found else None
