"""Makes config/architectures/vllm-<version>.json or transformers-<version>.json.

    python scripts/make_vllm_tables.py PACKAGE_OR_WHEEL...

Each argument is an installed package folder (`site-packages/vllm`, `site-packages/transformers`)
or a wheel. Sources are read with `ast`; nothing is imported, so neither torch nor a GPU is needed.
"""

import ast
import json
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "config" / "architectures"

# The registry's tables, under the names that ours have.
VLLM_TABLES = {
    "_TEXT_GENERATION_MODELS": "text_generation",
    "_MULTIMODAL_MODELS": "multimodal",
    "_TRANSFORMERS_SUPPORTED_MODELS": "through_transformers",
    "_TRANSFORMERS_BACKEND_MODELS": "through_transformers",
    "_EMBEDDING_MODELS": "embedding",
    "_LATE_INTERACTION_MODELS": "embedding",
    "_REWARD_MODELS": "reward",
    "_TOKEN_CLASSIFICATION_MODELS": "classification",
    "_SEQUENCE_CLASSIFICATION_MODELS": "classification",
    "_CROSS_ENCODER_MODELS": "classification",
    "_SPECULATIVE_DECODING_MODELS": "speculative",
    # Before 0.11 the one class that wraps a model of transformers stood alone.
    "_TRANSFORMERS_MODELS": "through_transformers",
}
# What `transformers serve` can generate text with: it takes the class that a configuration's
# first architecture names, or AutoModelForMultimodalLM for the model types of that mapping.
TRANSFORMERS_TABLES = (
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
)

Read = Callable[[str], str]


def assigned(tree: ast.Module) -> dict[str, ast.expr]:
    """Module-level names and the expressions assigned to them."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            found[node.target.id] = node.value
    return found


def literal_items(node: ast.expr) -> list[tuple[Any, Any]]:
    """Key and value of a dict display, or of `OrderedDict([...])`, where both are literals."""
    pairs: list[tuple[ast.expr | None, ast.expr]] = []
    if isinstance(node, ast.Dict):
        pairs = list(zip(node.keys, node.values, strict=True))
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.List):
        for element in node.args[0].elts:
            if isinstance(element, ast.Tuple) and len(element.elts) == 2:
                pairs.append((element.elts[0], element.elts[1]))
    items = []
    for key, value in pairs:
        try:
            items.append((ast.literal_eval(key) if key else None, ast.literal_eval(value)))
        except ValueError:
            continue
    return [(key, value) for key, value in items if key is not None]


def string_list(node: ast.expr) -> list[str]:
    """The strings of a list display or of `Literal[...]`."""
    return [
        n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    ]


def capabilities(read: Read, names: list[str]) -> dict[str, tuple[list[str], int | None]]:
    """Per class of the quantization package: its bases and what `get_min_capability` returns."""
    found: dict[str, tuple[list[str], int | None]] = {}
    for name in names:
        for node in ast.walk(ast.parse(read(name))):
            if not isinstance(node, ast.ClassDef):
                continue
            floor: int | None = None
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name == "get_min_capability":
                    returned = [
                        r.value.value
                        for r in ast.walk(method)
                        if isinstance(r, ast.Return)
                        and isinstance(r.value, ast.Constant)
                        and isinstance(r.value.value, int)
                    ]
                    floor = min(returned) if returned else None
            found[node.name] = ([ast.unparse(base) for base in node.bases], floor)
    return found


def floor_of(classes: dict[str, tuple[list[str], int | None]], name: str) -> int | None:
    """The class's own floor or the one that it inherits."""
    bases, floor = classes.get(name, ([], None))
    if floor is not None:
        return floor
    inherited = [floor_of(classes, base) for base in bases if base != name]
    return next((value for value in inherited if value is not None), None)


def quantization(read: Read, names: list[str]) -> dict[str, int | None]:
    """Each method that vLLM knows, with ten times the compute capability that it needs (None:
    not a plain constant)."""
    package = "model_executor/layers/quantization/"
    tree = ast.parse(read(package + "__init__.py"))
    methods = string_list(assigned(tree)["QuantizationMethods"])
    inside = [n for n in names if n.startswith((package, "models/deepseek_v4"))]
    classes = capabilities(read, [n for n in inside if n.endswith(".py")])
    config_class: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Name):
                    config_class[str(key.value)] = value.id
    known = {"deepseek_config": "DeepseekV4FP8Config"}
    return {
        method: floor_of(
            classes,
            known.get(
                config_class.get(method, ""), config_class.get(method, "OnlineQuantizationConfig")
            ),
        )
        for method in methods
    }


