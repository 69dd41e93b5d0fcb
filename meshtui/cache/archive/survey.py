"""One pass over an archive's list: what it holds, and what is wrong with it."""

from collections.abc import Iterator

import msgspec

from meshtui.cache.archive.findings import blocker, refusal
from meshtui.cache.archive.judging import about_others, about_pointers, is_pointer
from meshtui.cache.archive.layout import Role, is_left_out, may_be, role_of
from meshtui.cache.archive.members import Advance, Archive, Kind, Member
from meshtui.cache.archive.names import Namespace, Parts, Refused, parts_of, shown
from meshtui.cache.archive.sums import read_inside
from meshtui.cache.checksums import MOST_BYTES
from meshtui.cache.metadata import MAX_BYTES, ModelMetadata, read_metadata
from meshtui.cache.store import CHECKSUMS, METADATA, MODEL
from meshtui.domain.errors import InvalidInput
from meshtui.domain.finding import Finding, Level
from meshtui.hub.safetensors_header import read_header

_SHOWN = 20


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive holds. `files` are sizes by path below `model`; `root` is the root folder
    (empty: there is none); `metadata` is None where it is missing or cannot be used."""

    root: Parts = ()
    metadata: ModelMetadata | None = None
    metadata_bytes: bytes = b""
    files: dict[str, int] = {}
    sums: dict[str, str] | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(self.files.values())

    @property
    def blockers(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level is Level.BLOCKER]


class Admission:
    """The rules for members, in the order in which they come."""

    def __init__(self) -> None:
        self._namespace = Namespace()

    def admit(self, member: Member) -> Parts | None:
        """Its path; None for what is no file of an entry, but harmless. Raises `Refused`."""
        parts = parts_of(member.name)
        if not parts or is_left_out(parts):
            return None
        if member.kind is Kind.LINK:
            raise Refused(
                "link",
                f"{shown(member.name)} is a link.",
                hint="Pack the files themselves: tar --dereference --hard-dereference.",
            )
        if member.kind is Kind.SPECIAL:
            raise Refused("special", f"{shown(member.name)} is neither a file nor a folder.")
        self._namespace.add(parts, is_file=member.kind is Kind.FILE)
        return parts if member.kind is Kind.FILE else None


def survey(archive: Archive, advance: Advance, *, identity_only: bool = False) -> Survey:
    """Reads the list, the metadata, checksums inside, and the headers of weights. With
    `identity_only` it ends when the metadata was seen. Raises `OSError` only: what is wrong with
    the archive is among the findings."""
    pass_ = _Pass()
    try:
        for member in archive.members(advance):
            advance(0)
            try:
                pass_.see(member)
            except Refused as error:
                pass_.refuse(error)
                if error.rule == "count" or len(pass_.refused) >= _SHOWN:
                    break
            if identity_only and pass_.metadata:
                break
    except InvalidInput as error:
        pass_.refuse(error)
    return pass_.result()


class _Pass:
    """What was seen so far. Which folder is the root is known at the end only."""

    def __init__(self) -> None:
        self._admission = Admission()
        self._sizes: dict[Parts, int] = {}
        self._headers: dict[Parts, str] = {}
        self._sums: dict[Parts, bytes] = {}
        self._pointers: list[Parts] = []
        self.metadata: dict[Parts, bytes] = {}
        self.refused: list[Finding] = []

    def refuse(self, error: InvalidInput) -> None:
        self.refused.append(refusal(error))

    def see(self, member: Member) -> None:
        parts = self._admission.admit(member)
        if parts is None:
            return
        self._sizes[parts] = member.size_bytes
        if may_be(parts, METADATA) and len(self.metadata) < _SHOWN:
            if member.size_bytes > MAX_BYTES:
                raise Refused("metadata", f"The metadata is larger than {MAX_BYTES:,} bytes.")
            self.metadata[parts[:-1]] = member.read(MAX_BYTES)
        elif may_be(parts, CHECKSUMS) and not self._sums:
            if member.size_bytes > MOST_BYTES:
                raise Refused("checksums", "The checksums in it are too many.")
            self._sums[parts[:-1]] = member.read(MOST_BYTES)
        elif parts[-1].endswith(".safetensors"):
            self._look_at_weights(parts, member)

    def _look_at_weights(self, parts: Parts, member: Member) -> None:
        start = member.read(8)
        if is_pointer(start, member.size_bytes):
            self._pointers.append(parts)
            return
        try:
            # The two reads of a header follow each other.
            read_header(
                lambda offset, length: start if offset == 0 else member.read(length),
                member.size_bytes,
            )
        except InvalidInput as error:
            self._headers[parts] = error.message

    def result(self) -> Survey:
        root, known = self._root()
        findings = list(self.refused)
        metadata = None
        content = self.metadata.get(root, b"")
        if known:
            try:
                metadata = read_metadata(content)
            except InvalidInput as error:
                findings.append(blocker("metadata", error.message))
        elif not self.refused:
            findings.append(
                blocker(
                    "metadata",
                    f"There is no {METADATA} in it, which names the model.",
                    "A plain folder of a model becomes an entry with: meshtui cache build",
                )
            )
        files: dict[str, int] = {}
        others: list[str] = []
        for parts, size in self._sizes.items():
            role, path = role_of(parts, root)
            if role is Role.MODEL:
                files[path] = size
            elif role is Role.OTHER:
                others.append("/".join(parts))
        if known:
            findings += self._about(root, files, others)
        sums, wrong = self._sums_of(root)
        return Survey(
            root=root,
            metadata=metadata,
            metadata_bytes=content,
            files=files,
            sums=sums,
            findings=(*findings, *wrong),
        )

    def _root(self) -> tuple[Parts, bool]:
        """Where the metadata is; and whether there is one place for it."""
        if () in self.metadata:
            return (), True
        roots = list(self.metadata)
        if len(roots) > 1:
            self.refused.append(
                blocker(
                    "roots",
                    f"It holds several models: {shown(roots[0][0])}, {shown(roots[1][0])}.",
                    "Unpack it, and import the folder: each model in it becomes an entry.",
                )
            )
            return (), False
        if roots:
            return roots[0], True
        tops = {parts[:1] for parts in self._sizes if len(parts) > 1}
        return (tops.pop() if len(tops) == 1 else ()), False

    def _about(self, root: Parts, files: dict[str, int], others: list[str]) -> Iterator[Finding]:
        if not files and not self.refused:
            yield blocker("model", f"There is no folder {MODEL} in it, or nothing in that.")
        outside = [name for name in others if root and not name.startswith(f"{root[0]}/")]
        if outside:
            yield blocker("roots", f"{shown(outside[0])} lies outside of its root folder.")
        else:
            yield from about_others(others)
        for parts, message in list(self._headers.items())[:_SHOWN]:
            if role_of(parts, root)[0] is Role.MODEL:
                yield blocker("header", f"{shown(parts[-1])}: {message}")
        yield from about_pointers([parts[-1] for parts in self._pointers])

    def _sums_of(self, root: Parts) -> tuple[dict[str, str] | None, list[Finding]]:
        if root not in self._sums:
            return None, []
        try:
            return read_inside(self._sums[root]), []
        except InvalidInput as error:
            return None, [refusal(error, "checksums")]
