"""States that a screen can be brought into, by what the controller tells and the user presses."""

from meshtui.screens.app import MeshtuiApp
from meshtui.screens.check.model_field import ModelField
from meshtui.screens.check.page import Page
from meshtui.screens.studio.answer import Standing
from meshtui.screens.studio.answers import Answers
from meshtui.screens.studio.block import Block
from meshtui.screens.studio.editor import PromptSide

from meshtui.domain.controller import ServerChanged
from meshtui.domain.generation import (
    ChatMessage,
    Run,
    RunEnded,
    RunEvent,
    RunStarted,
    RunText,
    RunUsage,
    RunWaiting,
    Usage,
)
from meshtui.domain.server import Explanation, Phase, ServerStatus
from meshtui.domain.task import Engine
from tests.support.waiting import eventually
from tests.tui.conftest import AppPilot, settled
from tests.tui.scripted import MODEL, NOW, ScriptedClient, record, server

PROMPT = "What is the capital of France?"
MARKDOWN = """# Paris

The capital of France is **Paris**. It lies on the *Seine*.

- population: `2.1 million`
- river: Seine

```python
def capital(country: str) -> str:
    return {"France": "Paris"}[country]
```

| city  | since |
|-------|-------|
| Paris | 987   |
"""
CAUSE = Explanation(
    cause="The KV cache does not fit. One request of 131,072 tokens needs 16.0 GiB; 4.9 GiB "
    "are left.",
    fix="Set max tokens to 39,936, the longest that fits.",
    excerpt="ValueError: To serve at least one request with the model's max seq len (131072), "
    "16.0 GiB KV cache is needed",
)


def run(answer: str = MARKDOWN, **changes: object) -> Run:
    """A run as the history has it."""
    known: dict[str, object] = {
        "id": "run-1",
        "created_at": NOW - 60,
        "model": MODEL,
        "connection": "local",
        "messages": (ChatMessage("user", PROMPT),),
        "status": "done",
        "engine": Engine.VLLM,
        "answer": answer,
        "finish_reason": "stop",
        "usage": Usage(31, 98),
        "ttft_s": 0.072,
        "duration_s": 1.83,
    }
    return Run(**{**known, **changes})  # type: ignore[arg-type]


def starting() -> ServerStatus:
    return server(
        Phase.LOADING_WEIGHTS,
        phases=(
            record(Phase.QUEUED, -75, -75),
            record(Phase.BUILDING_RUNTIME, -75, -40, "2.3 GB in 74 packages"),
            record(Phase.FETCHING_MODEL, -40, -38, "270 MB, already in the cache"),
            record(Phase.STARTING, -38, -12, "vLLM 0.32.0 on the processor"),
            record(Phase.LOADING_WEIGHTS, -12, None, "134 of 270 MB, 42 MB/s, 0:03 left", 0.5),
        ),
    )


def failed_server() -> ServerStatus:
    return server(
        Phase.FAILED,
        explanation=CAUSE,
        stopped_at=NOW,
        phases=(
            record(Phase.STARTING, -134, -60),
            record(Phase.LOADING_WEIGHTS, -60, -20),
            record(Phase.WARMING, -20, 0),
            record(Phase.FAILED, 0, 0),
        ),
    )


def blocks(app: MeshtuiApp) -> list[Block]:
    """The answers in the studio's pane."""
    return app.screen.query_one(Answers).blocks


async def press_run(app: MeshtuiApp, pilot: AppPilot) -> Block:
    """The one key press, and the block that comes of it."""
    before = len(blocks(app))
    await pilot.press("ctrl+r")
    await eventually(lambda: len(blocks(app)) > before, "a block for the answer")
    await settled(pilot)
    return blocks(app)[-1]


async def waiting(app: MeshtuiApp, client: ScriptedClient, pilot: AppPilot) -> Block:
    block = await press_run(app, pilot)
    client.tell(ServerChanged(starting()))
    client.answer(RunStarted("run-1", starting().id), RunWaiting(starting()))
    await eventually(lambda: block.answer.server is not None, "the server's state")
    await settled(pilot)
    return block


async def streaming(app: MeshtuiApp, client: ScriptedClient, pilot: AppPilot) -> Block:
    block = await press_run(app, pilot)
    client.tell(ServerChanged(server()))
    text = "The capital of France is **Paris**. It lies on the Seine, and has been the capital "
    client.answer(RunStarted("run-1", server().id), RunText(text), RunUsage(Usage(31, 17)))
    await eventually(lambda: block.answer.text == text, "the text on the screen")
    block.tick()
    await settled(pilot)
    return block


