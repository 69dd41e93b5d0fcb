"""Makes the virtual environment, or says in words what the machine lacks for it."""

import subprocess
import sys

MINIMUM = (3, 11)


def main() -> int:
    target = sys.argv[1]
    if sys.version_info < MINIMUM:
        print(
            f"meshtui needs Python {MINIMUM[0]}.{MINIMUM[1]} or newer; {sys.executable} is "
            f"{sys.version.split()[0]}. Name a newer one: make run PYTHON=python3.12",
            file=sys.stderr,
        )
        return 1
    done = subprocess.run([sys.executable, "-m", "venv", target], check=False)
    if done.returncode:
        print(
            "This Python cannot make virtual environments. On Debian and Ubuntu its venv module "
            "is a package of its own: apt-get install python3-venv. Then run make again.",
            file=sys.stderr,
        )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
