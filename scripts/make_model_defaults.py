"""Makes config/model_defaults/transformers-<version>.json (and vllm-<version>.json).

    RUNTIME/bin/python scripts/make_model_defaults.py

Run with an interpreter that has transformers; where vLLM is there too, the configuration classes
that it brings are written as a second table. Every class is instantiated, without weights and
without the network. Per `model_type` a table holds:

- `fields`: what an attribute is when a configuration leaves it out,
- `names`: the class's own names for standard attributes (`attribute_map`),
- `sections`: nested configurations and their `model_type`,
- `section_fields`: what nested configurations are when the whole section is left out, as far as
  it differs from the defaults of its own type,
- `text`: the section (dotted, if deeper) that holds the language model,
- `same_as`: attributes that are another one's value when they are left out,
- `head_dim`: `hidden_size // num_attention_heads`, if that is what it becomes,
- `layers`: the rule that gives the type of each layer when the list is left out,
- `gated_window`: `sliding_window` counts only where `use_sliding_window` is true.

A rule is written only after instances with other values were seen to follow it.
"""

import dataclasses
import importlib
import inspect
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import transformers
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

TARGET = Path(__file__).resolve().parent.parent / "config" / "model_defaults"
Kind = type[PreTrainedConfig]

# Attributes of every configuration, and those that say nothing of shapes.
COMMON = set(vars(PreTrainedConfig())) | {"transformers_version", "dtype", "torch_dtype"}
NO_SHAPE = (
    "dropout", "initializer", "token_id", "_eps", "_epsilon", "loss", "_prob", "gradient", "pdrop",
    "num_labels", "id2label", "label2id", "use_cache", "scale", "layerdrop", "mask_", "seed",
    "_name_or_path", "_plan", "_idx", "temperature", "penalty", "beam", "ctc_", "spec_aug",
)  # fmt: skip
LISTS = ("layer_types", "layers_block_type", "mlp_layer_types")
INTERVALS = (
    "sliding_window_pattern", "full_attention_interval", "global_attn_every_n_layers",
    "_sliding_window_pattern", "full_attn_every_n_layers", "attn_layer_period",
)  # fmt: skip
COUNTS = ("first_k_dense_replace",)
# What classes may derive from other sizes: equal values do not mean that they followed.
FOLLOWING = ("head_dim", "num_key_value_heads")


def declared(kind: Kind) -> dict[str, Any]:
    """The defaults that the class's signature names."""
    found = {
        field.name: field.default
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING
    }
    signature = inspect.signature(kind.__init__)
    return found | {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


def plain(value: Any) -> bool:
    """Whether a value can go into the table: short and made of JSON's types."""
    if isinstance(value, float):
        return math.isfinite(value)
    if value is None or isinstance(value, str | bool | int):
        return True
    if isinstance(value, list | tuple):
        return len(value) <= 64 and all(plain(item) for item in value)
    if isinstance(value, dict):
        return len(value) <= 16 and all(isinstance(k, str) and plain(v) for k, v in value.items())
    return False


def kept(name: str, value: Any) -> bool:
    return (
        name not in COMMON
        and not name.startswith("_")
        and not any(part in name for part in NO_SHAPE)
        and plain(value)
    )


def attributes(config: PreTrainedConfig) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(config).items()
        if kept(name, value)
    }


def read(config: object, name: str, default: Any = None) -> Any:
    """An attribute, also where it is a global value that single layers override."""
    try:
        return getattr(config, name, default)
    except Exception:
        return vars(config).get(name, default)


def tried(kind: Kind, **values: Any) -> PreTrainedConfig | None:
    try:
        return kind(**values)
    except Exception:
        return None


def variations(kind: Kind, config: PreTrainedConfig) -> list[PreTrainedConfig]:
    """Instances with other sizes, as far as the class accepts them."""
    hidden, heads = read(config, "hidden_size", None), read(config, "num_attention_heads", 0)
    tries: list[dict[str, Any]] = []
    if isinstance(hidden, int):
        tries += [{"hidden_size": hidden * 3}, {"hidden_size": hidden * 2}]
    if isinstance(heads, int) and heads:
        tries.append({"num_attention_heads": heads * 2})
        if isinstance(hidden, int):
            tries.append({"num_attention_heads": heads * 3, "hidden_size": hidden * 6})
    tries.append({"num_hidden_layers": 17})
    return [found for values in tries if (found := tried(kind, **values)) is not None]


def follows(all_: Iterable[PreTrainedConfig], name: str, rule: Callable[[Any], Any]) -> bool:
    for config in all_:
        try:
            if read(config, name) != rule(config):
                return False
        except Exception:
            return False
    return True


