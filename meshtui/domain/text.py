"""The one sanitiser: text from outside passes here before it may reach a terminal.

Model output, model cards, logs, file names and errors of other programs can hold escape
sequences that set the clipboard or the title, or bidirectional overrides that make text read
differently from what it is. Toolkits hand them on to the terminal, so they are taken out where
the text enters.
"""

import re
import unicodedata

# C0 controls but newline and tab, DEL, C1 controls; the bidirectional embeddings, overrides and
# isolates of Unicode's UAX #9; line and paragraph separators; lone surrogates; noncharacters
# that terminals may choke on are harmless and stay.
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c\u2028\u2029"
    "\ud800-\udfff]"
)
# Whole escape sequences go as one, so that no half of one is left over as text: CSI, OSC/DCS/
# APC/PM/SOS up to their terminator, and two-character escapes; also their C1 spellings.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
)
# The same, not ended yet: what follows may be in the next piece of a stream. A final `\r` may be
# half of `\r\n`.
_OPEN_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*\Z"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*\x1b?\Z"
    r"|\x1b[ -/]*\Z"
    r"|\r\Z"
)
_MARK = "\ufffd"


def sanitise(text: str) -> str:
    """Text that is safe to show: newline and tab are the only controls left in it.

    Escape sequences disappear; other forbidden characters become U+FFFD so that their presence
    is seen; `\\r\\n` and lone `\\r` become newlines.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _SEQUENCE.sub("", text)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _FORBIDDEN.sub(_MARK, text)


def one_line(text: str, limit: int = 400) -> str:
    """Sanitised text on a single line of at most `limit` characters, for names and messages."""
    line = " ".join(sanitise(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


class StreamSanitiser:
    """Sanitises text that arrives in pieces: a sequence cut by a chunk border is still caught.

    Feed every piece in order; call `finish` at the end to get what was held back.
    """

    # Longest tail that is kept in the hope that the rest of a sequence follows.
    _HOLD_CHARS = 4096

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        text = self._held + piece
        self._held = ""
        if text.isascii() and text.isprintable():
            return text
        opened = _OPEN_SEQUENCE.search(text)
        if opened and len(text) - opened.start() <= self._HOLD_CHARS:
            text, self._held = text[: opened.start()], text[opened.start() :]
        return sanitise(text)

    def finish(self) -> str:
        text, self._held = self._held, ""
        return sanitise(text)


def cells(text: str) -> int:
    """Width in terminal cells, well enough for padding plain output (wide and combining
    characters counted by their East Asian width)."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
