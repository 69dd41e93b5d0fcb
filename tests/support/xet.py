"""A store of Xet on this machine, which its own library reads and writes without a network."""

from pathlib import Path

import hf_xet


def xet_url(folder: Path) -> str:
    """The address of the store in a folder."""
    return f"local://{folder}"


def put_in_xet(folder: Path, data: bytes) -> str:
    """Stores a file; gives its hash, by which the Hub names it."""
    with hf_xet.XetSession().new_upload_commit(endpoint=xet_url(folder)) as commit:
        upload = commit.start_upload_bytes(data)
    return str(upload.result().xet_info.hash)
