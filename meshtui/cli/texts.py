"""What `embed`, `rerank` and `classify` share: texts come in, are asked about in batches, several
at once, and their answers go out in the order of the texts."""

import argparse
import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from meshtui.cli.before_start import add_force, check_before_start
from meshtui.cli.command import print_json
from meshtui.cli.narration import Narrator
from meshtui.cli.starting import started
from meshtui.client import ControllerClient
from meshtui.domain.errors import InvalidInput, MeshtuiError
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.task import Ability
from meshtui.domain.text import one_line

T = TypeVar("T")
# Gives one answer a text.
Ask = Callable[[tuple[str, ...]], Awaitable[Sequence[T]]]
# As many as keep an engine busy while the next are read.
_AT_ONCE = 4
# Long texts go in smaller batches: a request has a largest size.
_MOST_CHARACTERS = 4_000_000


class Text(msgspec.Struct, frozen=True):
    """A text, its place among all, and where it came from: `line 3`. `fields` is the object that
    it stood in."""

    index: int
    text: str
    where: str
    fields: dict[str, Any] | None = None

    def answered(self, **answer: object) -> dict[str, Any]:
        """The line that goes out: the object that came in, or the place and the text, with the
        answer."""
        return {**(self.fields or {"index": self.index, "text": self.text}), **answer}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that the three commands have in common."""
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="default: one a line from stdin")
    parser.add_argument("--connection", help="needed where several connections enable the model")
    parser.add_argument(
        "--jsonl", action="store_true", help="the lines of stdin are JSON: strings, or objects"
    )
    parser.add_argument(
        "--field", default="text", metavar="NAME", help="the objects' field with the text (text)"
    )
    parser.add_argument(
        "--batch", type=positive, default=64, metavar="N", help="texts in a request (64)"
    )
    parser.add_argument(
        "--truncate", action="store_true", help="cut off what the model cannot take, do not refuse"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document instead of a line for each"
    )
    add_force(parser)
    parser.set_defaults(connect=True, spawn=True)


def positive(text: str) -> int:
    """For argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def model_of(arguments: argparse.Namespace) -> str:
    return str(ModelRef.parse(arguments.model))


def texts_of(arguments: argparse.Namespace) -> Iterator[Text]:
    """The texts of the command line, or those of stdin as they come; blank lines are left out.
    Raises `InvalidInput`, while iterating too, for a line that is not what it should be."""
    if arguments.texts and arguments.texts != ["-"]:
        return (Text(i, text, f"text {i + 1}") for i, text in enumerate(arguments.texts))
    if not arguments.texts and sys.stdin.isatty():
        raise InvalidInput("There is no text.", hint="Give it as an argument, or lines on stdin.")
    return _lines(sys.stdin, arguments.field if arguments.jsonl else None)


def _lines(stream: Iterable[str], field: str | None) -> Iterator[Text]:
    index = 0
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        if field is None:
            yield Text(index, line.rstrip("\r\n"), where)
        else:
            yield _from_json(index, line, where, field)
        index += 1


def _from_json(index: int, line: str, where: str, field: str) -> Text:
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidInput(
            f"{where.capitalize()} is not JSON: {error}.", hint="Without --jsonl, lines are texts."
        ) from None
    if isinstance(value, str):
        return Text(index, value, where)
    if not isinstance(value, dict) or not isinstance(value.get(field), str):
        raise InvalidInput(
            f"{where.capitalize()} has no text under {one_line(field, 80)!r}.",
            hint="--field names the field that holds the text.",
        )
    return Text(index, value[field], where, value)


async def made_ready(
    client: ControllerClient, arguments: argparse.Namespace, ability: Ability, ask: Ask[T]
) -> None:
    """Returns when the model's server is ready. A model that cannot do it is asked nevertheless:
    the controller says so best, and starts nothing."""
    model, connection = model_of(arguments), arguments.connection
    if not arguments.force:
        await check_before_start(client, model, connection)
    options = [
        option
        for option in await client.models()
        if option.enabled.model == model and connection in (None, option.connection)
    ]
    if not any(option.enabled.task in ability.tasks for option in options):
        await ask(("-",))
    await started(client, model, connection)


async def answers(
    texts: Iterator[Text], ask: Ask[T], *, size: int, doing: str
) -> AsyncGenerator[list[tuple[Text, T]], None]:
    """The texts with their answers, batch by batch and in their order. What came before a line
    that cannot be read is answered first."""
    narrator = Narrator()
    batches = _Batches(texts, size)
    pending: deque[tuple[list[Text], asyncio.Task[Sequence[T]]]] = deque()
    done = 0
    try:
        while True:
            batch = await asyncio.to_thread(batches.next)
            if batch:
                pending.append((batch, asyncio.create_task(_asked(batch, ask))))
            while pending and (not batch or len(pending) >= _AT_ONCE):
                answered, task = pending.popleft()
                found = await task
                narrator.clear()
                yield list(zip(answered, found, strict=True))
                done += len(answered)
                narrator.count(doing, done)
            if not batch:
                break
    finally:
        narrator.clear()
        for _, task in pending:
            task.cancel()
        await asyncio.gather(*(task for _, task in pending), return_exceptions=True)
    if batches.broken is not None:
        raise batches.broken


class _Batches:
    """Cuts texts into batches; `broken` is why there are no more, where that is an error."""

    def __init__(self, texts: Iterator[Text], size: int) -> None:
        self._texts = texts
        self._size = size
        self.broken: MeshtuiError | None = None

    def next(self) -> list[Text]:
        """Empty at the end. Blocks while it reads."""
        batch: list[Text] = []
        characters = 0
        while len(batch) < self._size and characters < _MOST_CHARACTERS and not self.broken:
            try:
                text = next(self._texts, None)
            except MeshtuiError as error:
                self.broken = error
                break
            if text is None:
                break
            batch.append(text)
            characters += len(text.text)
        return batch


async def _asked(batch: list[Text], ask: Ask[T]) -> Sequence[T]:
    """The answers to a batch. Of one that is refused, each text is asked about alone, so that the
    one at fault can be named."""
    try:
        return await ask(tuple(text.text for text in batch))
    except InvalidInput as error:
        if len(batch) == 1:
            where = batch[0].where.capitalize()
            raise InvalidInput(f"{where}: {error.message}", hint=error.hint) from None
    return [(await _asked([text], ask))[0] for text in batch]


class Output:
    """Lines of JSON on stdout as they come; or, of everything, one document at the end."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._whole = arguments.json
        self._model = model_of(arguments)
        self._results: list[dict[str, Any]] = []
        self.prompt_tokens = 0

    def add(self, results: Iterable[dict[str, Any]]) -> None:
        if self._whole:
            self._results += results
            return
        for result in results:
            print_json(result)
        sys.stdout.flush()

    def end(self) -> None:
        if self._whole:
            print_json(
                {
                    "model": self._model,
                    "prompt_tokens": self.prompt_tokens,
                    "results": self._results,
                }
            )
