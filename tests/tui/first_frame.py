"""Prints which modules are loaded when the app has painted its first frame (run by a test)."""

import asyncio
import sys

# Loaded by the interpreter's own start (site hooks of editable installs) are no fault of ours.
BEFORE = set(sys.modules)


async def main() -> None:
    from meshtui.screens.app import MeshtuiApp

    from meshtui.client import ControllerClient

    def painted(app: MeshtuiApp) -> None:
        # What the app calls once the first frame is out, in place of connecting.
        print("\n".join(sorted(set(sys.modules) - BEFORE)))
        app.exit()

    MeshtuiApp._connect = painted  # type: ignore[method-assign]
    async with MeshtuiApp(ControllerClient()).run_test(size=(80, 24)) as pilot:
        await pilot.pause()


asyncio.run(main())
