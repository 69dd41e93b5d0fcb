"""`model_metadata.json` is read and written without loss."""

import json

import msgspec
import pytest

from meshtui.cache.metadata import new_metadata, read_metadata, write_metadata
from meshtui.domain.errors import InvalidInput
from meshtui.domain.model_ref import ModelRef

# The example of Dataiku's documentation, shortened in its tags.
EXAMPLE = {
    "commitHash": "8b3219a92973c328a8e22fadcfa821b5dc75636a",
    "downloadDate": 1726759632016,
    "downloadedBy": "admin",
    "lastDssUsage": 1726759632016,
    "lastModified": "2024-06-21T10:37:46.000Z",
    "lastUsedBy": "admin",
    "libraryName": "sentence-transformers",
    "modelDefinition": {"key": "hf@sentence-transformers/all-MiniLM-L6-v2"},
    "pipelineName": "sentence-similarity",
    "sizeInBytes": 91652688,
    "taggedLanguages": ["en"],
    "tags": ["sentence-transformers", "pytorch", "license:apache-2.0"],
    "url": "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/tree/main",
    "version": 0,
}


def encoded(**changes: object) -> bytes:
    return json.dumps({**EXAMPLE, **changes}).encode()


def test_the_known_schema_goes_through_unchanged() -> None:
    metadata = read_metadata(encoded())
    assert metadata.ref == ModelRef("sentence-transformers/all-MiniLM-L6-v2")
    assert json.loads(write_metadata(metadata)) == EXAMPLE
    assert list(json.loads(write_metadata(metadata))) == list(EXAMPLE)


def test_unknown_fields_survive_at_both_levels() -> None:
    definition = {"key": "hf@org/name", "origin": {"deep": [1, None]}}
    data = encoded(modelDefinition=definition, novelty={"x": 1}, nothing=None)
    changed = msgspec.structs.replace(read_metadata(data), last_used_by="someone")
    written = json.loads(write_metadata(changed))
    assert written["modelDefinition"] == definition
    assert written["novelty"] == {"x": 1}
    assert written["nothing"] is None
    assert written["lastUsedBy"] == "someone"


def test_all_but_the_identity_may_be_missing() -> None:
    data = {"modelDefinition": {"key": "hf@org/name@v1"}, "url": "u", "version": 0}
    metadata = read_metadata(json.dumps(data).encode())
    assert metadata.ref == ModelRef("org/name", "v1")
    assert json.loads(write_metadata(metadata)) == data


def test_new_metadata_names_the_page_of_its_revision() -> None:
    metadata = new_metadata(ModelRef.parse("org/name@v 1".replace(" ", "")))
    assert metadata.url == "https://huggingface.co/org/name/tree/v1"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (encoded(version=1), "version 1"),
        (encoded(version="0"), "version '0'"),
        (encoded(version=False), "version False"),
        (encoded(modelDefinition={}), "does not name its model"),
        (encoded(modelDefinition="x"), "does not name its model"),
        (encoded(modelDefinition={"key": "hf@../../etc"}), "not a model name"),
        (encoded(tags="x"), "not valid"),
        (encoded(sizeInBytes="big"), "not valid"),
        (b" " * 1_000_001, "larger than"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read_metadata(data)