def derived(kind: Kind, config: PreTrainedConfig) -> tuple[dict[str, str], bool]:
    """Attributes without a default of their own that take another one's value, and whether
    `head_dim` is the hidden size over the heads."""
    others = variations(kind, config)
    fixed = declared(kind)
    same: dict[str, str] = {}
    sources = ("num_attention_heads", "hidden_size", "num_hidden_layers", "num_key_value_heads",
               "intermediate_size", "decoder_attention_heads")  # fmt: skip
    for name in attributes(config):
        value = read(config, name, None)
        if isinstance(value, bool) or not isinstance(value, int) or fixed.get(name) is not None:
            continue
        for source in sources:
            moved = [c for c in others if read(c, source, None) != read(config, source, None)]
            if (
                name != source
                and moved
                and follows([config, *others], name, lambda c, s=source: read(c, s))
            ):
                same[name] = source
                break
    quotient = fixed.get("head_dim") is None and follows(
        [config, *others],
        "head_dim",
        lambda c: read(c, "hidden_size") // read(c, "num_attention_heads"),
    )
    return same, quotient and read(config, "head_dim") is not None


def layer_rule(kind: Kind, name: str) -> dict[str, Any] | None:
    """The rule of a list with one entry a layer; None where there is none or none was found."""
    lengths = (4, 7, 12, 23, 31)
    lists = {n: read(tried(kind, num_hidden_layers=n), name, None) for n in lengths}
    if any(not isinstance(entries, list) or len(entries) != n for n, entries in lists.items()):
        return None
    for rule in rules(kind, name, lists):
        if all(apply(rule, n) == entries for n, entries in lists.items()):
            return rule
    print(f"{kind.__name__}.{name}: no rule gives {lists[31]}", file=sys.stderr)
    return None


def apply(rule: dict[str, Any], layers: int) -> list[str]:
    """As meshtui.compat.layer_types applies it, without the configuration's own values."""
    if "from_end" in rule:
        return apply({**rule["from_end"]}, layers)[::-1]
    types = [
        rule["each"] if (i % rule["every"]) == rule["at"] % rule["every"] else rule["others"]
        for i in range(layers)
    ]
    head = rule.get("head")
    if head:
        types[: rule["head_count"]] = [head] * min(rule["head_count"], layers)
    if types and "last" in rule:
        types[-1] = rule["last"]
    return types


def rules(kind: Kind, name: str, lists: dict[int, Any]) -> Iterable[dict[str, Any]]:
    long = lists[31]
    seen = sorted(set(long))
    window = read(kind(), "sliding_window", None)
    if len(seen) == 1:
        rule = {"every": 1, "at": 0, "each": seen[0], "others": seen[0]}
        on = tried(
            kind,
            num_hidden_layers=9,
            use_sliding_window=True,
            sliding_window=64,
            max_window_layers=3,
        )
        if read(on, name) == ["full_attention"] * 3 + ["sliding_attention"] * 6:
            rule["window_from"] = "max_window_layers"
        elif on is not None and "sliding_attention" in read(on, name):
            without = [not value for value in read(on, "no_rope_layers", ())]
            if without == [kind == "sliding_attention" for kind in read(on, name)]:
                rule["window_where_zero"] = "no_rope_layers"
                rule["zero_every"] = "no_rope_layer_interval"
        yield rule
        return
    for first in range(0, 6):
        head = {"head": long[0], "head_count": first} if first else {}
        for last in ({}, {"last": long[-1]}):
            for every in range(2, 13):
                for at in range(every):
                    body = long[first : -1 if last else None]
                    special = {long[i] for i in range(first, first + len(body)) if i % every == at}
                    rest = {long[i] for i in range(first, first + len(body)) if i % every != at}
                    if len(special) == len(rest) == 1 and special != rest:
                        rule = {"every": every, "at": at, "each": special.pop(),
                                "others": rest.pop(), **head, **last}  # fmt: skip
                        yield with_key(kind, name, rule, window)
    for start in range(1, 31):
        if len(set(long[:start])) == 1 and len(set(long[start:])) == 1:
            yield {"every": 1, "at": 0, "each": long[-1], "others": long[-1],
                   "head": long[0], "head_count": start, **count_key(kind, name, long)}  # fmt: skip
    reverse = {n: entries[::-1] for n, entries in lists.items()}
    for every in range(2, 13):
        special = {reverse[31][i] for i in range(31) if i % every == 0}
        rest = {reverse[31][i] for i in range(31) if i % every}
        if len(special) == len(rest) == 1 and special != rest:
            yield {"from_end": {"every": every, "at": 0, "each": special.pop(),
                                    "others": rest.pop()}}  # fmt: skip


def with_key(kind: Kind, name: str, rule: dict[str, Any], window: Any) -> dict[str, Any]:
    """Adds the attribute that sets the interval, and what a missing window does."""
    for key in INTERVALS:
        other = 3 if rule["every"] == 5 else 5
        shown = read(tried(kind, num_hidden_layers=31, **{key: other}), name, None)
        at = other - 1 if rule["at"] == rule["every"] - 1 else rule["at"]
        if shown == apply({**rule, "every": other, "at": at}, 31):
            rule["interval"] = key
            break
    if window is not None:
        shown = read(tried(kind, num_hidden_layers=31, sliding_window=None), name, None)
        if isinstance(shown, list) and "sliding_attention" not in shown:
            rule["without_window"] = shown[0]
    return rule


