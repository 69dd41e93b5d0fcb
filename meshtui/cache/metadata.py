"""`model_metadata.json`: what is written beside a cached model, in Dataiku's schema.

Times are milliseconds since the epoch, but `lastModified`, which is the Hub's ISO 8601 text.
Fields that we do not know are kept and written back.
"""

import json
from typing import Any
from urllib.parse import quote

import msgspec

from meshtui.cache.names import key_of, ref_of
from meshtui.domain.errors import InvalidInput
from meshtui.domain.model_ref import ModelRef

VERSION = 0
MAX_BYTES = 1_000_000


class ModelMetadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is known of a cached model. `unknown` holds the fields that are not ours."""

    key: str = msgspec.field(name="modelDefinition.key")
    url: str
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
    unknown: dict[str, Any] = {}

    @property
    def ref(self) -> ModelRef:
        return ref_of(self.key)


# In the order in which they stand in the file.
_FIELDS = (
    "commitHash",
    "downloadDate",
    "downloadedBy",
    "lastDssUsage",
    "lastModified",
    "lastUsedBy",
    "libraryName",
    "modelDefinition",
    "pipelineName",
    "sizeInBytes",
    "taggedLanguages",
    "tags",
    "url",
    "version",
)


def hub_url(ref: ModelRef, endpoint: str = "https://huggingface.co") -> str:
    """The page that lists a model's files on the Hub."""
    return f"{endpoint.rstrip('/')}/{quote(ref.model_id)}/tree/{quote(ref.revision or 'main')}"


def new_metadata(ref: ModelRef, **fields: Any) -> ModelMetadata:
    """Metadata of a model, with the URL that belongs to it."""
    return ModelMetadata(key=key_of(ref), url=hub_url(ref), **fields)


def read_metadata(data: bytes) -> ModelMetadata:
    """Raises `InvalidInput` that says what is wrong with it."""
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"The metadata is larger than {MAX_BYTES:,} bytes.")
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"The metadata is not JSON: {error}.") from error
    if not isinstance(raw, dict):
        raise InvalidInput("The metadata is not a JSON object.")
    version = raw.get("version")
    if type(version) is not int or version != VERSION:
        raise InvalidInput(
            f"The metadata has version {version!r}; only version {VERSION} is understood."
        )
    definition = raw.get("modelDefinition")
    key = definition.get("key") if isinstance(definition, dict) else None
    if not isinstance(key, str):
        raise InvalidInput("The metadata does not name its model (modelDefinition.key).")
    ref_of(key)
    unknown: dict[str, Any] = {name: raw[name] for name in raw if name not in _FIELDS}
    if isinstance(definition, dict) and len(definition) > 1:
        unknown["modelDefinition"] = {k: v for k, v in definition.items() if k != "key"}
    known = {name: raw[name] for name in _FIELDS if name in raw and name != "modelDefinition"}
    try:
        return msgspec.convert(
            {**known, "modelDefinition.key": key, "unknown": unknown}, ModelMetadata
        )
    except msgspec.ValidationError as error:
        raise InvalidInput(f"The metadata is not valid: {error}.") from error


def write_metadata(metadata: ModelMetadata) -> bytes:
    """The file's content; reading it gives equal metadata."""
    plain = msgspec.to_builtins(metadata)
    unknown = plain.pop("unknown")
    definition = {"key": plain.pop("modelDefinition.key"), **unknown.pop("modelDefinition", {})}
    plain["modelDefinition"] = definition
    ordered = {name: plain[name] for name in _FIELDS if plain.get(name) is not None}
    return json.dumps({**ordered, **unknown}, indent=2, ensure_ascii=False).encode() + b"\n"
