"""Copying over SSH: to the terminal by OSC 52, and inside tmux through tmux as well.

tmux does not hand on OSC 52 from the programs inside it by default; `load-buffer -w` makes tmux
itself send it to the outer terminal and keeps a tmux buffer besides.
"""

import asyncio
import os

_TMUX_LIMIT_S = 3.0


async def to_tmux(text: str) -> bool:
    """Hands text to tmux; False where there is no tmux around us or it refuses."""
    if not os.environ.get("TMUX"):
        return False
    try:
        process = await asyncio.create_subprocess_exec(
            "tmux",
            "load-buffer",
            "-w",
            "-",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(_TMUX_LIMIT_S):
            await process.communicate(text.encode())
    except (TimeoutError, OSError):
        process.kill()
        await process.wait()
        return False
    return process.returncode == 0
