"""JSON and plain values to and from the domain types."""

from typing import Any, TypeVar

import msgspec

from meshtui.domain.errors import InvalidInput

T = TypeVar("T")


def to_json(value: object) -> bytes:
    """Compact JSON of a domain value (or of lists, dicts and scalars of them)."""
    return msgspec.json.encode(value)


def from_json(data: bytes | str, kind: type[T]) -> T:
    """A value of `kind`; raises `InvalidInput` that names the place and what is wrong there."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidInput(f"This is not a valid {_name(kind)}: {error}.") from error


def from_plain(data: Any, kind: type[T]) -> T:
    """As `from_json`, from dicts and lists (of TOML, say)."""
    try:
        return msgspec.convert(data, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"This is not a valid {_name(kind)}: {error}.") from error


def to_plain(value: object) -> Any:
    """Dicts, lists and scalars of a domain value."""
    return msgspec.to_builtins(value)


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))
