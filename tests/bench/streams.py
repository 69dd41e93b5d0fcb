"""A plain HTTP client that times a streamed answer: the same one for the engine and for us.

`python -m tests.bench.streams COUNT MODEL` keeps COUNT answers streaming until its standard input
closes; the address is in OPENAI_BASE_URL and OPENAI_API_KEY. It prints a line when all have begun.
"""

import http.client
import json
import os
import sys
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Address:
    """Where an OpenAI-compatible server answers."""

    base_url: str  # as OpenAI clients take it, with /v1
    api_key: str


@dataclass(frozen=True)
class Timing:
    """`ttft_s` from sending the request to the first text; `rate` is texts per second after it."""

    ttft_s: float
    rate: float
    texts: int


def time_answer(address: Address, model: str, prompt: str, **parameters: object) -> Timing:
    """Streams one answer on a connection of its own and notes when text arrives."""
    url = urlsplit(address.base_url)
    assert url.hostname is not None
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=120)
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
        **parameters,
    }
    headers = {
        "Authorization": f"Bearer {address.api_key}",
        "Content-Type": "application/json",
    }
    sent_at = time.perf_counter()
    connection.request("POST", f"{url.path}/chat/completions", json.dumps(body), headers)
    response = connection.getresponse()
    assert response.status == 200, response.read()
    arrivals = []
    for line in response:
        if line.startswith(b"data: {"):
            choices = json.loads(line[6:])["choices"]
            if choices and choices[0]["delta"].get("content"):
                arrivals.append(time.perf_counter())
    connection.close()
    assert len(arrivals) > 1
    took_s = arrivals[-1] - arrivals[0]
    return Timing(arrivals[0] - sent_at, (len(arrivals) - 1) / took_s, len(arrivals))


def keep_streaming(count: int, model: str) -> None:
    address = Address(os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"])
    begun = threading.Barrier(count + 1)

    def go_on() -> None:
        begun.wait()
        while True:
            time_answer(address, model, "Go on.")

    for _ in range(count):
        threading.Thread(target=go_on, daemon=True).start()
    begun.wait()
    print("streaming", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    keep_streaming(int(sys.argv[1]), sys.argv[2])
