"""The managed cache as everybody sees it: entries, what a step would do, and what goes on.

Sizes are bytes, times seconds since the epoch. Models are named `org/name[@revision]`.
"""

from enum import StrEnum
from typing import Literal

import msgspec

from meshtui.domain.errors import ErrorInfo
from meshtui.domain.finding import Finding, Level


class WeightsFormat(StrEnum):
    """How weights are stored."""

    SAFETENSORS = "safetensors"
    PICKLE = "pickle"
    GGUF = "gguf"
    ONNX = "onnx"
    NONE = "none"


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """The weights of a model. `dtype` is that of most bytes, as safetensors names it (`BF16`);
    `shards` counts weight files; `quantization` is the method that the configuration names."""

    format: WeightsFormat = WeightsFormat.NONE
    dtype: str | None = None
    shards: int = 0
    size_bytes: int = 0
    quantization: str | None = None


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The newest check of an entry's files. `against` says with what they were compared."""

    at: float
    against: Literal["checksums", "hub"]
    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        return all(finding.level is not Level.BLOCKER for finding in self.findings)


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A model in the managed cache.

    `problem` is set where it cannot be used (`model` is then the folder's name if that is all
    there is). `unsafe` are files that can run code when they are loaded. `task` is the Hub's
    pipeline tag. `enabled_on` are connections, `served_by` the ids of running servers.
    """

    model: str
    folder: str
    size_bytes: int = 0
    problem: str | None = None
    commit: str | None = None
    downloaded_at: float | None = None
    downloaded_by: str | None = None
    last_used_at: float | None = None
    last_used_by: str | None = None
    last_modified: str | None = None
    task: str | None = None
    library: str | None = None
    licence: str | None = None
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    url: str = ""
    weights: Weights = Weights()
    unsafe: tuple[str, ...] = ()
    has_checksums: bool = False
    verification: Verification | None = None
    enabled_on: tuple[str, ...] = ()
    served_by: tuple[str, ...] = ()


class CacheFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file below `model/`; `sha256` where our checksums have it."""

    path: str
    size_bytes: int
    sha256: str | None = None


class CacheDetails(msgspec.Struct, frozen=True, kw_only=True):
    """All of an entry. `files` are the first of very many; `more_files` is how many there are
    besides. `card` is the model card's text without its front matter, shortened; `frees_bytes` is
    what deleting it gives back (files with other hard links give nothing); `verdict` says on what
    it would run here (`on vLLM 0.32.0 on A10 24GB`), or why it would not."""

    entry: CacheEntry
    files: tuple[CacheFile, ...] = ()
    more_files: int = 0
    card: str = ""
    architectures: tuple[str, ...] = ()
    context_length: int | None = None
    frees_bytes: int = 0
    findings: tuple[Finding, ...] = ()
    verdict: str = ""


class CacheUsage(msgspec.Struct, frozen=True, kw_only=True):
    """How full the cache and its disk are. `partial_bytes` is what unfinished downloads hold;
    `problem` says why nothing can be written there."""

    root: str
    entries: int = 0
    used_bytes: int = 0
    partials: int = 0
    partial_bytes: int = 0
    disk_total_bytes: int = 0
    disk_free_bytes: int = 0
    problem: str | None = None


class TransferKind(StrEnum):
    """What goes on with the cache."""

    DOWNLOAD = "download"
    IMPORT = "import"
    EXPORT = "export"
    BUILD = "build"
    ADOPT = "adopt"
    VERIFY = "verify"
    DELETE = "delete"


class TransferState(StrEnum):
    """Where a transfer is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        return self in (TransferState.DONE, TransferState.FAILED, TransferState.CANCELLED)


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """A step on the cache that takes its time.

    `model` is None where it is not known yet. `place` is the archive or folder that it reads or
    writes. `total_bytes` is None while unknown; `rate_bytes_s` is that of the last seconds.
    `findings` are its outcome beside success: what verify saw, what an import warns of.
    """

    id: str
    kind: TransferKind
    state: TransferState
    model: str | None = None
    place: str | None = None
    step: str = ""
    done_bytes: int = 0
    total_bytes: int | None = None
    rate_bytes_s: float = 0.0
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    error: ErrorInfo | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def fraction(self) -> float | None:
        return min(1.0, self.done_bytes / self.total_bytes) if self.total_bytes else None

    @property
    def left_s(self) -> float | None:
        """Seconds to go at this rate; None while nothing moves or the whole is unknown."""
        if self.total_bytes is None or self.rate_bytes_s <= 0:
            return None
        return max(0, self.total_bytes - self.done_bytes) / self.rate_bytes_s


class PlannedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a repository, and whether it would be fetched; `reason` says why (not)."""

    path: str
    size_bytes: int
    selected: bool
    reason: str = ""


class DownloadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a download would fetch. `have_bytes` is there already from an earlier attempt."""

    model: str
    commit: str
    files: tuple[PlannedFile, ...]
    have_bytes: int = 0
    free_bytes: int = 0
    cached: bool = False
    licence: str | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def total_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files if file.selected)


class ImportPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What an import would bring in, read from the archive's or folder's list.

    `container` is `zip`, `tar`, `tar.gz`, `tar.zst` or `folder`. A blocker among the findings
    means that it would be refused. `replaces`: an entry of that model is in the cache.
    """

    source: str
    container: str
    model: str | None = None
    files: int = 0
    size_bytes: int = 0
    replaces: bool = False
    free_bytes: int = 0
    task: str | None = None
    commit: str | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def possible(self) -> bool:
        return all(finding.level is not Level.BLOCKER for finding in self.findings)


class BuildPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry made of a plain folder or a git clone would be. `None` fields could not be
    read from the files: a person may say them. `links`: no byte is copied."""

    source: str
    model: str | None = None
    commit: str | None = None
    task: str | None = None
    library: str | None = None
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    files: int = 0
    size_bytes: int = 0
    free_bytes: int = 0
    links: bool = False
    replaces: bool = False
    findings: tuple[Finding, ...] = ()


class BuildWishes(msgspec.Struct, frozen=True, kw_only=True):
    """What a person says of a folder from which an entry is built; None: what the files say."""

    model: str | None = None
    commit: str | None = None
    task: str | None = None
    library: str | None = None
    languages: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None


Container = Literal["zip", "tar", "tar.zst", "folder"]


class ExportWishes(msgspec.Struct, frozen=True, kw_only=True):
    """How to export. `folder` is where the archive (or the entry's folder) goes. `checksums`:
    `beside` the archive, `inside` it (unknown whether others accept that), or `none`.
    `volume_bytes`: split into files of at most that size."""

    folder: str
    container: Container = "zip"
    volume_bytes: int | None = None
    checksums: Literal["beside", "inside", "none"] = "beside"
    replace: bool = False


class ExportPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What an export would write: `paths` are the files (the folder, for `folder`)."""

    model: str
    paths: tuple[str, ...]
    files: int
    size_bytes: int
    free_bytes: int
    findings: tuple[Finding, ...] = ()


class HubCacheRepo(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot in the standard Hugging Face cache. `model` is how it would be adopted: with
    its revision where that is not the default branch. `how` says what adopting costs."""

    model: str
    commit: str
    folder: str
    files: int
    size_bytes: int
    refs: tuple[str, ...] = ()
    last_modified_at: float | None = None
    cached: bool = False
    how: Literal["link", "reflink", "copy"] = "link"
    findings: tuple[Finding, ...] = ()


class DeletePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What deleting an entry means. `refusal` says why it may not be deleted now."""

    model: str
    size_bytes: int
    frees_bytes: int
    enabled_on: tuple[str, ...] = ()
    served_by: tuple[str, ...] = ()
    refusal: str | None = None


class PruneWishes(msgspec.Struct, frozen=True, kw_only=True):
    """What may go: entries not used for `unused_s`; the longest unused ones until at most
    `budget_bytes` are left; half downloads (not those under way); entries at a revision that no
    connection enables, of models that are there at another revision too."""

    unused_s: float | None = None
    budget_bytes: int | None = None
    partials: bool = False
    detached: bool = False


class PruneItem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that prune would remove. `partial` is the folder's name of a half download."""

    model: str
    reason: str
    frees_bytes: int
    partial: str | None = None


class PrunePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What prune would remove, and what it spares although it is wanted (`kept`, with reasons)."""

    items: tuple[PruneItem, ...] = ()
    kept: tuple[PruneItem, ...] = ()

    @property
    def frees_bytes(self) -> int:
        return sum(item.frees_bytes for item in self.items)
