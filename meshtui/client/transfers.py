"""Watching transfers until they are over."""

import contextlib
from collections.abc import AsyncGenerator

from meshtui.client.api import ControllerClient
from meshtui.domain.controller import Overview, TransferChanged, TransferRemoved
from meshtui.domain.errors import NotFound
from meshtui.domain.model_cache import Transfer


async def follow(client: ControllerClient, transfer: Transfer) -> AsyncGenerator[Transfer, None]:
    """Every change of a transfer from now on; the last one is over. Raises `Unavailable` when
    the controller goes away, `NotFound` where the transfer is forgotten before its end was told."""
    if transfer.state.is_over:
        yield transfer
        return
    async with contextlib.aclosing(client.events()) as events:
        async for event in events:
            match event:
                case TransferChanged(changed) if changed.id == transfer.id:
                    now: Transfer | None = changed
                case Overview(transfers=transfers):
                    now = next((one for one in transfers if one.id == transfer.id), None)
                case TransferRemoved(transfer.id):
                    now = None
                case _:
                    continue
            if now is None:
                raise NotFound(f"The transfer {transfer.id} is gone.")
            yield now
            if now.state.is_over:
                return
