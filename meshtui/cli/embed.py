"""`meshtui embed`: vectors of texts, one line of JSON each."""

import argparse
import contextlib

from meshtui.cli import exit_codes
from meshtui.cli.command import run_action
from meshtui.cli.texts import (
    Output,
    add_arguments,
    answers,
    made_ready,
    model_of,
    positive,
    texts_of,
)
from meshtui.client import ControllerClient
from meshtui.domain.pooling import EmbedRequest
from meshtui.domain.task import Ability

_EXAMPLES = """\
examples:
  meshtui embed sentence-transformers/all-MiniLM-L6-v2 "A man is eating food."
  meshtui embed org/name < sentences.txt > vectors.jsonl
  meshtui embed org/name --jsonl --field body < articles.jsonl > with_vectors.jsonl

Each line out is {"index", "text", "embedding"}; of objects that come in with --jsonl, the object
with its "embedding".
"""


def run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="meshtui embed",
        description="Make vectors of texts with an enabled model of the task feature-extraction; "
        "its server is started when it is not running.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="org/name or org/name@revision")
    add_arguments(parser)
    parser.add_argument(
        "--dimensions", type=positive, metavar="N", help="shorter vectors, of models made for it"
    )
    parser.set_defaults(action=_embed)
    return run_action(parser, words)


async def _embed(client: ControllerClient, arguments: argparse.Namespace) -> int:
    texts = texts_of(arguments)
    output = Output(arguments)

    async def ask(batch: tuple[str, ...]) -> tuple[tuple[float, ...], ...]:
        found = await client.embed(
            EmbedRequest(
                model=model_of(arguments),
                connection=arguments.connection,
                texts=batch,
                dimensions=arguments.dimensions,
                truncate=arguments.truncate,
            )
        )
        output.prompt_tokens += found.prompt_tokens
        return found.vectors

    await made_ready(client, arguments, Ability.EMBED, ask)
    found = answers(texts, ask, size=arguments.batch, doing="Embedded")
    async with contextlib.aclosing(found) as batches:
        async for batch in batches:
            output.add(text.answered(embedding=_short(vector)) for text, vector in batch)
    output.end()
    return exit_codes.OK


def _short(vector: tuple[float, ...]) -> list[float]:
    """The same 32-bit numbers in nine digits, which is all that they hold."""
    return [float(f"{number:.9g}") for number in vector]
