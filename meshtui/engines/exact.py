"""Asks the vLLM of an installed runtime how much memory a model takes; see `serving/ask_vllm.py`.

Nothing is allocated and no GPU is needed, but vLLM has to be imported: it takes ten seconds and
more.
"""

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from meshtui.domain.errors import Unavailable
from meshtui.domain.memory import GpuSpec
from meshtui.domain.text import one_line

_SCRIPT = Path(__file__).parents[1] / "serving" / "ask_vllm.py"
_TIMEOUT_S = 300.0
_MOST_ANSWER_BYTES = 1_000_000
# What vLLM reads to build a model; the model's own code is not among it.
_FILES = ("config.json", "hf_quant_config.json", "generation_config.json", "params.json",
          "model.safetensors.index.json")  # fmt: skip
# Of the environment only what a program needs to run: what is set for engines would steer it.
_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")


class ExactAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What vLLM says of one rank. `tensor_bytes` are parameters and buffers, `weights_bytes` what
    the allocator takes for them; `request_bytes` the KV cache of one request by its length."""

    vllm_version: str = ""
    max_model_len: int = 0
    tensor_bytes: int = 0
    weights_bytes: int = 0
    request_bytes: dict[str, int] = {}
    layers: int = 0
    error: str = ""
    stage: str = ""


async def ask_vllm(
    python: Path,
    texts: Mapping[str, bytes],
    gpu: GpuSpec,
    *,
    tensor_parallel_size: int = 1,
    lengths: tuple[int, ...] = (),
    max_model_len: int | None = None,
    kv_cache_dtype: str | None = None,
    quantization: str | None = None,
    max_num_batched_tokens: int | None = None,
    max_num_seqs: int | None = None,
) -> ExactAnswer:
    """`python` is the runtime's interpreter, `texts` the model's small files. Raises `Unavailable`
    where that vLLM gives no answer."""
    with tempfile.TemporaryDirectory(prefix="meshtui-exact-") as place:
        folder = Path(place) / "model"
        await asyncio.to_thread(_write, folder, texts)
        request = {
            "folder": str(folder),
            "gpu": {
                "name": gpu.label,
                "capability": gpu.capability,
                "memory_bytes": gpu.memory_bytes,
            },
            "tensor_parallel_size": tensor_parallel_size,
            "lengths": list(lengths),
            "max_model_len": max_model_len,
            "kv_cache_dtype": kv_cache_dtype,
            "quantization": quantization,
            "max_num_batched_tokens": max_num_batched_tokens,
            "max_num_seqs": max_num_seqs,
        }
        said = await _run(python, msgspec.json.encode(request), Path(place))
    try:
        answer = msgspec.json.decode(said, type=ExactAnswer)
    except msgspec.MsgspecError:
        raise _no_answer("it ended without an answer") from None
    if answer.error:
        raise _no_answer(f"{one_line(answer.error, 300)} (at the {one_line(answer.stage, 40)})")
    return answer


def _write(folder: Path, texts: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for name in _FILES:
        if name in texts:
            (folder / name).write_bytes(texts[name])


async def _run(python: Path, request: bytes, home: Path) -> bytes:
    try:
        process = await asyncio.create_subprocess_exec(
            str(python),
            "-I",
            str(_SCRIPT),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # It writes caches to its home, which are of no use afterwards.
            env={**{key: os.environ[key] for key in _KEPT if key in os.environ}, "HOME": str(home)},
            start_new_session=True,
        )
    except OSError as error:
        raise _no_answer(f"its Python cannot be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            said, _ = await process.communicate(request)
    except TimeoutError:
        raise _no_answer(f"it did not answer within {_TIMEOUT_S:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return said[:_MOST_ANSWER_BYTES]


def _no_answer(reason: str) -> Unavailable:
    return Unavailable(
        f"The runtime's vLLM could not be asked: {reason}.",
        hint="The estimate stands. Releases other than 0.32 may not answer.",
    )
