"""`model_metadata.json` is read and written without loss."""

import json
import random

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
IDENTITY = b'"modelDefinition":{"key":"hf@org/name"},"version":0'


def encoded(**changes: object) -> bytes:
    return json.dumps({**EXAMPLE, **changes}).encode()


def test_the_known_schema_goes_through_unchanged() -> None:
    metadata = read_metadata(encoded())
    assert metadata.ref == ModelRef("sentence-transformers/all-MiniLM-L6-v2")
    assert json.loads(write_metadata(metadata)) == EXAMPLE
    assert list(json.loads(write_metadata(metadata))) == list(EXAMPLE)


def test_it_looks_as_other_programs_write_it() -> None:
    assert write_metadata(read_metadata(encoded())).decode().splitlines()[:12] == [
        "{",
        '  "commitHash": "8b3219a92973c328a8e22fadcfa821b5dc75636a",',
        '  "downloadDate": 1726759632016,',
        '  "downloadedBy": "admin",',
        '  "lastDssUsage": 1726759632016,',
        '  "lastModified": "2024-06-21T10:37:46.000Z",',
        '  "lastUsedBy": "admin",',
        '  "libraryName": "sentence-transformers",',
        '  "modelDefinition": {',
        '    "key": "hf@sentence-transformers/all-MiniLM-L6-v2"',
        "  },",
        '  "pipelineName": "sentence-similarity",',
    ]


def test_unknown_fields_survive_at_every_level() -> None:
    definition = {"key": "hf@org/name", "origin": {"deep": [1, None]}}
    data = encoded(modelDefinition=definition, novelty={"x": {"y": [{}]}}, nothing=None)
    changed = msgspec.structs.replace(read_metadata(data), last_used_by="someone")
    written = json.loads(write_metadata(changed))
    assert written["modelDefinition"] == definition
    assert written["novelty"] == {"x": {"y": [{}]}}
    assert written["nothing"] is None
    assert written["lastUsedBy"] == "someone"


def test_all_but_the_identity_may_be_missing() -> None:
    data = {"modelDefinition": {"key": "hf@org/name@v1"}, "version": 0}
    metadata = read_metadata(json.dumps(data).encode())
    assert metadata.ref == ModelRef("org/name", "v1")
    assert metadata.url == ""
    assert json.loads(write_metadata(metadata)) == data


def test_new_metadata_names_the_page_of_its_revision() -> None:
    metadata = new_metadata(ModelRef.parse("org/name@v1"))
    assert metadata.url == "https://huggingface.co/org/name/tree/v1"


@pytest.mark.parametrize(
    ("name", "attribute", "value"),
    [
        ("tags", "tags", "x"),
        ("tags", "tags", ["en", 1]),
        ("taggedLanguages", "tagged_languages", {"en": True}),
        ("sizeInBytes", "size_in_bytes", "big"),
        ("sizeInBytes", "size_in_bytes", -1),
        ("sizeInBytes", "size_in_bytes", 2**63),
        ("downloadDate", "download_date", 10**30),
        ("lastDssUsage", "last_dss_usage", True),
        ("lastDssUsage", "last_dss_usage", 1.5),
        ("lastModified", "last_modified", 1726759632016),
        ("commitHash", "commit_hash", []),
        ("pipelineName", "pipeline_name", None),
    ],
)
def test_a_field_of_another_kind_is_absent_and_stays(
    name: str, attribute: str, value: object
) -> None:
    metadata = read_metadata(encoded(**{name: value}))
    assert getattr(metadata, attribute) is None
    written = json.loads(write_metadata(metadata))
    assert written == {**EXAMPLE, name: value}
    assert list(written) == list(EXAMPLE)


def test_a_new_value_takes_the_place_of_what_could_not_be_used() -> None:
    metadata = read_metadata(encoded(lastDssUsage="yesterday"))
    used = msgspec.structs.replace(metadata, last_dss_usage=5)
    assert json.loads(write_metadata(used))["lastDssUsage"] == 5


