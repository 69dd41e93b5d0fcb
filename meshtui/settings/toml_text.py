"""The text of a TOML file with other values in it: comments, order and spelling stay."""

import tomllib
from collections.abc import Mapping
from typing import Any

import tomli_w
import tomlkit
from tomlkit.container import Container
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AbstractTable, AoT, InlineTable, Item, Key, Table

_Body = list[tuple[Key | None, Item]]


def rewritten(text: str, data: Mapping[str, Any]) -> str:
    """The text that holds exactly `data`, as close to `text` as can be. Where its comments
    cannot be kept (tables in another order, say), it is written anew: values come first."""
    anew = tomli_w.dumps(data)
    if text.strip():
        wanted = tomllib.loads(anew)
        try:
            document = tomlkit.parse(text)
            _update(document, wanted)
            result = document.as_string()
            if tomllib.loads(result) == wanted:
                return result
        except (TOMLKitError, ValueError, TypeError, LookupError, AttributeError):
            # What that library cannot take must not keep anybody from saving.
            pass
    return anew


def _update(table: Container | AbstractTable, data: Mapping[str, Any]) -> None:
    for key in [key for key in table if key not in data]:
        del table[key]
    for key, value in data.items():
        before = table.get(key)
        if isinstance(before, AoT) and _is_tables(value) and _update_tables(before, value):
            continue
        if isinstance(before, Container | AbstractTable) and isinstance(value, Mapping):
            _update(before, value)
        elif before is None:
            _add(table, key, value)
        elif _plain(before) != value:
            table[key] = tomlkit.item(value)


def _add(table: Container | AbstractTable, key: str, value: Any) -> None:
    """A new key before the comments at the table's end, which speak of what follows it."""
    if isinstance(table, InlineTable):
        table[key] = value
        return
    tail = _take_tail(table)
    if isinstance(value, Mapping) or _is_tables(value):
        _of(table).append((None, tomlkit.nl()))
    table[key] = tomlkit.item(value)
    _of(table).extend(tail)


def _update_tables(tables: AoT, values: list[dict[str, Any]]) -> bool:
    """Changes them in place; False where they are not in their order any more, and nothing is
    changed. Two are the same where their names are."""
    wanted = [_identity(value) for value in values]
    there = [_identity(_plain(table)) for table in tables]
    staying = [one for one in there if one in wanted]
    if wanted[: len(staying)] != staying or len(set(there)) < len(there):
        return False
    for index in reversed(range(len(there))):
        if there[index] not in wanted:
            tail = _take_tail(tables[index])
            if index:
                # What stood before the one that goes spoke of it.
                _take_tail(tables[index - 1])
                _of(tables[index - 1]).extend(tail)
            del tables[index]
    for number, value in enumerate(values):
        if number < len(staying):
            _update(tables[number], value)
        else:
            last = _of(tables[-1])
            if last and "\n\n" not in last[-1][1].as_string():
                last.append((None, tomlkit.nl()))
            tables.append(tomlkit.item(value))
    return True


def _of(table: Container | AbstractTable) -> _Body:
    return table.body if isinstance(table, Container) else table.value.body


def _take_tail(table: Container | AbstractTable) -> _Body:
    """The comments and empty lines at its end, which are taken away from it."""
    body = _of(table)
    while body and isinstance(body[-1][1], Table):
        body = _of(body[-1][1])
    count = next((n for n, (key, _) in enumerate(reversed(body)) if key is not None), len(body))
    tail = body[len(body) - count :]
    del body[len(body) - count :]
    return tail


def _identity(value: Mapping[str, Any]) -> str:
    """The name of a table in a list: what stands under `model`, `key` or the like."""
    return next((repr(value[key]) for key in ("model", "key", "name") if key in value), repr(value))


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value) and bool(value)


def _plain(item: Any) -> Any:
    return item.unwrap() if hasattr(item, "unwrap") else item
