"""How numbers, times and states are put in words and signs."""

import time

from meshtui.domain.model_cache import Transfer, TransferKind, TransferState
from meshtui.domain.runtime import BuildPhase
from meshtui.domain.server import Phase, ServerStatus
from meshtui.domain.task import Engine

# Each state has a sign besides its colour, so that 16 colours and NO_COLOR lose nothing.
READY, WORKING, FAILED, ABSENT, ATTENTION = "●", "◐", "✗", "○", "!"
# What comes into the cache, and what goes out of it.
COMING, GOING = "⇣", "⇡"

_ORDER = (
    Phase.QUEUED,
    Phase.BUILDING_RUNTIME,
    Phase.FETCHING_MODEL,
    Phase.SCHEDULING,
    Phase.PULLING_IMAGE,
    Phase.STARTING,
    Phase.LOADING_WEIGHTS,
    Phase.WARMING,
)
# What every start passes through; the other phases are shown once they are lived through.
_ALWAYS = (Phase.STARTING, Phase.LOADING_WEIGHTS, Phase.WARMING)

_TO_DO = {
    Phase.QUEUED: "Queue",
    Phase.FETCHING_MODEL: "Fetch model",
    Phase.BUILDING_RUNTIME: "Build runtime",
    Phase.SCHEDULING: "Schedule",
    Phase.PULLING_IMAGE: "Pull image",
    Phase.STARTING: "Start engine",
    Phase.LOADING_WEIGHTS: "Load weights",
    Phase.WARMING: "Warm up",
    Phase.READY: "Ready",
    Phase.STOPPING: "Stop",
    Phase.STOPPED: "Stopped",
    Phase.FAILED: "Failed",
}
_DOING = {
    Phase.QUEUED: "queued",
    Phase.FETCHING_MODEL: "fetching the model",
    Phase.BUILDING_RUNTIME: "building the runtime",
    Phase.SCHEDULING: "scheduling",
    Phase.PULLING_IMAGE: "pulling the image",
    Phase.STARTING: "starting the engine",
    Phase.LOADING_WEIGHTS: "loading weights",
    Phase.WARMING: "warming up",
    Phase.READY: "ready",
    Phase.STOPPING: "stopping",
    Phase.STOPPED: "stopped",
    Phase.FAILED: "failed",
}

_TASKS = {
    "text-generation": "chat",
    "image-text-to-text": "vision",
    "feature-extraction": "embedding",
    "sentence-similarity": "embedding",
    "text-ranking": "rerank",
    "text-classification": "classify",
    "text-to-image": "image",
}

_TRANSFERRING = {
    TransferKind.DOWNLOAD: ("downloading", "downloaded"),
    TransferKind.IMPORT: ("importing", "imported"),
    TransferKind.EXPORT: ("exporting", "exported"),
    TransferKind.BUILD: ("building", "built"),
    TransferKind.ADOPT: ("adopting", "adopted"),
    TransferKind.VERIFY: ("verifying", "verified"),
    TransferKind.DELETE: ("deleting", "deleted"),
}


def to_do(phase: Phase) -> str:
    """The phase as a step of a plan."""
    return _TO_DO[phase]


def doing(phase: Phase) -> str:
    """The phase as what is going on."""
    return _DOING[phase]


def still_to_come(lived: tuple[Phase, ...]) -> list[Phase]:
    """The phases that surely follow those that were lived through, in their usual order."""
    reached = max((_ORDER.index(phase) for phase in lived if phase in _ORDER), default=-1)
    return [phase for phase in _ALWAYS if phase not in lived and _ORDER.index(phase) > reached]


def phase_sign(phase: Phase | None) -> tuple[str, str]:
    """The sign of a server's state and the theme variable of its colour."""
    if phase is None or phase is Phase.STOPPED:
        return ABSENT, "$muted"
    if phase is Phase.READY:
        return READY, "$success"
    if phase is Phase.FAILED:
        return FAILED, "$error"
    return WORKING, "$warning"


def build_sign(phase: BuildPhase) -> tuple[str, str]:
    """The sign of a runtime's state and the theme variable of its colour."""
    return {
        BuildPhase.ABSENT: (ABSENT, "$muted"),
        BuildPhase.BUILDING: (WORKING, "$warning"),
        BuildPhase.READY: (READY, "$success"),
        BuildPhase.FAILED: (FAILED, "$error"),
    }[phase]


def transfer_sign(transfer: Transfer) -> tuple[str, str]:
    """The sign of what goes on with the cache and the theme variable of its colour."""
    match transfer.state:
        case TransferState.DONE:
            return READY, "$success"
        case TransferState.FAILED:
            return FAILED, "$error"
        case TransferState.CANCELLED:
            return ABSENT, "$muted"
    tone = "$warning" if transfer.state is TransferState.RUNNING else "$muted"
    match transfer.kind:
        case TransferKind.VERIFY | TransferKind.DELETE:
            return WORKING, tone
        case TransferKind.EXPORT:
            return GOING, tone
    return COMING, tone


def transferring(kind: TransferKind) -> str:
    """The kind as what is going on: `downloading`."""
    return _TRANSFERRING[kind][0]


def transferred(kind: TransferKind) -> str:
    """The kind as what was done: `downloaded`."""
    return _TRANSFERRING[kind][1]


def task(tag: str | None) -> str:
    """What a model is for, in one word where the Hub's tag has a usual one."""
    return _TASKS.get(tag, tag) if tag else "–"


def phase_text(server: ServerStatus) -> str:
    """The state of a server with its progress, in a few words."""
    words = doing(server.phase)
    progress = server.current.progress if server.current else None
    if server.phase.is_starting and progress is not None:
        return f"{words} {percent(progress)}"
    return words


def engine_text(engine: Engine | None, version: str | None) -> str:
    """`vLLM 0.32.0`, `transformers`, or a dash."""
    if engine is None:
        return "–"
    return f"{engine.label} {version}" if version else engine.label


def percent(fraction: float) -> str:
    return f"{min(max(fraction, 0.0), 1.0) * 100:.0f}%"


def bar(fraction: float, width: int) -> tuple[str, str]:
    """A progress bar of `width` cells: its full and its empty part."""
    full = round(min(max(fraction, 0.0), 1.0) * width)
    return "━" * full, "━" * (width - full)


def clock(seconds: float) -> str:
    """A duration that ticks: `0:07`, `1:15`, `1:02:03`."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, second = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{second:02}" if hours else f"{minutes}:{second:02}"


def span(seconds: float) -> str:
    """A duration in its largest unit: `12 s`, `12 m`, `2 h`, `3 d`."""
    whole = max(0, int(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def time_of_day(epoch: float) -> str:
    """`14:05` for today, else `3 Mar 14:05`."""
    then, today = time.localtime(epoch), time.localtime()
    if then[:3] == today[:3]:
        return time.strftime("%H:%M", then)
    return f"{then.tm_mday} {time.strftime('%b %H:%M', then)}"


def size(count_bytes: int | None) -> str:
    """Bytes in decimal units: `270 MB`, `16.1 GB`, `412 GB`."""
    if count_bytes is None:
        return "–"
    value = float(count_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.1f} GB" if unit == "GB" and value < 99.95 else f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def rate(bytes_s: float) -> str:
    """`212 MB/s`."""
    return f"{size(int(bytes_s))}/s"


def short_time(seconds: float | None) -> str:
    """`72 ms`, `1.4 s`, `75 s`."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def plural(count: int, noun: str) -> str:
    """`1 server`, `2 servers`, `39,936 tokens`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
