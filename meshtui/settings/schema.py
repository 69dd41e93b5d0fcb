"""JSON schemas of the files of settings, and the page that tells people what may stand in them.

Both are made from the types that read the files, so that they say what is really read. Editors
with taplo (VS Code's "Even Better TOML") complete and check with the schemas.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from meshtui.domain.connection import Connection
from meshtui.domain.execution import KubernetesExecution
from meshtui.domain.preset import Preset
from meshtui.domain.runtime import RuntimeDefinition
from meshtui.settings.config import Config

Schema = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Kind(msgspec.Struct, frozen=True):
    """A kind of file: its schema's name, its type, its place in the folder of settings, what it is
    for, and one to begin with."""

    name: str
    type: type[msgspec.Struct]
    place: str
    about: str
    example: str

    @property
    def is_named(self) -> bool:
        """Whether the file's name is the object's, and need not stand in it."""
        return "NAME" in self.place


KINDS = (
    Kind(
        "config",
        Config,
        "config.toml",
        "Settings of the whole workstation. meshtui reads this file and never writes it. What "
        "stands in `/etc/meshtui/config.toml` counts for every user of the machine, over their "
        "own: `meshtui controller status` shows it as locked.",
        "[servers]\nidle_timeout_s = 600\n",
    ),
    Kind(
        "connection",
        Connection,
        "connections/NAME.toml",
        "Where models may run, with which stack, and which ones. `meshtui connection` and the "
        "Connections screen write these files, and leave comments and unknown keys in them.",
        'access_token = "env:HF_TOKEN"\n\n[properties]\n"engine.completion" = "AUTO"\n\n'
        '[[enabled_models]]\nmodel = "Qwen/Qwen3-0.6B"\nmax_tokens = 32768\n',
    ),
    Kind(
        "execution",
        KubernetesExecution,
        "execution/NAME.toml",
        "How servers become pods of a Kubernetes cluster. `local`, this machine, needs no file.",
        'kind = "kubernetes"\ncontext = "gpu-cluster"\nnamespace = "models"\ngpus = 1\n',
    ),
    Kind(
        "runtime",
        RuntimeDefinition,
        "runtimes/NAME.toml",
        "The pinned engine stack of this machine. A file with the name of a shipped runtime "
        "changes that one key by key.",
        'requirements = ["vllm==0.32.0"]\nindex_url = "https://pypi.example.com/simple"\n',
    ),
    Kind(
        "preset",
        Preset,
        "presets/NAME.toml",
        "A model that is offered when one is chosen. A file with the name of a shipped preset "
        "takes its place.",
        'model = "acme/chat-8b"\npurpose = "chat"\ntask = "text-generation"\n\n'
        "[[settings]]\ngpu_gb = 24\nmax_tokens = 16384\n",
    ),
)


def schema(kind: Kind) -> Schema:
    """The JSON schema of a kind of file, as TOML has it: nothing is null, and a name that the file
    has anyway is not asked for."""
    found = msgspec.json.schema(kind.type)
    parts = {name: _in_toml(part) for name, part in found.pop("$defs", {}).items()}
    top = parts.pop(kind.type.__name__)
    required = [name for name in top.pop("required", []) if not (kind.is_named and name == "name")]
    return {
        "$schema": _DIALECT,
        "title": kind.place,
        "description": kind.about,
        "type": "object",
        **({"required": required} if required else {}),
        "properties": top["properties"],
        **({"$defs": parts} if parts else {}),
    }


def _in_toml(part: Any) -> Any:
    if isinstance(part, list):
        return [_in_toml(one) for one in part]
    if not isinstance(part, dict):
        return part
    made = {key: _in_toml(value) for key, value in part.items()}
    if isinstance(made.get("description"), str):
        # Of a docstring the first paragraph is for people who set it.
        made["description"] = " ".join(made["description"].split("\n\n")[0].split())
    if isinstance(made.get("anyOf"), list):
        left = [one for one in made.pop("anyOf") if one != {"type": "null"}]
        made = {**left[0], **made} if len(left) == 1 else {"anyOf": left, **made}
    if made.get("default") is None or isinstance(made["default"], dict | tuple):
        # Nothing, or what a section says of its own keys.
        made.pop("default", None)
    return made


def page() -> str:
    """The reference page, in Markdown."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield "# Files of settings"
    yield ""
    yield "<!-- Made by scripts/make_reference.py from the types in meshtui/: run it again. -->"
    yield ""
    yield (
        "All of them are TOML, in `$XDG_CONFIG_HOME/meshtui` (`~/.config/meshtui`). They are read "
        "again as soon as they are saved. A file that is broken is shown with its line, is never "
        "written over, and its last good version stays in force. Keys that are not listed here are "
        "kept and ignored. No file holds a secret: they name where one is."
    )
    yield ""
    yield "Editors complete and check them with the schemas in `config/schemas/`. With taplo:"
    yield ""
    yield "```toml"
    yield "# .taplo.toml in the folder of settings"
    for kind in KINDS:
        yield "[[rule]]"
        yield f'include = ["{kind.place.replace("NAME", "*")}"]'
        yield f'schema.path = "/path/to/schemas/{kind.name}.json"'
    yield "```"
    for kind in KINDS:
        yield from _section(kind)


