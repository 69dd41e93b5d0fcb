"""Fits config/memory/vllm_overhead.toml to the logs of real engines.

    python scripts/fit_memory_overheads.py [--evaluate]

Reads tests/data/memory. Each constant is fitted to the records of a range of versions that show
it; the intervals are what the errors span when each model in turn is left out of the fit.
`--evaluate` prints those errors and writes nothing.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.memory_data import records  # noqa: E402
from tests.support.overhead_fit import Fitted, fit, left_out_errors  # noqa: E402

TARGET = ROOT / "config" / "memory" / "vllm_overhead.toml"
HEAD = """\
# What vLLM takes beside weights and KV cache, by range of versions; made by
# scripts/fit_memory_overheads.py from the logs in tests/data/memory. GiB, or multiples of the
# sizes that meshtui/memory/overhead.py names. `unmeasured`: no logs of this range show the parts;
# the constants are those of the nearest range, and the intervals are wide.
"""


def main() -> None:
    known = records()
    if "--evaluate" in sys.argv:
        for error in left_out_errors(known):
            print(f"{error.model:48} {error.part:12} {error.predicted:7.2f} {error.seen:7.2f}")
        return
    ranges = fit(known, left_out_errors(known))
    TARGET.write_text(HEAD + "\n".join(text(entry) for entry in ranges), encoding="utf-8")
    print(f"{TARGET.name}: {len(ranges)} ranges")


def text(entry: Fitted) -> str:
    """One range in TOML."""
    lines = ["[[range]]"]
    for name, value in entry.items():
        if isinstance(value, dict):
            pairs = ", ".join(f'"{key}" = {number}' for key, number in value.items())
            lines.append(f"{name} = {{ {pairs} }}")
        elif isinstance(value, bool):
            lines.append(f"{name} = {str(value).lower()}")
        elif isinstance(value, str):
            lines.append(f'{name} = "{value}"')
        else:
            lines.append(f"{name} = {value}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
