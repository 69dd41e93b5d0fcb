"""Names of models: `org/name` or `org/name@revision`."""

import re
from typing import Self

import msgspec

from meshtui.domain.errors import InvalidInput

# The Hub's rule for repository ids (huggingface_hub.utils.validate_repo_id): one or two parts
# of letters, digits, `-`, `_`, `.`; 96 characters at most; no `--` or `..`; a part neither
# starts nor ends with `-` or `.`. It is restated here because the Hub's client is not loaded
# just to read a name.
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_MODEL_ID = re.compile(rf"{_PART}(?:/{_PART})?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}")
_MAX_ID_CHARS = 96


class ModelRef(msgspec.Struct, frozen=True):
    """A model on the Hub, at a revision or at its default branch (`revision` is None)."""

    model_id: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `org/name[@revision]`; raises `InvalidInput` that says what is wrong."""
        model_id, at, revision = text.strip().partition("@")
        if (
            len(model_id) > _MAX_ID_CHARS
            or not _MODEL_ID.fullmatch(model_id)
            or "--" in model_id
            or ".." in model_id
        ):
            raise InvalidInput(
                f"{text!r} is not a model name.",
                hint="Write it as on the Hub: org/name or org/name@revision.",
            )
        if at and (not _REVISION.fullmatch(revision) or ".." in revision):
            raise InvalidInput(
                f"{revision!r} is not a revision.",
                hint="A revision is a branch, a tag or a commit hash: org/name@revision.",
            )
        return cls(model_id, revision or None)

    @property
    def name(self) -> str:
        """The part behind the organisation, for places with little room."""
        return self.model_id.rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.model_id}@{self.revision}" if self.revision else self.model_id
