"""`model_metadata.json`: what is written beside a cached model, in Dataiku's schema.

Times are milliseconds since the epoch, but `lastModified`, which is the Hub's ISO 8601 text.
What we do not know or cannot use is kept byte for byte and written back: unknown fields, and
fields of ours whose value is of another kind (they count as absent). Strings are as they were
written: sanitise them where they are shown.
"""

import json
from typing import Annotated, Any
from urllib.parse import quote

import msgspec

from meshtui.cache.names import key_of, ref_of
from meshtui.domain.errors import InvalidInput
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.text import one_line

VERSION = 0
MAX_BYTES = 1_000_000

# Up to the year 9999, so that every one of them is a date; sizes as far as files go.
_Time = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Texts = tuple[str, ...]
_DEFINITION = "modelDefinition"

# In the order in which they stand in the file: the attribute that holds each, and its type.
_FIELDS: dict[str, tuple[str, Any]] = {
    "commitHash": ("commit_hash", str),
    "downloadDate": ("download_date", _Time),
    "downloadedBy": ("downloaded_by", str),
    "lastDssUsage": ("last_dss_usage", _Time),
    "lastModified": ("last_modified", str),
    "lastUsedBy": ("last_used_by", str),
    "libraryName": ("library_name", str),
    _DEFINITION: ("key", str),
    "pipelineName": ("pipeline_name", str),
    "sizeInBytes": ("size_in_bytes", _Size),
    "taggedLanguages": ("tagged_languages", _Texts),
    "tags": ("tags", _Texts),
    "url": ("url", str),
    "version": ("version", int),
}


class ModelMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a cached model. `url` is empty where the file has none.

    `kept` is the JSON text of every field that is not ours or that holds what we cannot use, by
    its name; `kept_definition` is the same for the fields inside `modelDefinition`.
    """

    key: str
    url: str = ""
    version: int = VERSION
    commit_hash: str | None = None
    download_date: int | None = None
    downloaded_by: str | None = None
    last_dss_usage: int | None = None
    last_modified: str | None = None
    last_used_by: str | None = None
    library_name: str | None = None
    pipeline_name: str | None = None
    size_in_bytes: int | None = None
    tagged_languages: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    kept: dict[str, bytes] = {}
    kept_definition: dict[str, bytes] = {}

    @property
    def ref(self) -> ModelRef:
        return ref_of(self.key)


def hub_url(ref: ModelRef, endpoint: str = "https://huggingface.co") -> str:
    """The page that lists a model's files on the Hub."""
    return f"{endpoint.rstrip('/')}/{quote(ref.model_id)}/tree/{quote(ref.revision or 'main')}"


def new_metadata(ref: ModelRef, **fields: Any) -> ModelMetadata:
    """Metadata of a model, with the URL that belongs to it."""
    return ModelMetadata(key=key_of(ref), url=hub_url(ref), **fields)


def read_metadata(data: bytes) -> ModelMetadata:
    """Raises `InvalidInput` where it is no JSON object, is of another version, or does not name
    its model; everything else that is wrong with it leaves it usable."""
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"The metadata is larger than {MAX_BYTES:,} bytes.")
    raw = _members(data)
    if raw is None:
        raise InvalidInput("The metadata is not a JSON object.")
    version = raw.pop("version", None)
    if version is None or _value(version, int) != VERSION:
        said = one_line(version.decode(errors="replace"), 40) if version else "missing"
        raise InvalidInput(
            f"The metadata's version is {said}; only version {VERSION} is understood."
        )
    definition = _members(raw.pop(_DEFINITION, b"null")) or {}
    key = _value(definition.pop("key", b"null"), str)
    if key is None:
        raise InvalidInput("The metadata does not name its model (modelDefinition.key).")
    ref_of(key)
    known: dict[str, Any] = {}
    for name, (attribute, kind) in _FIELDS.items():
        if name in raw and (value := _value(raw[name], kind)) is not None:
            known[attribute] = value
            del raw[name]
    return ModelMetadata(key=key, kept=raw, kept_definition=definition, **known)


def write_metadata(metadata: ModelMetadata) -> bytes:
    """The file's content; reading it gives equal metadata."""
    kept = dict(metadata.kept)
    lines = []
    for name, (attribute, _) in _FIELDS.items():
        value = getattr(metadata, attribute)
        stored = kept.pop(name, None)
        if name == _DEFINITION:
            lines.append((name, _definition(metadata)))
        elif value is not None and (value or name != "url"):
            lines.append((name, _text(value)))
        elif stored is not None:
            lines.append((name, stored))
    return _object([*lines, *kept.items()], indent=2) + b"\n"


def _definition(metadata: ModelMetadata) -> bytes:
    return _object([("key", _text(metadata.key)), *metadata.kept_definition.items()], indent=4)


def _object(members: list[tuple[str, bytes]], indent: int) -> bytes:
    space = b" " * indent
    lines = b",\n".join(space + _text(name) + b": " + value for name, value in members)
    return b"{\n" + lines + b"\n" + b" " * (indent - 2) + b"}"


def _text(value: object) -> bytes:
    """JSON of a value. Lone surrogates, which UTF-8 cannot hold, are written as escapes."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def _members(data: bytes) -> dict[str, bytes] | None:
    """The members of a JSON object, each as the text that stands there; None for another value.
    Raises `InvalidInput` where it is not JSON."""
    try:
        found = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        return {name: bytes(raw) for name, raw in found.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _lenient_members(data)


def _lenient_members(data: bytes) -> dict[str, bytes] | None:
    """As `_members`, of what the standard library reads too: a byte order mark, `NaN`, lone
    surrogates in names."""
    try:
        found = json.loads(data)
        if not isinstance(found, dict):
            return None
        return {name: _text(value) for name, value in found.items()}
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"The metadata is not JSON: {one_line(str(error), 120)}.") from error


def _value(raw: bytes, kind: Any) -> Any:
    """The value of a JSON text if it is of the kind, else None."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
