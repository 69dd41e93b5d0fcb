"""Runs a command that the kernel kills when the process that asked for it dies.

Used as a script: `python -I -S with_parent.py PARENT_PID COMMAND ...`. The setting survives
`exec`, so the command takes this process over. It stands in a process of its own because a hook
between fork and exec would run Python code in a copy of a process that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def main() -> None:
    parent = int(sys.argv[1])
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the setting took hold.
    if os.getppid() != parent:
        sys.exit(1)
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(f"{sys.argv[2]}: {error.strerror}")


if __name__ == "__main__":
    main()
