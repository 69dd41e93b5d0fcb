"""`meshtui rerank`: texts in the order in which they answer a query, one line of JSON each."""

import argparse
import contextlib

from meshtui.cli import exit_codes
from meshtui.cli.command import run_action
from meshtui.cli.texts import (
    Output,
    Text,
    add_arguments,
    answers,
    made_ready,
    model_of,
    positive,
    texts_of,
)
from meshtui.client import ControllerClient
from meshtui.domain.errors import InvalidInput
from meshtui.domain.pooling import RerankRequest
from meshtui.domain.task import Ability

_EXAMPLES = """\
examples:
  meshtui rerank BAAI/bge-reranker-v2-m3 "capital of France" "Paris is large." "Cats purr."
  meshtui rerank org/name "how to reset a password" --top 5 < paragraphs.txt

Each line out is {"index", "text", "score"}, the best first; of objects that come in with --jsonl,
the object with its "score". An embedding model ranks by how near the vectors are.
"""


def run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="meshtui rerank",
        description="Order texts by how well they answer a query, with an enabled model of the "
        "task text-ranking or feature-extraction; its server is started when it is not running.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="org/name or org/name@revision")
    parser.add_argument("query", metavar="QUERY")
    add_arguments(parser)
    parser.add_argument("--top", type=positive, metavar="N", help="print the best N only")
    parser.set_defaults(action=_rerank)
    return run_action(parser, words)


async def _rerank(client: ControllerClient, arguments: argparse.Namespace) -> int:
    if not arguments.query.strip():
        raise InvalidInput("The query is empty.", hint="Say what the texts are to answer.")
    texts = texts_of(arguments)
    output = Output(arguments)

    async def ask(batch: tuple[str, ...]) -> list[float]:
        found = await client.rerank(
            RerankRequest(
                model=model_of(arguments),
                connection=arguments.connection,
                query=arguments.query,
                texts=batch,
                truncate=arguments.truncate,
            )
        )
        output.prompt_tokens += found.prompt_tokens
        by_index = sorted(found.results, key=lambda item: item.index)
        return [item.score for item in by_index]

    await made_ready(client, arguments, Ability.RERANK, ask)
    # The score of a text depends on no other, so that they can be asked about in batches.
    scored: list[tuple[Text, float]] = []
    found = answers(texts, ask, size=arguments.batch, doing="Ranked")
    async with contextlib.aclosing(found) as batches:
        async for batch in batches:
            scored += batch
    scored.sort(key=lambda item: -item[1])
    output.add(text.answered(score=score) for text, score in scored[: arguments.top])
    output.end()
    return exit_codes.OK
