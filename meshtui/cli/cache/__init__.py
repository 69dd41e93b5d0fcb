"""`meshtui cache`: the models on disk."""

from meshtui.cli.cache.nouns import run

__all__ = ["run"]
