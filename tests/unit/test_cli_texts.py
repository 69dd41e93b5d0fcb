"""`meshtui embed`, `rerank` and `classify` as scripts use them."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.controller_support import controller_process
from tests.support.pooling_models import enable_pooling
from tests.support.waiting import wait_until

MESHTUI = str(Path(sys.executable).parent / "meshtui")


@pytest.fixture
def controller(own_folders: Path) -> Iterator[None]:
    enable_pooling()
    with controller_process():
        yield


def meshtui(*words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [MESHTUI, *words], input=text, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr
    return done


def lines(*words: str, text: str | None = None) -> list[dict[str, Any]]:
    done = meshtui(*words, text=text)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_texts_become_vectors_line_by_line(controller: None) -> None:
    done = meshtui("embed", "fake/embedder", "rain", "stone")
    assert done.returncode == 0 and "Starting" in done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(item["index"], item["text"]) for item in found] == [(0, "rain"), (1, "stone")]
    assert len(found[0]["embedding"]) == 7

    many = "".join(f"text {number}\n\n" for number in range(2500))
    done = meshtui("embed", "fake/embedder", "--batch", "100", text=many)
    texts = [json.loads(line)["text"] for line in done.stdout.splitlines()]
    assert texts == [f"text {number}" for number in range(2500)]
    assert done.stderr.splitlines() == ["Embedded: 1,000", "Embedded: 2,000"]

    objects = '{"id": 7, "body": "rain"}\n{"id": 8, "body": "stone"}\n'
    found = lines("embed", "fake/embedder", "--jsonl", "--field", "body", text=objects)
    assert [(item["id"], item["body"], len(item["embedding"])) for item in found] == [
        (7, "rain", 7),
        (8, "stone", 7),
    ]
    [whole] = lines("embed", "fake/embedder", "rain", "--dimensions", "2", "--json")
    assert (whole["model"], whole["prompt_tokens"]) == ("fake/embedder", 5)
    assert len(whole["results"][0]["embedding"]) == 2


def test_texts_are_ranked_over_all_batches(controller: None) -> None:
    texts = "muumuu\na stone in the rain\nmuumuu\nrain\n"
    words = ("rerank", "fake/reranker", "a stone in the rain", "--batch", "1")
    found = lines(*words, text=texts)
    assert [item["index"] for item in found][:2] == [1, 3]
    assert found[0]["score"] > found[1]["score"] > found[2]["score"] == 0
    assert [item["text"] for item in lines(*words, "--top", "1", text=texts)] == [
        "a stone in the rain"
    ]


def test_texts_are_classified(controller: None) -> None:
    found = lines("classify", "fake/classifier", "--jsonl", text='"good"\n{"text": "bad"}\n')
    assert found == [
        {"index": 0, "text": "good", "label": "1", "scores": {"0": 0.25, "1": 0.75}},
        {"text": "bad", "label": "0", "scores": {"0": 0.75, "1": 0.25}},
    ]


FAILURES: tuple[tuple[tuple[str, ...], str | None, int, str], ...] = (
    (("embed", "fake/hello", "x"), None, 2, "fake/hello cannot embed: it is enabled for text-gen"),
    (("rerank", "fake/classifier", "q", "x"), None, 2, "cannot rerank"),
    (("classify", "fake/embedder", "x"), None, 2, "cannot classify"),
    (("embed", "no/such", "x"), None, 4, "not enabled"),
    (("embed", "not a name", "x"), None, 2, "is not a model name"),
    (("rerank", "fake/reranker", " ", "x"), None, 2, "The query is empty"),
    (("embed", "fake/embedder", "x", "--batch", "0"), None, 2, "must be 1 or more"),
    (("embed", "fake/embedder", "--jsonl"), "no json\n", 2, "Line 1 is not JSON"),
    (("embed", "fake/embedder", "--jsonl"), "[1]\n", 2, "Line 1 has no text under 'text'"),
    (("embed", "fake/embedder", "--jsonl"), '{"text": 1}\n', 2, "--field names the field"),
)


def test_failures_end_in_words_and_a_documented_status(controller: None) -> None:
    for words, text, status, says in FAILURES:
        done = meshtui(*words, text=text)
        assert (done.returncode, done.stdout) == (status, ""), (words, done.stderr)
        assert says in done.stderr, (words, done.stderr)


def test_what_stands_before_a_bad_text_is_answered_and_the_bad_one_named(controller: None) -> None:
    words = ("embed", "fake/embedder", "--batch", "2")
    done = meshtui(*words, "--jsonl", text='"rain"\n"stone"\n\n"tree"\nno json\n"late"\n')
    assert done.returncode == 2 and "Line 5 is not JSON" in done.stderr
    assert len(done.stdout.splitlines()) == 3
    long = f"rain\nstone\ntree\n{'x' * 5000}\n"
    done = meshtui(*words, text=long)
    assert done.returncode == 2
    assert "Line 4: This model's maximum context length is 2048 tokens." in done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert len(lines(*words, "--truncate", text=long)) == 4


def test_ctrl_c_cancels_in_the_engine(controller: None) -> None:
    asking = subprocess.Popen(
        [MESHTUI, "embed", "fake/slow-embedder", "rain"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def state() -> dict[str, int]:
        for server in json.loads(meshtui("server", "list", "--json").stdout):
            if server["phase"] == "Ready":
                url = f"http://127.0.0.1:{server['port']}/fake/state"
                with urlopen(url, timeout=20) as answer:
                    found: dict[str, int] = json.load(answer)
                return found
        return {"running": 0, "aborted": 0}

    wait_until(lambda: state()["running"] == 1, "the engine works", 60)
    asking.send_signal(signal.SIGINT)
    _, errors = asking.communicate(timeout=60)
    assert (asking.returncode, "Traceback" in errors) == (130, False)
    wait_until(lambda: state() == {**state(), "running": 0, "aborted": 1}, "it is free", 60)
