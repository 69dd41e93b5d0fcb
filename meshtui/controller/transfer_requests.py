"""What a transfer was asked to do: bodies of requests, and what is remembered of them on disk."""

from typing import ClassVar

import msgspec

from meshtui.domain.model_cache import BuildWishes, ExportWishes, TransferKind


class _Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    kind: ClassVar[TransferKind]

    @property
    def named(self) -> str | None:
        """The model, where it is known before the work begins."""
        return None

    @property
    def place(self) -> str | None:
        """The archive or folder that is read or written."""
        return None

    @property
    def same(self) -> tuple[str, ...]:
        """Two live requests with equal `same` are one."""
        return (self.kind, self.named or "", self.place or "")


class DownloadRequest(_Request, frozen=True, kw_only=True, tag="download"):
    """`files` None: those that an engine needs."""

    kind = TransferKind.DOWNLOAD
    model: str
    connection: str | None = None
    files: tuple[str, ...] | None = None
    replace: bool = False

    @property
    def named(self) -> str | None:
        return self.model


class ImportRequest(_Request, frozen=True, kw_only=True, tag="import"):
    kind = TransferKind.IMPORT
    path: str
    replace: bool = False

    @property
    def place(self) -> str | None:
        return self.path


class BuildRequest(_Request, frozen=True, kw_only=True, tag="build"):
    kind = TransferKind.BUILD
    path: str
    wishes: BuildWishes = BuildWishes()
    replace: bool = False

    @property
    def named(self) -> str | None:
        return self.wishes.model

    @property
    def place(self) -> str | None:
        return self.path


class AdoptRequest(_Request, frozen=True, kw_only=True, tag="adopt"):
    """`folder` is the snapshot's."""

    kind = TransferKind.ADOPT
    folder: str
    replace: bool = False
    allow_copy: bool = False

    @property
    def place(self) -> str | None:
        return self.folder


class ExportRequest(_Request, frozen=True, kw_only=True, tag="export"):
    kind = TransferKind.EXPORT
    model: str
    wishes: ExportWishes

    @property
    def named(self) -> str | None:
        return self.model

    @property
    def place(self) -> str | None:
        return self.wishes.folder

    @property
    def same(self) -> tuple[str, ...]:
        return (*super().same, self.wishes.container)


class VerifyRequest(_Request, frozen=True, kw_only=True, tag="verify"):
    kind = TransferKind.VERIFY
    model: str
    against_hub: bool = False
    connection: str | None = None

    @property
    def named(self) -> str | None:
        return self.model

    @property
    def same(self) -> tuple[str, ...]:
        return (*super().same, "hub" if self.against_hub else "checksums")


Request = (
    DownloadRequest | ImportRequest | BuildRequest | AdoptRequest | ExportRequest | VerifyRequest
)
