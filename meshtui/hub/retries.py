"""How often something that failed is tried again, and how long one waits before that."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import msgspec

_LONGEST_PAUSE_S = 60.0


class Retries(msgspec.Struct, frozen=True):
    """How often a transfer that makes no headway is tried, and its first pause, in seconds;
    pauses double up to a minute. A server's `Retry-After` goes before."""

    tries: int = 8
    first_pause_s: float = 0.5

    def pause_s(self, failures: int) -> float:
        """The pause after so many failures in a row."""
        return min(self.first_pause_s * 2.0 ** (failures - 1), _LONGEST_PAUSE_S)


DEFAULT_RETRIES = Retries()


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long a server asks to wait, in seconds or as an HTTP date; None where it does not."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    if value.isdecimal():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
