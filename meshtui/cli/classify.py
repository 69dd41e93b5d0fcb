"""`meshtui classify`: the classes of texts, one line of JSON each."""

import argparse
import contextlib

from meshtui.cli import exit_codes
from meshtui.cli.command import run_action
from meshtui.cli.texts import Output, add_arguments, answers, made_ready, model_of, texts_of
from meshtui.client import ControllerClient
from meshtui.domain.pooling import Classified, ClassifyRequest
from meshtui.domain.task import Ability

_EXAMPLES = """\
examples:
  meshtui classify org/name "What a day!"
  meshtui classify org/name --jsonl --field comment < comments.jsonl > classes.jsonl

Each line out is {"index", "text", "label", "scores"}; of objects that come in with --jsonl, the
object with its "label" and "scores".
"""


def run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="meshtui classify",
        description="Put texts into the classes of an enabled model of the task "
        "text-classification; its server is started when it is not running.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="org/name or org/name@revision")
    add_arguments(parser)
    parser.set_defaults(action=_classify)
    return run_action(parser, words)


async def _classify(client: ControllerClient, arguments: argparse.Namespace) -> int:
    texts = texts_of(arguments)
    output = Output(arguments)

    async def ask(batch: tuple[str, ...]) -> tuple[Classified, ...]:
        found = await client.classify(
            ClassifyRequest(
                model=model_of(arguments),
                connection=arguments.connection,
                texts=batch,
                truncate=arguments.truncate,
            )
        )
        output.prompt_tokens += found.prompt_tokens
        return found.results

    await made_ready(client, arguments, Ability.CLASSIFY, ask)
    found = answers(texts, ask, size=arguments.batch, doing="Classified")
    async with contextlib.aclosing(found) as batches:
        async for batch in batches:
            output.add(
                text.answered(label=answer.label, scores=answer.scores) for text, answer in batch
            )
    output.end()
    return exit_codes.OK
