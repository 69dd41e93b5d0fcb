"""What a verdict rests on here. When that changes, the question is asked again."""

from collections.abc import Hashable

from meshtui.domain.runtime import BuildPhase

from ..state import State


def basis(state: State, model: str) -> Hashable:
    """Equal before and after what does not concern the verdict on the model: its files in the
    cache, the connections that enable it, the runtimes that are built, and when its servers were
    last ready, for what they logged then counts."""
    entry = (state.entries or {}).get(model)
    servers = [server for server in state.servers.values() if server.model == model]
    return (
        (entry.commit, entry.size_bytes, entry.problem) if entry else None,
        tuple((o.connection, repr(o.enabled)) for o in state.models if o.enabled.model == model),
        tuple(
            (runtime.name, runtime.phase is BuildPhase.READY, runtime.vllm_version)
            for runtime in state.runtimes.values()
        ),
        tuple(sorted(server.ready_at for server in servers if server.ready_at)),
    )
