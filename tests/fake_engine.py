"""A small real program that behaves like vLLM, for tests in which vLLM would be too slow.

`python tests/fake_engine.py --port PORT [...]` prints vLLM's start-up log in phases, then answers
`/health`, `/v1/models`, `/v1/chat/completions` (streamed or not), `/v1/embeddings`, `/v1/rerank`,
`/v1/score`, `/classify` and `/fake/state`. It shows every bad habit of real engines on demand:
ignoring SIGTERM, leaving processes behind, crashing anywhere, chattering, hostile text. The
standard library only, so it starts at once.
"""

import argparse
import asyncio
import base64
import json
import multiprocessing.shared_memory
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PHASES = ("args", "core", "weights", "warmup")
LINES = {
    "args": (
        "(APIServer pid={pid}) INFO 11-22 18:45:34 [utils.py:253] non-default args: {{}}",
        "(APIServer pid={pid}) INFO 11-22 18:45:34 [model.py:5] Resolved architecture: "
        "FakeForCausalLM",
        "(APIServer pid={pid}) INFO 11-22 18:45:34 [model.py:6] Using max model len {context}",
    ),
    "core": (
        "(EngineCore pid={pid}) INFO 11-22 18:45:35 [core.py:133] Initializing a V1 LLM engine "
        "(v0.32.0) with config: model='fake'",
        "(Worker pid={pid}) INFO 11-22 18:45:35 [p.py:1] world_size=1 rank=0 local_rank=0",
    ),
    "weights": (
        "(Worker pid={pid}) INFO 11-22 18:45:36 [m.py:1] Starting to load model fake...",
        "\rLoading safetensors checkpoint shards:   0% Completed | 0/2 [00:00<?, ?it/s]\r"
        "Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:00<00:00, 9.00it/s]",
    ),
    "warmup": (
        "(Worker pid={pid}) INFO 11-22 18:45:36 [l.py:1] Loading weights took 0.28 seconds",
        "(Worker pid={pid}) INFO 11-22 18:45:36 [m.py:1] Model loading took 1.5 GiB memory",
        "(EngineCore pid={pid}) INFO 11-22 18:45:37 [w.py:1] Warming up model for the "
        "compilation...",
    ),
}
PARIS = ("The ", "capital ", "of ", "France ", "is ", "Paris.", "\n")
HOSTILE = (
    "\x1b]0;owned\x07",
    "\x1b[31mred\x1b[0m",
    "[bold]markup[/bold]",
    "[/]",
    "\u202etxt.exe",
    "\x9b2J",
    "a\rb",
    "\x00",
    "<script>",
    "wide \u6f22\u5b57 e\u0301",
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="fake/model")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--phase-s", type=float, default=0.0, help="time spent in each phase")
    parser.add_argument("--stay-in", choices=PHASES, help="do not leave this phase ...")
    parser.add_argument("--until", type=Path, help="... before this file exists (default: ever)")
    parser.add_argument("--ignore-sigterm", choices=("never", "starting", "always"))
    parser.add_argument("--child", action="append", default=[], choices=("plain", "setsid", "deaf"))
    parser.add_argument("--shared-memory", action="store_true", help="leave psm_* in /dev/shm")
    parser.add_argument("--crash-at", default="", help="a phase, or `token:N`")
    parser.add_argument("--crash-text", default="RuntimeError: something broke")
    parser.add_argument("--crash-signal", type=int, default=0)
    parser.add_argument("--chatter-bytes", type=int, default=0, help="log so much before ready")
    parser.add_argument("--no-health", action="store_true", help="never say that it is ready")
    parser.add_argument("--tokens", type=int, default=16, help="length of every answer")
    parser.add_argument("--rate", type=float, default=0.0, help="tokens per second; 0: no limit")
    parser.add_argument("--first-s", type=float, default=0.0, help="time before the first token")
    parser.add_argument("--pooling-s", type=float, default=0.0, help="time for each such answer")
    parser.add_argument("--text", choices=("words", "paris", "hostile"), default="paris")
    parser.set_defaults(ignore_sigterm="starting")
    return parser.parse_args()


def say(text: str, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


def crash(options: argparse.Namespace) -> None:
    say("Traceback (most recent call last):\n" + options.crash_text)
    if options.crash_signal:
        os.kill(os.getpid(), options.crash_signal)
    os._exit(1)


def have_children(kinds: list[str]) -> None:
    """Processes that stay when this one is killed, as vLLM's EngineCore does."""
    for kind in kinds:
        deaf = "import signal\nfor n in (1,2,3,15): signal.signal(n, signal.SIG_IGN)\n"
        code = (deaf if kind == "deaf" else "") + "import signal\nwhile True: signal.pause()"
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code],
            start_new_session=kind == "setsid",
            stdin=subprocess.DEVNULL,
        )


