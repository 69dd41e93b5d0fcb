"""`python -m meshtui` is the `meshtui` command."""

import sys

from meshtui.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
