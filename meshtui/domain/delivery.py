"""How a model comes to where servers of a cluster read it."""

from enum import StrEnum

import msgspec

from meshtui.domain.server import Explanation


class DeliveryMode(StrEnum):
    """`direct`: a Job fetches from the Hub into the volume. `managed-cache`: this machine sends
    its cache's entry. `existing`: it is there, and stays as it is."""

    DIRECT = "direct"
    MANAGED_CACHE = "managed-cache"
    EXISTING = "existing"


class Delivery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a connection says of it. `path` is where an existing model lies, below the root of the
    volume or of `image`, an OCI image with models that pods mount as a volume."""

    mode: DeliveryMode = DeliveryMode.DIRECT
    path: str = ""
    image: str | None = None


class DeliveryProgress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a delivery is. `done_bytes` are of the model on the volume, those that were there
    before included. `explanation` says what it waits for; None where it goes on."""

    step: str
    done_bytes: int = 0
    total_bytes: int | None = None
    files_done: int = 0
    files: int = 0
    explanation: Explanation | None = None

    @property
    def fraction(self) -> float | None:
        return min(1.0, self.done_bytes / self.total_bytes) if self.total_bytes else None


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """How a delivery ended. `present`: it was there, nothing moved. `moved_bytes` came now."""

    mode: DeliveryMode
    present: bool = False
    moved_bytes: int = 0
