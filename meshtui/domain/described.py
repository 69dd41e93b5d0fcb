"""What is said of a field, beside the field."""

from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec


def says(description: str) -> msgspec.Meta:
    """For `Annotated`: what the field means, in a sentence for people."""
    return msgspec.Meta(description=description)


def help_of(kind: type[msgspec.Struct]) -> dict[str, str]:
    """What is said of each field of `kind`; fields of which nothing is said are left out."""
    hints: dict[str, Any] = get_type_hints(kind, include_extras=True)
    return {
        field: meta.description
        for field, hint in hints.items()
        if get_origin(hint) is Annotated
        for meta in get_args(hint)[1:]
        if isinstance(meta, msgspec.Meta) and meta.description
    }