def count_key(kind: Kind, name: str, long: list[str]) -> dict[str, str]:
    for key in COUNTS:
        shown = read(tried(kind, num_hidden_layers=31, **{key: 4}), name, None)
        if shown == [long[0]] * 4 + [long[-1]] * 27:
            return {"head_count_from": key}
    return {}


def gated_window(kind: Kind) -> bool:
    on = tried(kind, sliding_window=96, use_sliding_window=True)
    off = tried(kind, sliding_window=96, use_sliding_window=False)
    return read(on, "sliding_window", 0) == 96 and not read(off, "sliding_window", 96)


def path_to(config: PreTrainedConfig, wanted: PreTrainedConfig) -> str:
    """The sections that lead to a nested configuration, joined by dots."""
    for name, section in vars(config).items():
        if section is wanted:
            return str(name)
        if isinstance(section, PreTrainedConfig) and (deeper := path_to(section, wanted)):
            return f"{name}.{deeper}"
    return ""


def entry(kind: Kind, known: Callable[[str], PreTrainedConfig | None]) -> dict[str, Any]:
    config = kind()
    nested = {k: v for k, v in vars(config).items() if isinstance(v, PreTrainedConfig)}
    lists: dict[str, Any] = {}
    for name in LISTS:
        if isinstance(read(config, name, None), list) and not declared(kind).get(name):
            rule = layer_rule(kind, name)
            if rule:
                lists[name] = rule
    same, quotient = derived(kind, config)
    fields = {
        name: value
        for name, value in attributes(config).items()
        if value is not None and name not in same and name not in lists and name not in nested
        and not (name == "head_dim" and quotient)
    }  # fmt: skip
    section_fields = {}
    for name, section in nested.items():
        own = known(section.model_type)
        usual = attributes(own) if own is not None else {}
        different = {
            k: v
            for k, v in attributes(section).items()
            if k != "model_type" and (v != usual.get(k) or (v is not None and k in FOLLOWING))
        }
        if different:
            section_fields[name] = different
    found: dict[str, Any] = {"class": kind.__name__, "fields": fields}
    text = config.get_text_config()
    for key, value in {
        "names": dict(kind.attribute_map),
        "sections": {k: v.model_type for k, v in nested.items()},
        "section_fields": section_fields,
        "text": path_to(config, text),
        "same_as": same,
        "head_dim": "hidden_size // num_attention_heads" if quotient else "",
        "layers": lists,
        "gated_window": gated_window(kind),
    }.items():
        if value:
            found[key] = value
    return found


def table(kinds: dict[str, Kind]) -> dict[str, Any]:
    def known(model_type: str) -> PreTrainedConfig | None:
        try:
            kind = kinds.get(model_type) or CONFIG_MAPPING[model_type]
        except KeyError:
            return None
        return tried(kind)

    made = {}
    waiting = sorted(kinds.items())
    while waiting:
        model_type, kind = waiting.pop(0)
        config = None if getattr(kind, "has_no_defaults_at_init", False) else tried(kind)
        if config is None:
            print(f"{model_type}: has no defaults", file=sys.stderr)
            continue
        made[model_type] = entry(kind, known)
        # Classes that are only nested in others have no entry in the library's own list.
        for section in vars(config).values():
            nested = section.model_type if isinstance(section, PreTrainedConfig) else ""
            if nested and nested not in kinds and nested not in CONFIG_MAPPING:
                kinds[nested] = type(section)
                waiting.append((nested, type(section)))
    return dict(sorted(made.items()))


def write(name: str, version: str, model_types: dict[str, Any]) -> None:
    rows = ",\n".join(
        f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}"
        for key, value in model_types.items()
    )
    target = TARGET / f"{name}-{'.'.join(version.split('.')[:2])}.json"
    target.write_text(
        f'{{"source":"the configuration classes of {name} {version}",\n'
        f'"model_types":{{\n{rows}\n}}}}\n'
    )
    print(f"{target.name}: {len(model_types)} model types, {target.stat().st_size} bytes")


def main() -> None:
    logging.disable(logging.CRITICAL)
    transformers.logging.set_verbosity_error()
    write(
        "transformers",
        transformers.__version__,
        table({k: CONFIG_MAPPING[k] for k in CONFIG_MAPPING}),
    )
    try:
        vllm = importlib.import_module("vllm")
        registry = importlib.import_module("vllm.transformers_utils.config")._CONFIG_REGISTRY
    except ImportError:
        return
    write("vllm", vllm.__version__, table({name: registry[name] for name in registry}))


if __name__ == "__main__":
    main()