def takes_gptq_desc_act(read: Read, names: list[str]) -> bool:
    """Whether GPTQ weights with activation ordering by groups are still taken."""
    name = "model_executor/layers/quantization/utils/gptq_utils.py"
    return name not in names or "(desc_act=True) is no longer" not in read(name)


def minimum_capability(version: str) -> int:
    """Ten times the compute capability that the CUDA wheels are built for at least: 7.5 since
    0.21, 7.0 before (vLLM's installation guide, "Requirements" of the GPU page)."""
    return 75 if tuple(int(n) for n in re.findall(r"\d+", version)[:2]) >= (0, 21) else 70


def parsers(read: Read, names: list[str], folder: str) -> list[str]:
    """The names of the parsers in the folders that end so: those that their modules register, and
    (newer releases) those that the package registers before they are loaded."""
    found: set[str] = set()
    for name in names:
        if not re.search(rf"(^|/){folder}/[^/]+\.py$", name):
            continue
        tree = ast.parse(read(name))
        for variable, value in assigned(tree).items():
            if variable.endswith("_PARSERS_TO_REGISTER"):
                found.update(str(key) for key, _ in literal_items(value))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr == "register_module":
                given = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "name")]
                found.update(text for one in given for text in string_list(one))
    return sorted(found)


def table_of(module: dict[str, ast.expr], variable: str) -> dict[Any, Any]:
    """A dict display of literals, sorted; empty where the module has none of that name."""
    return dict(sorted(literal_items(module[variable]))) if variable in module else {}


def vllm_table(read: Read, names: list[str], version: str) -> dict[str, Any]:
    registry = assigned(ast.parse(read("model_executor/models/registry.py")))
    groups: dict[str, set[str]] = {name: set() for name in VLLM_TABLES.values()}
    for variable, group in VLLM_TABLES.items():
        if variable in registry:
            groups[group].update(str(key) for key, _ in literal_items(registry[variable]))
    return {
        "package": "vllm",
        "version": version,
        "source": "vllm/model_executor/models/registry.py and layers/quantization, read with ast",
        "architectures": {group: sorted(found) for group, found in groups.items()},
        # Releases before 0.10 and before 0.20, respectively, had no such table.
        "previously_supported": table_of(registry, "_PREVIOUSLY_SUPPORTED_MODELS"),
        "plugins": table_of(registry, "_OOT_SUPPORTED_MODELS"),
        "quantization": dict(sorted(quantization(read, names).items())),
        "gptq_desc_act": takes_gptq_desc_act(read, names),
        "minimum_capability": minimum_capability(version),
        "tool_parsers": parsers(read, names, "tool_parsers"),
        "reasoning_parsers": parsers(read, names, "reasoning"),
    }


def transformers_table(read: Read, names: list[str], version: str) -> dict[str, Any]:
    auto = assigned(ast.parse(read("models/auto/modeling_auto.py")))
    architectures: set[str] = set()
    for variable in TRANSFORMERS_TABLES:
        for _, value in literal_items(auto[variable]):
            architectures.update([value] if isinstance(value, str) else value)
    return {
        "package": "transformers",
        "version": version,
        "source": "transformers/models/auto/modeling_auto.py, read with ast",
        "architectures": sorted(architectures),
        "multimodal_model_types": sorted(
            str(key) for key, _ in literal_items(auto["MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES"])
        ),
    }


def from_folder(folder: Path) -> tuple[str, str, Read, list[str]]:
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*.py")]
    infos = [
        info
        for info in folder.parent.glob("*.dist-info")
        if re.fullmatch(rf"{folder.name}(_cpu)?-.*\.dist-info", info.name)
    ]
    version = infos[0].name.removesuffix(".dist-info").partition("-")[2]
    return folder.name, version, lambda name: (folder / name).read_text("utf-8"), names


def from_wheel(wheel: Path) -> tuple[str, str, Read, list[str]]:
    distribution, version = wheel.name.split("-")[:2]
    package = distribution.removesuffix("_cpu")
    archive = zipfile.ZipFile(wheel)
    prefix = package + "/"
    names = [n.removeprefix(prefix) for n in archive.namelist() if n.startswith(prefix)]
    return package, version, lambda name: archive.read(prefix + name).decode("utf-8"), names


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for argument in map(Path, sys.argv[1:]):
        package, version, read, names = (
            from_wheel(argument) if argument.suffix == ".whl" else from_folder(argument)
        )
        make = {"vllm": vllm_table, "transformers": transformers_table}[package]
        table = make(read, names, version)
        path = TARGET / f"{package}-{version}.json"
        path.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", "utf-8")
        print(path)


if __name__ == "__main__":
    main()
