"""The command line of the server of pictures."""

import argparse
import os
import sys
from pathlib import Path

from .pipeline import OFFLOADS, Pipeline, Say, load

# Not an argument: those are seen by every user of the machine.
API_KEY = "MESHTUI_API_KEY"
_GRACE_S = 2
_BACKLOG = 128
# A picture of 1024x1024 pixels, decoded at once in a type of two bytes.
_WORK_BYTES = 4 * 1024**3


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Serves a pipeline of diffusers with OpenAI's shapes. "
        f"The key that clients have to send is read from {API_KEY}."
    )
    parser.add_argument("model", type=Path, help="a folder with model_index.json")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--served-model-name", default=None)
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1 or cpu")
    parser.add_argument(
        "--dtype", default="auto", choices=("auto", "float32", "float16", "bfloat16")
    )
    parser.add_argument("--offload", default="auto", choices=OFFLOADS,
                        help="what waits in the host's memory while it is not in use: auto keeps "
                        "as much on the GPU as fits beside --work-bytes")  # fmt: skip
    parser.add_argument("--work-bytes", type=int, default=_WORK_BYTES, metavar="N",
                        help="what making a picture takes beside the weights")  # fmt: skip
    parser.add_argument("--max-pixels", type=int, default=2048 * 2048, metavar="N",
                        help="the most pixels of one picture")  # fmt: skip
    parser.add_argument("--max-waiting", type=int, default=16, metavar="N",
                        help="how many requests may wait")  # fmt: skip
    asked = parser.parse_args()
    if not (asked.model / "model_index.json").is_file():
        print(f"{asked.model} holds no model_index.json: it is no pipeline.", file=sys.stderr)
        return 2
    # Nothing is ever fetched, and no library reports home.
    os.environ |= {"HF_HUB_OFFLINE": "1", "DISABLE_TELEMETRY": "1"}
    # After the check of the arguments: these take a second.
    import uvicorn

    from .server import Server
    from .worker import Worker

    def loaded(say: Say) -> Pipeline:
        return load(
            asked.model,
            device=asked.device,
            dtype=asked.dtype,
            offload=asked.offload,
            work_bytes=max(0, asked.work_bytes),
            most_px=asked.max_pixels,
            say=say,
        )

    worker = Worker(loaded, max(1, asked.max_waiting), on_failed=lambda: ending())
    server = Server(
        worker,
        asked.served_model_name or asked.model.resolve().name,
        str(asked.model),
        os.environ.get(API_KEY) or None,
    )
    listener = uvicorn.Server(
        uvicorn.Config(
            server.app(),
            host=asked.host,
            port=asked.port,
            backlog=_BACKLOG,
            log_level="warning",
            timeout_graceful_shutdown=_GRACE_S,
        )
    )

    def ending() -> None:
        listener.should_exit = True

    listener.run()
    return 1 if worker.state.has_failed else 0
