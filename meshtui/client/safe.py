"""Makes what the controller tells safe to show.

Names, messages and explanations come from engines, model repositories and files. They are
cleaned where they are made; this is the second wall, in the one place that all of them pass on
their way to a terminal. Answers of models stay raw: whoever shows them sanitises the stream.
"""

import re
from typing import Any, TypeVar

import msgspec

from meshtui.domain.codec import from_json, from_plain
from meshtui.domain.text import sanitise

T = TypeVar("T")

# JSON that holds none of these holds no forbidden character: escapes of control characters (some
# have short ones), and anything beyond ASCII. Nearly all answers take this way out without being
# walked through.
_SUSPICIOUS = re.compile(rb"\\[ubfr]|[\x7f-\xff]")


def decode(data: bytes, kind: Any) -> Any:
    """A value of `kind`, with every string in it sanitised."""
    if not _SUSPICIOUS.search(data):
        return from_json(data, kind)
    return from_plain(_clean(msgspec.json.decode(data)), kind)


def clean_struct(value: T) -> T:
    """A copy of a domain value with every string in it sanitised."""
    return msgspec.convert(_clean(msgspec.to_builtins(value)), type=type(value))


def clean_log_line(line: str) -> str:
    """A line of a log as a terminal would leave it: progress bars overwrite themselves with
    `\\r`, so what stands last is what counts."""
    shown = line.rstrip("\r\n")
    if "\r" in shown:
        shown = next((part for part in reversed(shown.split("\r")) if part.strip()), "")
    return sanitise(shown).replace("\n", " ")


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return sanitise(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {sanitise(key): _clean(item) for key, item in value.items()}
    return value
