"""Tells what is seen of a server now from what was so before our own last change."""

from meshtui.deploy.kubernetes.api import Json


class Sight:
    """A watch tells everything, but late: what it shows right after a change of ours may be what
    was before. What is older than our own newest answer is not believed."""

    def __init__(self) -> None:
        self._uid = ""
        self._generation = 0
        self._appeared = True

    def made(self, deployment: Json) -> None:
        """The answer to a change of ours: nothing older is believed from now on."""
        meta = deployment["metadata"]
        if meta["uid"] != self._uid:
            self._uid, self._generation, self._appeared = meta["uid"], 0, False
        self._generation = max(self._generation, meta.get("generation", 0))

    def is_stale(self, deployment: Json | None) -> bool:
        """Whether this is what was before. None: it is not there."""
        if deployment is None:
            return not self._appeared
        meta = deployment["metadata"]
        if meta["uid"] != self._uid:
            # Another one than ours: that of before, or of whoever made it anew.
            return not self._appeared
        if meta.get("generation", 0) < self._generation:
            return True
        self._appeared = True
        return False
