"""Configurations spoilt on purpose, the same for the same seed."""

import copy
import random
from typing import Any

_WRONG: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    10**6,
    10**18,
    10**40,
    -(10**30),
    0.5,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "auto",
    "4096",
    "\x1b[2J",
    [],
    [None],
    [[]],
    ["full_attention", 3],
    [10**30] * 3,
    list(range(70)),
    ["sliding_attention"] * 5000,
    {},
    {"a": {"b": []}},
    {"0": {"head_dim": "x"}, "99999999": {}},
)


def mutated(source: dict[str, Any], seed: int) -> dict[str, Any]:
    """A copy in which some values are of another type, huge, missing, or taken from elsewhere."""
    chosen = random.Random(seed)
    changed = copy.deepcopy(source)
    for _ in range(chosen.randint(1, 6)):
        holder = chosen.choice(_objects(changed))
        keys = list(holder)
        if not keys:
            continue
        key = chosen.choice(keys)
        match chosen.randint(0, 5):
            case 0:
                del holder[key]
            case 1:
                holder[key] = copy.deepcopy(holder[chosen.choice(keys)])
            case 2:
                holder[key] = _nested(chosen.randint(1, 200))
            case _:
                holder[key] = copy.deepcopy(chosen.choice(_WRONG))
    return changed


def every_field_wrong(source: dict[str, Any]) -> list[dict[str, Any]]:
    """For each field of each object one copy with each kind of wrong value in it."""
    spoilt = []
    for place, holder in enumerate(_objects(source)):
        for number, key in enumerate(list(holder)):
            changed = copy.deepcopy(source)
            _objects(changed)[place][key] = copy.deepcopy(
                _WRONG[(number * 7 + place) % len(_WRONG)]
            )
            spoilt.append(changed)
    return spoilt


def wrong_values() -> tuple[Any, ...]:
    return _WRONG


def _objects(value: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if isinstance(value, dict):
        found.append(value)
        for inner in value.values():
            found += _objects(inner)
    return found[:200]


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"text_config": value}
    return value
