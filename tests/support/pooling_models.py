"""Fake models of every task of text, on the connection `local`."""

import tomli_w

from meshtui.domain.task import Task
from meshtui.settings import paths

MODELS: dict[str, tuple[Task, tuple[str, ...]]] = {
    "fake/hello": (Task.TEXT_GENERATION, ()),
    "fake/embedder": (Task.FEATURE_EXTRACTION, ()),
    "fake/slow-embedder": (Task.FEATURE_EXTRACTION, ("--pooling-s", "600")),
    "fake/reranker": (Task.TEXT_RANKING, ()),
    "fake/classifier": (Task.TEXT_CLASSIFICATION, ()),
}


def enable_pooling(models: dict[str, tuple[Task, tuple[str, ...]]] = MODELS) -> None:
    """Writes the connection's file, before a controller is started with its own."""
    path = paths.config_dir() / "connections" / "local.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    enabled = [
        {"model": model, "task": task.value, "extra_engine_args": list(options)}
        for model, (task, options) in models.items()
    ]
    path.write_text(tomli_w.dumps({"enabled_models": enabled}))
