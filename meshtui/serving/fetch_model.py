"""Fetches a model from the Hub into a folder, once. Runs in a pod, beside huggingface_hub alone.

`MESHTUI_MODEL`, `MESHTUI_REVISION` (may be empty) and `MESHTUI_TARGET` say what and where to. A
complete folder holds `.meshtui-complete`; several pods may ask for the same one.
"""

import fcntl
import fnmatch
import os
import sys
from pathlib import Path

COMPLETE = ".meshtui-complete"
# Weights in formats that the engine does not load.
NOT_NEEDED = ["*.msgpack", "*.h5", "*.ot", "*.onnx", "*.onnx_data", "original/*", "openvino/*"]


def main() -> None:
    model, target = os.environ["MESHTUI_MODEL"], Path(os.environ["MESHTUI_TARGET"])
    target.mkdir(parents=True, exist_ok=True)
    with (target / ".meshtui-lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            print("This volume knows no locks: going on without.", file=sys.stderr)
        if (target / COMPLETE).exists():
            print(f"{model} is in {target}.")
            return
        _fetch(model, os.environ.get("MESHTUI_REVISION") or None, target)
        os.sync()
        (target / COMPLETE).write_text(model)
        print(f"{model} is complete.")


def _fetch(model: str, revision: str | None, target: Path) -> None:
    from huggingface_hub import HfApi, hf_hub_download

    # Not snapshot_download: where the Hub does not answer it is content with any folder.
    info = HfApi().model_info(model, revision=revision, files_metadata=True)
    files = [file for file in info.siblings or [] if not _is_needless(file.rfilename)]
    total = sum(file.size or 0 for file in files)
    print(f"Fetching {len(files)} files, {total / 1e9:.2f} GB, of {model}.", flush=True)
    for file in files:
        path = Path(hf_hub_download(model, file.rfilename, revision=info.sha, local_dir=target))
        if file.size is not None and path.stat().st_size != file.size:
            sys.exit(f"{file.rfilename} has {path.stat().st_size} bytes instead of {file.size}.")
        print(f"Fetched {file.rfilename}.", flush=True)


def _is_needless(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in NOT_NEEDED)


if __name__ == "__main__":
    main()
