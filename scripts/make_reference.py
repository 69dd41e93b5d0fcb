"""Writes config/schemas/ and docs/settings.md, from the types that read the files of settings.

    python scripts/make_reference.py [--check]

`--check` writes nothing, and ends with status 1 where something is not current.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from meshtui.settings.schema import KINDS, page, schema  # noqa: E402


def wanted() -> dict[Path, str]:
    """What is to stand in each file."""
    found = {
        ROOT / "config" / "schemas" / f"{kind.name}.json": json.dumps(schema(kind), indent=2) + "\n"
        for kind in KINDS
    }
    found[ROOT / "docs" / "settings.md"] = page()
    return found


def stale() -> list[Path]:
    """The files in which something else stands."""
    return [
        path
        for path, text in wanted().items()
        if not path.exists() or path.read_text("utf-8") != text
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    old = stale()
    if parser.parse_args().check:
        for path in old:
            print(f"not current: {path.relative_to(ROOT)}", file=sys.stderr)
        return 1 if old else 0
    for path in old:
        path.parent.mkdir(exist_ok=True)
        path.write_text(wanted()[path], "utf-8")
        print(f"written: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
