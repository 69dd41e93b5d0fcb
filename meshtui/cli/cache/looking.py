"""`meshtui cache list`, `show`, `path` and `transfers`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meshtui.cache.store import ModelStore
from meshtui.cli import exit_codes
from meshtui.cli.cache.working import print_findings
from meshtui.cli.command import print_json
from meshtui.cli.text import ago, duration, percent, size, table
from meshtui.client import ControllerClient
from meshtui.domain.model_cache import CacheEntry, Transfer, Weights
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line, sanitise
from meshtui.settings import paths

# What is largest or newest comes first.
_KEYS: dict[str, Callable[[CacheEntry], Any]] = {
    "name": lambda entry: entry.model.lower(),
    "size": lambda entry: -entry.size_bytes,
    "used": lambda entry: -(entry.last_used_at or 0),
    "downloaded": lambda entry: -(entry.downloaded_at or 0),
    "task": lambda entry: (entry.task or "~", entry.model.lower()),
}
SORTS = tuple(_KEYS)
_CARD_LINES = 12


async def list_(client: ControllerClient, arguments: argparse.Namespace) -> int:
    entries = await client.cache_entries()
    if arguments.filter:
        wanted = arguments.filter.lower()
        entries = [e for e in entries if wanted in " ".join(_row(e)).lower()]
    entries.sort(key=_KEYS[arguments.sort])
    if arguments.json:
        print_json(entries)
        return exit_codes.OK
    if entries:
        head = ("MODEL", "TASK", "SIZE", "REVISION", "WEIGHTS", "LAST USED", "BY", "ENABLED ON")
        print(table((*head, "STATE"), map(_row, entries), right=("SIZE", "LAST USED")))
    usage = await client.cache_usage()
    total = sum(entry.size_bytes for entry in entries)
    print(
        f"{len(entries)} of {usage.entries} models, {size(total)}; "
        f"{size(usage.disk_free_bytes)} free in {one_line(usage.root, 1000)}",
        file=sys.stderr,
    )
    if usage.partials:
        print(
            f"Unfinished downloads hold {size(usage.partial_bytes)}: "
            "meshtui cache prune --partials removes them.",
            file=sys.stderr,
        )
    if usage.problem:
        print(f"meshtui: {one_line(usage.problem, 2000)}", file=sys.stderr)
    return exit_codes.OK


def _row(entry: CacheEntry) -> tuple[str, ...]:
    return (
        entry.model,
        entry.task or "–",
        size(entry.size_bytes),
        (entry.commit or "–")[:10],
        _weights(entry.weights),
        ago(entry.last_used_at),
        entry.last_used_by or "–",
        ", ".join(entry.enabled_on) or "–",
        _state(entry),
    )


def _weights(weights: Weights) -> str:
    return " ".join(filter(None, (weights.dtype, weights.quantization, weights.format.value)))


def _state(entry: CacheEntry) -> str:
    if entry.problem:
        return f"unusable: {entry.problem}"
    words = ["served"] if entry.served_by else []
    if entry.verification is not None:
        words.append("verified" if entry.verification.ok else "damaged")
    if entry.unsafe:
        words.append("pickled")
    return ", ".join(words) or "ready"


async def show(client: ControllerClient, arguments: argparse.Namespace) -> int:
    details = await client.cache_entry(_name(arguments.model))
    if arguments.json:
        print_json(details)
        return exit_codes.OK
    entry = details.entry
    checked = entry.verification
    facts = [
        ("model", entry.model),
        ("state", _state(entry)),
        ("folder", entry.folder),
        ("size", f"{size(entry.size_bytes)}; deleting it frees {size(details.frees_bytes)}"),
        ("commit", entry.commit or "–"),
        ("task", entry.task or "–"),
        ("library", entry.library or "–"),
        ("licence", entry.licence or "–"),
        ("weights", _weights(entry.weights)),
        ("architecture", ", ".join(details.architectures) or "–"),
        ("context", f"{details.context_length:,} tokens" if details.context_length else "–"),
        ("languages", ", ".join(entry.languages) or "–"),
        ("tags", ", ".join(entry.tags) or "–"),
        ("downloaded", f"{ago(entry.downloaded_at)} by {entry.downloaded_by or '–'}"),
        ("last used", f"{ago(entry.last_used_at)} by {entry.last_used_by or '–'}"),
        ("verified", f"{ago(checked.at)} against {checked.against}" if checked else "never"),
        ("enabled on", ", ".join(entry.enabled_on) or "–"),
        ("served by", ", ".join(entry.served_by) or "–"),
        ("runs", details.verdict or "–"),
    ]
    for name, value in facts:
        print(f"{name:<13} {one_line(value, 4000)}")
    rows = ((file.path, size(file.size_bytes), file.sha256 or "–") for file in details.files)
    print(table(("FILE", "SIZE", "SHA-256"), rows, right=("SIZE",)))
    if details.more_files:
        print(f"… and {details.more_files:,} more files")
    for line in sanitise(details.card).strip().splitlines()[:_CARD_LINES]:
        print(f"  {line}")
    print_findings(details.findings, "")
    return exit_codes.OK


async def path(client: ControllerClient, arguments: argparse.Namespace) -> int:
    """Of the disk alone: it needs no controller, and takes no use down."""
    ref = ModelRef.parse(arguments.model)
    folder: Path = ModelStore(paths.models_dir()).get(ref).model_dir
    print_json({"path": str(folder)}) if arguments.json else print(folder)
    return exit_codes.OK


async def transfers(client: ControllerClient, arguments: argparse.Namespace) -> int:
    if arguments.forget:
        await client.remove_transfer(arguments.forget)
        if not arguments.json:
            print(f"{arguments.forget}  forgotten")
        return exit_codes.OK
    if arguments.cancel or arguments.retry:
        one = (
            await client.cancel_transfer(arguments.cancel)
            if arguments.cancel
            else await client.retry_transfer(arguments.retry)
        )
        print_json(one) if arguments.json else print(f"{one.id}  {one.state.value}")
        return exit_codes.OK
    found = await client.transfers()
    if arguments.json:
        print_json(found)
    elif not found:
        print("Nothing goes on with the model cache.", file=sys.stderr)
    else:
        head = ("ID", "WHAT", "MODEL", "STATE", "DONE", "SIZE", "RATE", "LEFT", "NOTE")
        print(table(head, map(_transfer_row, found), right=("DONE", "SIZE", "RATE", "LEFT")))
    return exit_codes.OK


def _transfer_row(transfer: Transfer) -> tuple[str, ...]:
    moving = transfer.rate_bytes_s > 0
    return (
        transfer.id,
        transfer.kind.value,
        transfer.model or transfer.place or "–",
        transfer.state.value,
        percent(transfer.fraction) or "–",
        size(transfer.total_bytes),
        f"{size(int(transfer.rate_bytes_s))}/s" if moving else "–",
        duration(transfer.left_s),
        transfer.error.message if transfer.error else transfer.step,
    )


def _name(text: str) -> str:
    return str(ModelRef.parse(text))
