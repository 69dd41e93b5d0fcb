"""Sizes and spans of time as people type and read them."""

import re

from meshtui.domain.errors import InvalidInput

_UNITS_BYTES = {
    **{"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12},
    **{"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12},
    **{"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40},
}
_UNITS_S = {"m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def size_of(count_bytes: int) -> str:
    """Decimal units as disks and files are sold: `269 MB`, `5.9 GB`."""
    value = float(count_bytes)
    for unit in ("B", "kB", "MB"):
        if round(value) < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def bytes_of(text: str) -> int:
    """`4GB`, `500 MB`, `4GiB`, `1000000`; raises `InvalidInput`."""
    found = _AMOUNT.fullmatch(text.strip().lower())
    if found is None or found[2] not in _UNITS_BYTES:
        raise InvalidInput(f"{text!r} is not a size.", hint="Write it as 500MB, 4GB or 4GiB.")
    return int(float(found[1]) * _UNITS_BYTES[found[2]])


def seconds_of(text: str) -> float:
    """`30d`, `12h`, `2w`; raises `InvalidInput`."""
    found = _AMOUNT.fullmatch(text.strip().lower())
    if found is None or found[2] not in _UNITS_S:
        raise InvalidInput(f"{text!r} is not a time.", hint="Write it as 12h, 30d or 8w.")
    return float(found[1]) * _UNITS_S[found[2]]
