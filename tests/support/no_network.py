"""A machine without any network: a network namespace of the kernel that has only its loopback.

    python tests/support/no_network.py COMMAND [WORD ...]

runs the command in one, with everything that it starts. Its files, and sockets in them, are those
of everybody. As root, or where users may make namespaces.
"""

import fcntl
import os
import socket
import struct
import subprocess
import sys

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1  # <linux/sockios.h>, <linux/if.h>
_INSIDE = "--inside"


def without_network(words: list[str]) -> list[str]:
    """The command line that runs `words` so."""
    return [sys.executable, __file__, *words]


def why_not_without_network() -> str:
    """What the kernel says where that cannot be; empty where it can."""
    tried = subprocess.run(without_network(["true"]), capture_output=True, text=True, check=False)
    return tried.stderr.strip() if tried.returncode else ""


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        found = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
        [flags] = struct.unpack_from("H", found, 16)
        up = struct.pack("16sH14x", b"lo", flags | _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, up)


if __name__ == "__main__":
    if sys.argv[1] == _INSIDE:
        _raise_loopback()
        os.execvp(sys.argv[2], sys.argv[2:])
    options = ["--net"] if os.geteuid() == 0 else ["--net", "--map-root-user"]
    again = [sys.executable, __file__, _INSIDE, *sys.argv[1:]]
    os.execvp("unshare", ["unshare", *options, *again])
