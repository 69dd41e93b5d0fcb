"""Sets our KV cache and weights beside those of other tools, on the rows of tests/data/memory.

    python scripts/compare_memory_tools.py [FOLDER]

Installs hf-mem, kvfit, vramscout and aiconfigurator-core into throw-away environments of their own
(below FOLDER, or a temporary one), so it needs the network; asks each for one request on one GPU
with a cache in the model's own type, and prints how far the answer is from the engine's, and for
how many models there is one. The tools' own functions are called, offline, with `config.json`.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from statistics import fmean, median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from meshtui.memory.gpus import gpus  # noqa: E402
from meshtui.memory.kv_cache import kv_cache  # noqa: E402
from meshtui.memory.settings import ServingSettings  # noqa: E402
from meshtui.memory.weights import estimate_weights  # noqa: E402
from tests.support.memory_data import configuration, configuration_files, oracle_rows  # noqa: E402

LENGTHS = (8192, 32768, 131072)
TIMEOUT_S = 900

# Each defines `kv(config, folder, length)` and `weights(config, folder)`, bytes or None.
ADAPTERS = {
    "hf-mem": """
from hf_mem.safetensors.kv_cache import compute_safetensors_kv_cache_size
def kv(config, folder, length):
    text = config.get("text_config") or config.get("llm_config") or config
    return compute_safetensors_kv_cache_size(text, "BF16", length)
def weights(config, folder):
    return None
""",
    "kvfit": """
from kvfit.architectures import estimate_cache
def kv(config, folder, length):
    return estimate_cache(config, context_tokens=length).total_bytes
def weights(config, folder):
    return None
""",
    "vramscout": """
import contextlib, io, sys
from vramscout.cli import main
def run(folder, length):
    out = io.StringIO()
    before, sys.argv = sys.argv, ["vramscout", folder, "--context", str(length),
                                  "--vram-gib", "100000", "--kv-dtype", "bf16", "--json"]
    try:
        with contextlib.redirect_stdout(out):
            main()
    except SystemExit:
        pass
    finally:
        sys.argv = before
    return json.loads(out.getvalue())["parts_gib"]
def kv(config, folder, length):
    parts = run(folder, length)
    found = [v for k, v in parts.items() if "cache" in k.lower() or "state" in k.lower()]
    return sum(found) * 2**30 or None
def weights(config, folder):
    return run(folder, 1024)["Model weights / rank"] * 2**30
""",
    "aiconfigurator-core": """
from aiconfigurator_core.sdk import memory
Naive = next(c for c in vars(memory).values()
             if isinstance(c, type) and hasattr(c, "kv_bytes_per_token"))
def build(config):
    return Naive.from_hf_config(config, tp_size=1, pp_size=1)
def kv(config, folder, length):
    one = build(config).kv_bytes_per_token()
    return None if one is None else one * length
def weights(config, folder):
    return build(config).weight_bytes()
""",
}
ASK = """
import json, sys
{adapter}
answers = []
for folder, length in json.load(sys.stdin):
    config = json.load(open(folder + "/config.json"))
    try:
        found = weights(config, folder) if length == 0 else kv(config, folder, length)
    except Exception:
        found = None
    answers.append(found)
json.dump(answers, sys.__stdout__)
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        rows = questions(base / "models")
        figures = {"meshtui": ours(rows)}
        for package, adapter in ADAPTERS.items():
            figures[package] = asked(base / package, package, adapter, rows)
    for kind, wanted in (("KV cache of a request", True), ("Weights", False)):
        print(f"\n{kind}: error against vLLM, one GPU")
        print(f"{'':22}{'answers':>12}{'median':>10}{'mean':>10}{'worst':>12}")
        for name, answers in figures.items():
            chosen = [
                (answer, row)
                for answer, row in zip(answers, rows, strict=True)
                if bool(row["length"]) == wanted
            ]
            print(line(name, chosen))
    return 0


def questions(folder: Path) -> list[dict[str, Any]]:
    """One row for each model and length, and one (length 0) for its weights."""
    rows = []
    for row in oracle_rows():
        files = configuration_files(row["model"])
        if row["tp"] != 1 or "param_bytes" not in row or files is None:
            continue
        place = folder / row["model"].replace("/", "__")
        place.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (place / name).write_bytes(content)
        own = {"model": row["model"], "gpu": row["gpu"], "folder": str(place)}
        rows.append(own | {"length": 0, "truth": row["param_bytes"] + row["buffer_bytes"]})
        found = configuration(row["model"])
        if (
            found is None
            or kv_cache(found, ServingSettings(gpu=gpus()[row["gpu"]])).dtype != "auto"
        ):
            # The checkpoint asks for an FP8 cache: the tools are not told so.
            continue
        for length in LENGTHS:
            needed = row["kv_needed"].get(str(length))
            if needed:
                rows.append(own | {"length": length, "truth": needed})
    return rows


def ours(rows: list[dict[str, Any]]) -> list[float | None]:
    answers: list[float | None] = []
    for row in rows:
        found = configuration(row["model"])
        assert found is not None
        settings = ServingSettings(gpu=gpus()[row["gpu"]], vllm_version="0.32.0")
        if row["length"]:
            answers.append(kv_cache(found, settings).bytes_for(row["length"]))
        else:
            items = estimate_weights(found, settings).items
            after = ("allocator", "repacking")
            answers.append(sum(one.likely_bytes for one in items if one.name not in after))
    return answers


def asked(
    folder: Path, package: str, adapter: str, rows: list[dict[str, Any]]
) -> list[float | None]:
    """What another tool says; None where it says nothing."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", package], check=True, timeout=TIMEOUT_S
        )
    done = subprocess.run(
        [python, "-c", ASK.replace("{adapter}", adapter)],
        input=json.dumps([(row["folder"], row["length"]) for row in rows]),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    answers: list[float | None] = json.loads(done.stdout.splitlines()[-1])
    return answers


def line(name: str, answers: list[tuple[float | None, dict[str, Any]]]) -> str:
    errors = [abs(found / row["truth"] - 1) * 100 for found, row in answers if found is not None]
    covered = f"{len(errors)} of {len(answers)}"
    if not errors:
        return f"{name:22}{covered:>12}"
    worst = f"{max(errors):.1f} %"
    return f"{name:22}{covered:>12}{median(errors):>8.2f} %{fmean(errors):>8.2f} %{worst:>12}"


if __name__ == "__main__":
    sys.exit(main())