def token(options: argparse.Namespace, index: int) -> str:
    if options.text == "hostile":
        return HOSTILE[index % len(HOSTILE)] + " "
    if options.text == "words":
        return f"word{index} " + ("\n" if index % 12 == 11 else "")
    return PARIS[index % len(PARIS)]


class Engine:
    """The HTTP side."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.key = os.environ.get("FAKE_ENGINE_KEY") or os.environ.get("VLLM_API_KEY", "")
        self.running = 0
        self.generated = 0
        self.aborted = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await read_request(reader):
                await self.answer(*request, reader, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(
        self,
        path: str,
        headers: dict[str, str],
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if path == "/health":
            send(writer, 503 if self.options.no_health else 200, b"")
        elif path == "/fake/state":
            state = {
                "running": self.running,
                "generated": self.generated,
                "aborted": self.aborted,
                "pid": os.getpid(),
            }
            send(writer, 200, json.dumps(state).encode())
        elif self.key and headers.get("authorization") != f"Bearer {self.key}":
            send(writer, 401, b'{"error":"Unauthorized"}')
        elif path == "/v1/models":
            models = [{"id": self.options.model, "object": "model"}]
            send(writer, 200, json.dumps({"object": "list", "data": models}).encode())
        elif path == "/v1/chat/completions":
            await self.chat(json.loads(body), reader, writer)
        elif path in POOLING:
            await self.pooling(path, json.loads(body), reader, writer)
        else:
            send(writer, 404, b'{"detail":"Not Found"}')

    async def chat(
        self,
        request: dict[str, Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if request.get("model") != self.options.model:
            message = f"The model `{request.get('model')}` does not exist."
            error = {"message": message, "type": "NotFoundError", "param": "model", "code": 404}
            return send(writer, 404, json.dumps({"error": error}).encode())
        count = min(self.options.tokens, request.get("max_tokens") or self.options.tokens)
        finish = "stop" if count == self.options.tokens else "length"
        self.running += 1
        try:
            if not request.get("stream"):
                text = "".join([t async for t in self.tokens(count)])
                message = {"role": "assistant", "content": text}
                choice = {"index": 0, "message": message, "finish_reason": finish}
                answer = {**self.head("chat.completion"), "choices": [choice]}
                answer["usage"] = usage(count)
                return send(writer, 200, json.dumps(answer).encode())
            await self.stream(count, finish, request, reader, writer)
        finally:
            self.running -= 1

    async def pooling(
        self,
        path: str,
        request: dict[str, Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        texts = request.get("input", request.get("documents", request.get("text_2")))
        texts = [texts] if isinstance(texts, str) else texts
        longest = max(map(len, texts))
        if longest > self.options.context and "truncate_prompt_tokens" not in request:
            message = f"This model's maximum context length is {self.options.context} tokens."
            error = {"message": message, "type": "BadRequestError", "param": None, "code": 400}
            return send(writer, 400, json.dumps({"error": error}).encode())
        self.running += 1
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({gone}, timeout=self.options.pooling_s)
            if gone.done():
                self.aborted += 1
                raise ConnectionResetError
        finally:
            self.running -= 1
            gone.cancel()
            await asyncio.wait({gone})
        answer = {"model": self.options.model, "usage": usage(0)}
        answer |= POOLING[path](request, texts)
        send(writer, 200, json.dumps(answer).encode())

    async def stream(
        self,
        count: int,
        finish: str,
        request: dict[str, Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        options = request.get("stream_options") or {}
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        head = self.head("chat.completion.chunk")
        gone = asyncio.ensure_future(reader.read(1))

        def event(delta: dict[str, str], finish_reason: str | None, so_far: int) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
            chunk = {**head, "choices": [choice]}
            if options.get("continuous_usage_stats"):
                chunk["usage"] = usage(so_far)
            send_chunk(writer, b"data: " + json.dumps(chunk).encode() + b"\n\n")

        try:
            event({"role": "assistant", "content": ""}, None, 0)
            done = 0
            async for text in self.tokens(count):
                done += 1
                event({"content": text}, None, done)
                await writer.drain()
                if gone.done():
                    raise ConnectionResetError
                if self.options.crash_at == f"token:{done}":
                    crash(self.options)
            event({}, finish, count)
            if options.get("include_usage"):
                last = {**head, "choices": [], "usage": usage(count)}
                send_chunk(writer, b"data: " + json.dumps(last).encode() + b"\n\n")
            send_chunk(writer, b"data: [DONE]\n\n")
            send_chunk(writer, b"")
        except ConnectionError:
            # Writing may notice it before reading does.
            self.aborted += 1
            raise
        finally:
            if gone.done():
                raise ConnectionResetError
            gone.cancel()
            await asyncio.wait({gone})

    async def tokens(self, count: int) -> Any:
        begin = time.monotonic() + self.options.first_s
        if self.options.first_s:
            await asyncio.sleep(self.options.first_s)
        for index in range(count):
            if self.options.rate:
                due = begin + (index + 1) / self.options.rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.generated += 1
            yield token(self.options, index)

    def head(self, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-fake", "object": kind, "created": 1, "model": self.options.model}


def vector(text: str) -> list[float]:
    """Texts with the same letters are near to each other."""
    counts = [float(text.lower().count(letter)) for letter in "aeinrst"]
    length = sum(count * count for count in counts) ** 0.5 or 1.0
    return [count / length for count in counts]


def nearness(query: str, text: str) -> float:
    return sum(a * b for a, b in zip(vector(query), vector(text), strict=True))


def embeddings(request: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    items = []
    for index, text in enumerate(texts):
        numbers: Any = vector(text)[: request.get("dimensions")]
        if request.get("encoding_format") == "base64":
            numbers = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
        items.append({"object": "embedding", "index": index, "embedding": numbers})
    return {"object": "list", "data": items}


def ranking(request: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    found = [
        {
            "index": i,
            "document": {"text": text},
            "relevance_score": nearness(request["query"], text),
        }
        for i, text in enumerate(texts)
    ]
    found.sort(key=lambda item: -item["relevance_score"])
    return {"results": found[: request.get("top_n") or None]}


def scores(request: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    found = [nearness(request["text_1"], text) for text in texts]
    return {"data": [{"object": "score", "index": i, "score": s} for i, s in enumerate(found)]}


def classes(_request: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    items = []
    for index, text in enumerate(texts):
        good = 0.75 if "good" in text else 0.25
        label = "LABEL_1" if good > 0.5 else "LABEL_0"
        items.append({"index": index, "label": label, "probs": [1 - good, good], "num_classes": 2})
    return {"data": items}


POOLING = {
    "/v1/embeddings": embeddings,
    "/v1/rerank": ranking,
    "/v1/score": scores,
    "/classify": classes,
}


def usage(completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": 5,
        "completion_tokens": completion,
        "total_tokens": 5 + completion,
    }


async def read_request(
    reader: asyncio.StreamReader,
) -> tuple[str, dict[str, str], bytes] | None:
    first = await reader.readline()
    if not first:
        return None
    headers = {}
    while (line := await reader.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode().partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return first.decode().split(" ")[1].partition("?")[0], headers, body


def send(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    writer.write(head.encode() + b"\r\n\r\n" + body)


def send_chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def start_up(options: argparse.Namespace) -> None:
    for phase in PHASES:
        for line in LINES[phase]:
            say(line.format(pid=os.getpid(), context=options.context))
        if options.crash_at == phase:
            crash(options)
        await asyncio.sleep(options.phase_s)
        while options.stay_in == phase and not (options.until and options.until.exists()):
            await asyncio.sleep(0.02)
    line = "chatter " * 15
    for _ in range(options.chatter_bytes // (len(line) + 1)):
        say(line)


async def main() -> None:
    options = arguments()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if options.ignore_sigterm != "never":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    have_children(options.child)
    if options.shared_memory:
        memory = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
        say(f"shared memory {memory.name}")
    # Bound early and not served before ready, as vLLM does it.
    engine = Engine(options)
    try:
        server = await asyncio.start_server(
            engine.serve, "127.0.0.1", options.port, start_serving=False
        )
    except OSError as error:
        options.crash_text = f"OSError: [Errno {error.errno}] Address already in use"
        crash(options)
    await start_up(options)
    if options.ignore_sigterm != "always":
        loop.add_signal_handler(signal.SIGTERM, stop.set)
    await server.start_serving()
    say(f"(APIServer pid={os.getpid()}) INFO:     Application startup complete.")
    await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
