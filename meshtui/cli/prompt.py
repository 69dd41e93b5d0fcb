"""`meshtui prompt`: one prompt, its answer streamed to stdout."""

import argparse
import asyncio
import contextlib
import sys

from meshtui.cli import exit_codes
from meshtui.cli.before_start import add_force, check_before_start
from meshtui.cli.command import print_json, run_action
from meshtui.cli.narration import Narrator
from meshtui.client import ControllerClient
from meshtui.domain.errors import InvalidInput
from meshtui.domain.generation import (
    ChatMessage,
    ChatRequest,
    GenerationParameters,
    Run,
    RunEnded,
    RunNotice,
    RunText,
    RunWaiting,
)
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import StreamSanitiser

_EXAMPLES = """\
examples:
  meshtui prompt HuggingFaceTB/SmolLM2-135M-Instruct "What is the capital of France?"
  git diff | meshtui prompt org/name - --system "Write a commit message for this change."

On a terminal the answer is shown without control characters; a pipe or a file gets exactly what
the model wrote. Ctrl-C stops the generation in the engine, not only the display.
"""


def run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="meshtui prompt",
        description="Send a prompt to an enabled model and stream the answer to stdout; "
        "the model's server is started when it is not running. Where it would not run, you are "
        "asked first.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="org/name or org/name@revision")
    parser.add_argument("text", metavar="TEXT", nargs="?", help="the prompt; - reads stdin")
    parser.add_argument("--connection", help="needed where several connections enable the model")
    parser.add_argument("--system", help="a system prompt")
    parser.add_argument("--max-tokens", type=_positive, metavar="N", help="longest answer")
    parser.add_argument("--temperature", type=float, metavar="T")
    parser.add_argument("--top-p", type=float, metavar="P")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="repeatable")
    add_force(parser)
    parser.add_argument(
        "--json", action="store_true", help="print the finished run as one JSON object instead"
    )
    parser.set_defaults(action=_prompt, connect=True, spawn=True)
    return run_action(parser, words)


async def _prompt(client: ControllerClient, arguments: argparse.Namespace) -> int:
    text = arguments.text
    if text == "-" or (text is None and not sys.stdin.isatty()):
        text = await asyncio.to_thread(sys.stdin.read)
    if not text or not text.strip():
        raise InvalidInput(
            "There is no prompt.", hint="Give it as the second argument, or as - on stdin."
        )
    model = str(ModelRef.parse(arguments.model))
    if not arguments.force:
        await check_before_start(client, model, arguments.connection)
    messages = [ChatMessage("user", text)]
    if arguments.system:
        messages.insert(0, ChatMessage("system", arguments.system))
    request = ChatRequest(
        model=model,
        connection=arguments.connection,
        messages=tuple(messages),
        parameters=GenerationParameters(
            max_tokens=arguments.max_tokens,
            temperature=arguments.temperature,
            top_p=arguments.top_p,
            seed=arguments.seed,
            stop=tuple(arguments.stop),
        ),
    )
    return await _stream(client, request, as_json=arguments.json)


async def _stream(client: ControllerClient, request: ChatRequest, *, as_json: bool) -> int:
    narrator = Narrator()
    sanitiser = StreamSanitiser() if sys.stdout.isatty() else None
    finished: Run | None = None

    def write(text: str) -> None:
        if text and not as_json:
            sys.stdout.write(text)
            sys.stdout.flush()

    async with contextlib.aclosing(client.prompt(request)) as events:
        try:
            async for event in events:
                match event:
                    case RunWaiting(server):
                        narrator.server(server)
                    case RunNotice(message):
                        narrator.note(message)
                    case RunText(piece):
                        narrator.clear()
                        write(sanitiser.feed(piece) if sanitiser else piece)
                    case RunEnded(ended):
                        finished = ended
        finally:
            narrator.clear()
            write(sanitiser.finish() if sanitiser else "")
            if sys.stdout.isatty():
                write("\n")
    if finished is None:
        narrator.note("The answer broke off.")
        return exit_codes.UNAVAILABLE
    if as_json:
        print_json(finished)
    if finished.error is not None:
        narrator.note(f"meshtui: {finished.error.cause}")
        narrator.note(f"  {finished.error.fix}")
    return exit_codes.OK if finished.status == "done" else exit_codes.FAILED


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value