async def ended(
    app: MeshtuiApp, client: ScriptedClient, pilot: AppPilot, *events: RunEvent | Exception
) -> Block:
    """An answer that ends with the events."""
    block = await press_run(app, pilot)
    client.answer(RunStarted("run-1", server().id), *events, None)
    await eventually(lambda: block.answer.standing.is_over, "the end")
    await settled(pilot)
    return block


async def answered(
    app: MeshtuiApp, client: ScriptedClient, pilot: AppPilot, text: str = MARKDOWN
) -> Block:
    client.tell(ServerChanged(server()))
    block = await ended(app, client, pilot, RunText(text), RunEnded(run(text)))
    await eventually(lambda: block.shows_markdown or block.raw, "Markdown")
    await settled(pilot)
    return block


async def failed(app: MeshtuiApp, client: ScriptedClient, pilot: AppPilot) -> Block:
    client.tell(ServerChanged(failed_server()))
    nothing = {"usage": None, "ttft_s": None, "duration_s": None, "finish_reason": None}
    block = await ended(
        app, client, pilot, RunEnded(run("", status="failed", error=CAUSE, **nothing))
    )
    assert block.answer.standing is Standing.FAILED
    return block


async def servers(app: MeshtuiApp, client: ScriptedClient, pilot: AppPilot) -> None:
    """The servers screen with one starting, one ready and one failed."""
    broken = Explanation(
        cause="Not enough memory: 14.5 GB are needed, 9.1 GB are free.", fix="Stop a server."
    )
    other, third = "Qwen/Qwen2.5-7B-Instruct", "mistralai/Mistral-7B-Instruct-v0.3"
    client.tell(
        ServerChanged(server()),
        ServerChanged(
            server(Phase.LOADING_WEIGHTS, id="qwen-2", model=other, phases=starting().phases)
        ),
        ServerChanged(
            server(
                Phase.FAILED, id="mistral-3", model=third, stopped_at=NOW - 7300, explanation=broken
            )
        ),
    )
    await eventually(lambda: len(app.state.servers) == 3, "the servers")
    await pilot.press("f3")
    await settled(pilot)


async def conversation(app: MeshtuiApp, client: ScriptedClient, pilot: AppPilot) -> None:
    """Two turns of a chat with the built-in model, and the third being written."""
    client.tell(ServerChanged(server()))
    side = app.screen.query_one(PromptSide)
    side.system.load("You are a travel guide. Answer briefly, in Markdown.")
    side.fill({"temperature": "0.2", "seed": "7"})
    await pilot.press("ctrl+g")
    for number, (prompt, text, usage, took_s) in enumerate(_TURNS):
        side.user.load(prompt)
        done = run(
            text,
            id=f"run-{number}",
            messages=(ChatMessage("user", prompt),),
            usage=usage,
            ttft_s=0.072 + 0.011 * number,
            duration_s=took_s,
            starred=number == 1,
        )
        block = await ended(app, client, pilot, RunText(text), RunEnded(done))
        await eventually(lambda block=block: block.shows_markdown, "Markdown")  # type: ignore[misc]
    side.user.load("Which of them is open at night?")
    await settled(pilot)


_TURNS = (
    ("What is the capital of France?", "The capital of France is **Paris**.", Usage(44, 9), 0.24),
    (
        "Name three sights there, and print them in Python.",
        """Three sights that you should not miss:

1. **Eiffel Tower**: built in 1889, 330 metres high
2. **Louvre**: home of the *Mona Lisa*
3. **Notre-Dame**: on an island in the Seine

```python
sights = ["Eiffel Tower", "Louvre", "Notre-Dame"]
for number, sight in enumerate(sights, 1):
    print(f"{number}. {sight}")
```

Take the *Métro*: each of them is near a station.
""",
        Usage(71, 118),
        2.31,
    ),
)


async def open_check(app: MeshtuiApp, pilot: AppPilot) -> None:
    """The checker, with nothing asked yet."""
    await pilot.press("f6")
    await eventually(lambda: app.screen.query(ModelField), "the checker")
    await settled(pilot)


async def checked(app: MeshtuiApp, pilot: AppPilot, model: str) -> None:
    """The checker with its answer about a model."""
    app.action_check(model)
    await eventually(
        lambda: bool(app.screen.query(Page)) and app.screen.query_one(Page).answered == model,
        "the answer",
    )
    await settled(pilot)