def test_hostile_strings_are_stored_as_they_were() -> None:
    hostile = "\x1b]52;c;AAAA\x07\u202eevil\x00"
    metadata = read_metadata(encoded(downloadedBy=hostile, tags=[hostile], **{hostile: 1}))
    assert metadata.downloaded_by == hostile
    assert read_metadata(write_metadata(metadata)) == metadata
    assert json.loads(write_metadata(metadata))[hostile] == 1


@pytest.mark.parametrize(
    "more",
    [
        b'"x": NaN, "y": -Infinity',
        b'"x": 1e999, "y": 1.10, "z": 1E2',
        b'"x": ' + b"9" * 6000,
        b'"sizeInBytes": ' + b"9" * 6000,
        b'"x": 1, "x": 2, "tags": ["a"], "tags": ["b"]',
        b'"x": "\\ud800", "tags": ["\\udfff"], "downloadedBy": "\\ud83d"',
        b'"\\ud800": 1',
        b'"x": ' + b"[" * 500 + b"]" * 500,
        b'"x": {"a": 1, "a": 2}',
        b'"": "", "\\"": "\\u0000"',
    ],
)
def test_odd_json_is_read_and_written_back(more: bytes) -> None:
    metadata = read_metadata(b"{" + IDENTITY + b"," + more + b"}")
    assert metadata.ref == ModelRef("org/name")
    written = write_metadata(msgspec.structs.replace(metadata, last_used_by="someone"))
    again = read_metadata(written)
    assert write_metadata(again) == written
    assert again.ref == metadata.ref


def test_numbers_that_we_do_not_know_keep_their_digits() -> None:
    metadata = read_metadata(b'{"x": 1.10, "y": ' + b"9" * 6000 + b"," + IDENTITY + b"}")
    written = write_metadata(metadata)
    assert b'"x": 1.10' in written
    assert b'"y": ' + b"9" * 6000 in written


def test_a_name_that_utf_8_cannot_hold_is_written_all_the_same() -> None:
    metadata = msgspec.structs.replace(read_metadata(encoded()), last_used_by="a\udcff")
    assert json.loads(write_metadata(metadata))["lastUsedBy"] == "a\udcff"


def test_a_byte_order_mark_is_no_obstacle() -> None:
    assert read_metadata(b"\xef\xbb\xbf" + encoded()).commit_hash == EXAMPLE["commitHash"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"x": ' + b"[" * 100_000, "not JSON"),
        (encoded(version=1), "version is 1"),
        (encoded(version="0"), 'version is "0"'),
        (encoded(version=False), "version is false"),
        (encoded(version=None), "version is null"),
        (b'{"modelDefinition": {"key": "hf@org/name"}}', "version is missing"),
        (encoded(version="\x1b[2J" + "x" * 1000), "version is .{30,60};"),
        (encoded(modelDefinition={}), "does not name its model"),
        (encoded(modelDefinition="x"), "does not name its model"),
        (encoded(modelDefinition={"key": 1}), "does not name its model"),
        (encoded(modelDefinition={"key": "hf@../../etc"}), "not a model name"),
        (encoded(modelDefinition={"key": "hf@" + "x" * 500_000}), "not a model's key"),
        (b" " * 1_000_001, "larger than"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        read_metadata(data)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400


def test_whatever_the_bytes_only_one_kind_of_error_comes() -> None:
    """Cut, flipped, doubled and mixed up: it is read, or it is said to be invalid."""
    chance = random.Random(11)
    whole = encoded(novelty={"x": [1.5, None, "é"]})
    read = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data))
            end = at + chance.randint(1, 12)
            match chance.randrange(4):
                case 0:
                    del data[at:end]
                case 1:
                    data[at:end] = chance.randbytes(end - at)
                case 2:
                    data[at:at] = data[at:end]
                case _:
                    data[at:end] = chance.choice((b"null", b"NaN", b"{", b"]", b'"', b"\\ud800"))
        try:
            metadata = read_metadata(bytes(data))
        except InvalidInput:
            continue
        read += 1
        assert read_metadata(write_metadata(metadata)) == metadata
    assert read
