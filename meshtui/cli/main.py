"""The `meshtui` command: opens the workstation, or runs one noun's command.

Parsing happens before anything heavy is imported: each noun is a module of its own, loaded only
when it is asked for, so that `meshtui` alone paints as fast as the toolkit allows.
"""

import gc
import importlib
import io
import os
import sys
from collections.abc import Sequence

from meshtui import __version__
from meshtui.cli import exit_codes

_NOUNS = {
    "prompt": "send a prompt to a model and stream the answer to stdout",
    "image": "make pictures from words, written to files",
    "embed": "make vectors of texts; lines in, JSON lines out",
    "rerank": "order texts by how well they answer a query",
    "classify": "put texts into the classes of a model",
    "server": "list, start, stop and inspect running engines",
    "runtime": "list, build and delete the engine stacks of this machine",
    "cache": "the models on disk: fetch, import, export, verify and delete them",
    "check": "tell whether a model runs, where, and in how much memory",
    "model": "well-known models, what they are for, and on which GPUs they run",
    "connection": "where models may run, and which ones: make, change and test connections",
    "doctor": "look whether servers can run on this machine or on a cluster, and what to do",
    "endpoint": "switch the OpenAI-compatible endpoint for programs",
    "controller": "the background process that owns servers and downloads",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status (see `exit_codes`)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        return _open_workstation()
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        # A locale may lack a character of an answer, and a file that is sent as a prompt may be
        # in another encoding: no reason to break off.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        # What is no UTF-8 cannot be sent; it stays visible as question marks.
        status = _run([word.encode("utf-8", "replace").decode() for word in words])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (`head`, say) has seen enough
        status = exit_codes.OK
    except OSError as error:
        print(f"meshtui: the system refused: {error}", file=sys.stderr)
        status = exit_codes.FAILED
    else:
        return status
    # What is left in stdout's buffer cannot be written; Python would complain at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return status


def _run(words: list[str]) -> int:
    first, rest = words[0], words[1:]
    if first in ("-h", "--help", "help"):
        if rest and rest[0] in _NOUNS:
            return _run_noun(rest[0], ["--help"])
        sys.stdout.write(_help())
        return exit_codes.OK
    if first in ("-V", "--version", "version"):
        print(f"meshtui {__version__}")
        return exit_codes.OK
    if first in _NOUNS:
        return _run_noun(first, rest)
    print(f"meshtui: there is no command {first!r}. See: meshtui --help", file=sys.stderr)
    return exit_codes.USAGE


def _run_noun(noun: str, words: list[str]) -> int:
    module = importlib.import_module(f"meshtui.cli.{noun}")
    status: int = module.run(words)
    return status


def _open_workstation() -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print(
            "meshtui: the workstation needs a terminal; see meshtui --help for its commands.",
            file=sys.stderr,
        )
        return exit_codes.USAGE
    # Nothing of what is made up to the first frame is garbage, and looking for some in between
    # takes a tenth of that time. The app switches it on again.
    gc.disable()
    status: int = importlib.import_module("meshtui.screens.app").run()
    return status


def _help() -> str:
    nouns = "\n".join(f"  {noun:<12}{what}" for noun, what in _NOUNS.items())
    codes = "\n".join(f"  {code:<12}{what}" for code, what in exit_codes.MEANINGS.items())
    return (
        "usage: meshtui                 open the workstation\n"
        "       meshtui COMMAND ...     run one command; COMMAND --help explains it\n\n"
        f"commands:\n{nouns}\n\n"
        "stdout carries the answer, stderr what happens meanwhile; --json makes stdout JSON.\n\n"
        f"exit status:\n{codes}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
