"""The tests' Hub in a process of its own (run by a bench): prints its address, ends with its
input. Arguments: the model, megabytes in all, and bytes a second (0: as fast as it goes)."""

import asyncio
import random
import sys

from tests.hub_server import Fault, HubServer

FILES = 3


async def main() -> None:
    model, megabytes, bytes_per_s = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    async with HubServer() as hub:
        files = {
            f"model-{n:05}-of-{FILES:05}.safetensors": random.Random(n).randbytes(
                megabytes * 1_000_000 // FILES
            )
            for n in range(1, FILES + 1)
        }
        hub.add(model, {"config.json": b"{}", "tokenizer.json": b"{}", **files})
        if bytes_per_s:
            hub.faults.append(Fault("/lfs/", times=1_000_000, bytes_per_s=bytes_per_s))
        print(hub.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(main())
