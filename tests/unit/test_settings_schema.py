"""Schemas and the reference page are current, complete, and agree with what is read."""

import json
import tomllib
from pathlib import Path

import msgspec
import pytest

from meshtui.domain.described import help_of
from meshtui.settings.schema import KINDS, Kind, page, schema
from scripts.make_reference import stale
from tests.layout import REPOSITORY

by_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def test_the_page_and_the_schemas_are_current() -> None:
    assert stale() == [], "run: python scripts/make_reference.py"


@by_kind
def test_every_key_says_what_it_means(kind: Kind) -> None:
    for name, part in {"": schema(kind), **schema(kind).get("$defs", {})}.items():
        for key, field in part.get("properties", {}).items():
            assert field.get("description") or key == "kind", f"{name}.{key}"
    assert help_of(kind.type).keys() == set(kind.type.__struct_fields__)


@by_kind
def test_the_example_of_each_kind_is_read(kind: Kind) -> None:
    data = tomllib.loads(kind.example)
    value = msgspec.convert({**data, "name": "x"} if kind.is_named else data, kind.type)
    assert isinstance(value, kind.type)
    assert kind.example in page()


@by_kind
def test_what_is_shipped_keeps_to_its_schema(kind: Kind) -> None:
    known = schema(kind)["properties"].keys()
    folder = REPOSITORY / "config" / kind.place.partition("/")[0]
    for path in folder.glob("*.toml"):
        assert tomllib.loads(path.read_text()).keys() <= known, path


@by_kind
def test_a_schema_asks_for_nothing_that_a_file_need_not_have(kind: Kind) -> None:
    text = json.dumps(schema(kind))
    assert "null" not in text
    assert "name" not in schema(kind).get("required", [])
    assert Path(REPOSITORY / "config" / "schemas" / f"{kind.name}.json").exists()
