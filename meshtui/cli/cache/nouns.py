"""The verbs of `meshtui cache` and their options."""

import argparse
from pathlib import Path

from meshtui.cli.cache import adopting, bringing, caring, exporting, looking, working
from meshtui.cli.command import Noun

_MODEL = "org/name or org/name@revision"
_NOTHING = "print what would happen and change nothing"


def run(words: list[str]) -> int:
    noun = Noun("cache", "The model cache: see, fetch, import, export, check and delete models.")
    _looking(noun)
    _bringing(noun)
    _adopting(noun)
    _exporting(noun)
    _caring(noun)
    return noun.run(words)


def _looking(noun: Noun) -> None:
    listed = noun.verb("list", looking.list_, "all models in the cache")
    listed.add_argument("--sort", choices=looking.SORTS, default="name", help="by name if not said")
    listed.add_argument("--filter", metavar="TEXT", help="only those that have it in a column")
    show = noun.verb("show", looking.show, "one model: its files, card and facts")
    show.add_argument("model", metavar="MODEL", help=_MODEL)
    path = noun.verb(
        "path", looking.path, "print the folder of a model's files and nothing else", connect=False
    )
    path.add_argument("model", metavar="MODEL", help=_MODEL)
    transfers = noun.verb("transfers", looking.transfers, "what goes on with the cache")
    one = transfers.add_mutually_exclusive_group()
    one.add_argument("--cancel", metavar="ID", help="end one that waits or runs")
    one.add_argument("--retry", metavar="ID", help="start one that failed again")
    one.add_argument("--forget", metavar="ID", help="take one that is over off the list")


def _bringing(noun: Noun) -> None:
    download = noun.verb("download", bringing.download, "fetch models from the Hub")
    download.add_argument("models", nargs="+", metavar="MODEL", help=_MODEL)
    download.add_argument("--connection", help="whose access token and endpoint to use")
    for option, what in (
        ("--include", "fetch these files instead of the usual choice; may be repeated"),
        ("--exclude", "leave these out; may be repeated"),
    ):
        download.add_argument(option, action="append", default=[], metavar="GLOB", help=what)
    _add_replace(download)
    working.add_options(download, dry_run="list the files and change nothing")
    imported = noun.verb("import", bringing.import_, "import archives, or folders of entries")
    imported.add_argument(
        "paths",
        nargs="+",
        type=_absolute,
        metavar="PATH",
        help="an archive (zip, tar, tar.gz, tar.zst; of a split one the first part), an entry's "
        "folder, or a folder with several of them",
    )
    _add_replace(imported)
    working.add_options(imported, dry_run=_NOTHING)
    build = noun.verb("build", bringing.build, "make an entry of a plain folder or a git clone")
    build.add_argument("path", type=_absolute, metavar="PATH")
    build.add_argument("--model", metavar="ORG/NAME", help="asked for where the files do not tell")
    build.add_argument("--commit", metavar="HASH")
    build.add_argument("--task", help="as on the Hub: text-generation, ...")
    build.add_argument("--library", metavar="NAME", help="transformers, ...")
    build.add_argument("--language", action="append", metavar="CODE", help="may be repeated")
    build.add_argument("--tag", action="append", metavar="TAG", help="may be repeated")
    _add_replace(build)
    working.add_options(build, dry_run=_NOTHING)


def _adopting(noun: Noun) -> None:
    adopt = noun.verb(
        "adopt",
        adopting.adopt,
        "take models over from the standard Hugging Face cache; without a name: list them",
    )
    adopt.add_argument("models", nargs="*", metavar="MODEL", help=_MODEL)
    adopt.add_argument("--all", action="store_true", help="all that are complete and new")
    adopt.add_argument(
        "--from", dest="source", type=_absolute, metavar="DIR", help="another Hugging Face cache"
    )
    adopt.add_argument("--copy", action="store_true", help="copy where files cannot be linked")
    _add_replace(adopt)
    working.add_options(adopt, dry_run=_NOTHING)


def _exporting(noun: Noun) -> None:
    export = noun.verb("export", exporting.export, "write models to archives or folders")
    export.add_argument("models", nargs="+", metavar="MODEL", help=_MODEL)
    export.add_argument("--to", type=_absolute, required=True, metavar="FOLDER")
    export.add_argument(
        "--container",
        choices=("zip", "tar", "tar.zst", "folder"),
        default="zip",
        help="zip if not said; which containers Dataiku takes is undocumented",
    )
    export.add_argument("--volume-size", metavar="SIZE", help="split: 4GB, 700MB")
    export.add_argument(
        "--checksums",
        choices=("beside", "inside", "none"),
        default="beside",
        help="where SHA-256 sums go: beside the archive if not said",
    )
    _add_replace(export)
    working.add_options(export, dry_run=_NOTHING)


def _caring(noun: Noun) -> None:
    verify = noun.verb("verify", caring.verify, "check files against their checksums")
    verify.add_argument("models", nargs="*", metavar="MODEL", help=_MODEL)
    verify.add_argument("--all", action="store_true", help="every model in the cache")
    verify.add_argument("--hub", action="store_true", help="against the Hub's hashes")
    verify.add_argument("--connection", help="whose access token and endpoint to use")
    working.add_options(verify, dry_run=None)
    delete = noun.verb("delete", caring.delete, "delete models")
    delete.add_argument("models", nargs="+", metavar="MODEL", help=_MODEL)
    _add_yes(delete)
    prune = noun.verb("prune", caring.prune, "delete what is not needed; say what that is")
    prune.add_argument("--unused", metavar="TIME", help="models not used for 30d, 12h, 8w")
    prune.add_argument("--budget", metavar="SIZE", help="longest unused ones above 200GB in all")
    prune.add_argument("--partials", action="store_true", help="what unfinished downloads left")
    prune.add_argument(
        "--detached",
        action="store_true",
        help="revisions that no connection enables, of models that are there at another one",
    )
    _add_yes(prune)


def _add_replace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--replace", action="store_true", help="overwrite what is there; asks")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def _add_yes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help=_NOTHING)
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def _absolute(path: str) -> str:
    """The controller has another working folder."""
    return str(Path(path).expanduser().absolute())
