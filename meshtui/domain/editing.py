"""What somebody who changes a connection sees of it, and what is wrong with the change."""

from typing import Literal

import msgspec

from meshtui.domain.connection import DEFAULT_IDLE_TIMEOUT_S, Connection

# In place of a revision: whatever is there may be replaced.
ANY_REVISION = "*"


class EditableConnection(msgspec.Struct, frozen=True, kw_only=True):
    """A connection and where it stands. `revision` tells its file from what it becomes when
    somebody else saves; None: there is no file of the user's yet. `shipped`: meshtui brings one of
    that name, which counts where there is no file at `path`. `default_idle_timeout_s` is the user's
    for models that name none. `locked` says why this user may not change it, where that is so."""

    connection: Connection
    revision: str | None = None
    shipped: bool = False
    path: str = ""
    default_idle_timeout_s: float = DEFAULT_IDLE_TIMEOUT_S
    locked: str = ""


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a connection, and where: keys and positions from 0, as
    `("enabled_models", 0, "max_tokens")`."""

    at: tuple[str | int, ...]
    reason: str


class TokenOwner(msgspec.Struct, frozen=True, kw_only=True):
    """Whose an access token is, as the Hub says; never the token. `role` is what it may do."""

    account: str
    kind: Literal["user", "org"] = "user"
    token_name: str | None = None
    role: str | None = None
