"""All of an entry, for a person who looks at one."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from meshtui.cache.checksums import read_checksums
from meshtui.cache.facts import EntryFacts, files_below, json_file, read_entry_facts
from meshtui.cache.freed import FreedBytes
from meshtui.cache.index import CacheIndex
from meshtui.cache.pickles import foreign_imports
from meshtui.cache.store import CHECKSUMS, MODEL, ModelStore
from meshtui.domain.errors import InvalidInput, Unavailable
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_cache import CacheDetails, CacheFile
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line

_MOST_CARD_CHARS = 8_000
_MOST_FILES = 2_000
# Larger pickles are left to verify, which says how far it is.
_MOST_PICKLE_BYTES = 256_000_000


def details(store: ModelStore, ref: ModelRef, index: CacheIndex | None = None) -> CacheDetails:
    """Files with their checksums, the card, and what is to be known before loading it. `index`
    saves a second look. Raises `NotFound` or `Unavailable`; blocks."""
    entry = (index or CacheIndex(store)).get(ref)
    folder = store.folder(ref)
    try:
        files = files_below(folder / MODEL)
    except FileNotFoundError:
        files = {}
    except OSError as error:
        raise Unavailable(
            f"The files of {ref} cannot be read: {error.strerror}.",
            hint="Check the owner and the rights of the cache folder.",
        ) from error
    facts = read_entry_facts(folder / MODEL, files) if files else EntryFacts()
    sums, broken = _checksums(folder)
    card = facts.card.text
    if len(card) > _MOST_CARD_CHARS:
        card = card[:_MOST_CARD_CHARS].rsplit("\n", 1)[0] + "\n…"
    return CacheDetails(
        entry=entry,
        files=tuple(
            CacheFile(path=one_line(path), size_bytes=size, sha256=sums.get(path))
            for path, size in list(files.items())[:_MOST_FILES]
        ),
        more_files=max(0, len(files) - _MOST_FILES),
        card=card,
        architectures=facts.architectures,
        context_length=facts.context_length,
        frees_bytes=FreedBytes().add(folder),
        findings=(*broken, *_findings(folder / MODEL, files, facts)),
    )


def _checksums(folder: Path) -> tuple[Mapping[str, str], tuple[Finding, ...]]:
    try:
        return read_checksums(folder / CHECKSUMS) or {}, ()
    except InvalidInput as error:
        found = Finding(
            rule="checksums",
            level=Level.WARNING,
            message=error.message,
            fix="Verify the entry against the Hub.",
        )
        return {}, (found,)


def _findings(model_dir: Path, files: Mapping[str, int], facts: EntryFacts) -> Iterator[Finding]:
    if facts.weights.shards == 0:
        yield Finding(
            rule="weights",
            level=Level.WARNING,
            message="There are no weights in it.",
            fix="Download the model again, with all of its files.",
        )
    weight_map = json_file(model_dir / "model.safetensors.index.json").get("weight_map")
    if isinstance(weight_map, dict):
        named = {name for name in weight_map.values() if isinstance(name, str)}
        if missing := sorted(named - set(files)):
            yield Finding(
                rule="shard",
                level=Level.BLOCKER,
                message=f"{len(missing)} of {len(named)} weight files are missing: "
                f"{one_line(missing[0], 100)}.",
                fix="Download the model again.",
            )
    if facts.custom_code:
        yield Finding(
            rule="custom-code",
            level=Level.WARNING,
            message="It brings Python code of its own, which runs with your rights if the model's "
            "setting trust_remote_code allows it.",
            fix="Read the code first, and pin the revision that you have read.",
        )
    for path in facts.unsafe:
        if not path.endswith(".py"):
            yield _pickle(model_dir, path, files.get(path, 0))


def _pickle(model_dir: Path, path: str, size_bytes: int) -> Finding:
    message = f"{one_line(path, 100)} is a pickle: loading it can run code."
    if size_bytes <= _MOST_PICKLE_BYTES:
        try:
            imports = foreign_imports(model_dir / path)
        except OSError:
            imports = ["?"]
        known = ["something hidden" if name == "?" else name for name in imports[:5]]
        message += (
            f" It imports {', '.join(known)}, which weights do not need."
            if imports
            else " It imports only what weights need."
        )
    return Finding(
        rule="pickle",
        level=Level.WARNING,
        message=message,
        fix="Prefer a repository with safetensors files.",
    )