def _section(kind: Kind) -> Iterator[str]:
    whole = schema(kind)
    yield ""
    yield f"## `{kind.place}`"
    yield ""
    yield kind.about
    yield ""
    yield "```toml"
    yield kind.example.rstrip("\n")
    yield "```"
    yield ""
    parts: Mapping[str, Schema] = whole.get("$defs", {})
    sections = dict(_sections(whole, parts))
    yield from _table(whole, parts, sections)
    for name, header in sections.items():
        yield ""
        yield f"### `{header}`"
        yield ""
        # What follows the first sentence is about fields, which speak for themselves here.
        about = parts[name]["description"].partition(". ")[0].rpartition("`: ")[2]
        yield f"{about[:1].upper()}{about[1:].rstrip('.')}."
        yield ""
        yield from _table(parts[name], parts, sections)


def _sections(
    part: Schema, parts: Mapping[str, Schema], above: str = ""
) -> Iterator[tuple[str, str]]:
    """The types of tables inside, each with the header that it has in TOML."""
    for key, field in part["properties"].items():
        is_list = field.get("type") == "array"
        name = (field["items"] if is_list else field).get("$ref", "").rpartition("/")[2]
        if "properties" in parts.get(name, {}):
            place = f"{above}{key}"
            yield name, f"[[{place}]]" if is_list else f"[{place}]"
            yield from _sections(parts[name], parts, f"{place}.")


def _table(part: Schema, parts: Mapping[str, Schema], sections: Mapping[str, str]) -> Iterator[str]:
    required = part.get("required", [])
    yield "| key | value | default | |"
    yield "|---|---|---|---|"
    for key, field in part["properties"].items():
        default = "required" if key in required else _default(field)
        said = field.get("description", "").replace("|", "\\|")
        yield f"| `{key}` | {_value(field, parts, sections)} | {default} | {said} |"


def _default(field: Schema) -> str:
    value = field.get("default", "")
    return "" if value == "" else f"`{msgspec.json.encode(value).decode()}`"


def _value(field: Schema, parts: Mapping[str, Schema], sections: Mapping[str, str]) -> str:
    """The type in words: `text`, `list of text`, one of some words, or a section below."""

    def value(inner: Schema) -> str:
        return _value(inner, parts, sections)

    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"section `{sections[name]}`" if name in sections else value(parts[name])
    if "enum" in field:
        return ", ".join(f"`{one}`" if one else "empty" for one in field["enum"])
    match field.get("type"):
        case "array" if "section" in (of := value(field["items"])):
            return of.replace("section", "sections")
        case "array":
            return f"list of {value(field['items'])}"
        case "object":
            inner = field.get("additionalProperties")
            return f"table of {value(inner)}" if inner else "table"
        case "boolean":
            return "`true`, `false`"
        case "integer":
            return "whole number"
        case "number":
            return "number"
    return "text"
