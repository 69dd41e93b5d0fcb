"""How near the memory estimates come: tables of error and coverage, with bounds.

The figures depend on no clock and no machine.
"""

import time

from meshtui.domain.errors import InvalidInput
from meshtui.domain.memory import GIB
from meshtui.memory.gpus import gpus
from meshtui.memory.kv_cache import kv_cache
from meshtui.memory.overhead import overheads
from meshtui.memory.settings import ServingSettings
from meshtui.memory.weights import estimate_weights
from tests.bench.measure import TABLES
from tests.support.accuracy import (
    Accuracy,
    activations,
    concurrencies,
    kv_of_requests,
    pools,
    pools_with_weights,
    table,
    verdicts,
    weights_of_engine,
    weights_of_logs,
)
from tests.support.memory_data import all_configurations, configuration

ESTIMATE_S = 0.02


def shown(title: str, rows: list[Accuracy], note: str = "") -> None:
    TABLES[title] = f"{title}\n{table(rows)}{note}"
    print(f"\n{TABLES[title]}")


def worst(row: Accuracy) -> float:
    return max(abs(error) for error in row.errors)


def middle(row: Accuracy) -> float:
    return sorted(abs(error) for error in row.errors)[len(row.errors) // 2]


def test_kv_cache_against_the_engine() -> None:
    rows = [kv_of_requests(), kv_of_requests((8192,)), kv_of_requests((131072,)), concurrencies()]
    shown("KV cache: estimate against vLLM", rows)
    assert worst(rows[0]) <= 0.5
    assert middle(rows[3]) <= 0.5 and worst(rows[3]) <= 2


def test_weights_against_the_engine_and_logs() -> None:
    rows = [weights_of_engine(), weights_of_logs()]
    shown("Weights: estimate from the configuration against vLLM", rows)
    for row in rows:
        errors = sorted(abs(error) for error in row.errors)
        assert middle(row) <= 0.1
        assert errors[int(len(errors) * 0.95)] <= 1


def test_pools_of_models_left_out_of_the_fit() -> None:
    rows = [activations(), pools(), pools_with_weights()]
    judged = verdicts()
    right = sum(verdict.right for verdict in judged)
    missed = sorted({verdict.model for verdict in judged if not verdict.right})
    note = f"\nStarts and failures: {right} of {len(judged)} right; missed: {', '.join(missed)}"
    shown("Memory beside weights, each model left out of the fit in turn", rows, note)
    for row in rows[1:]:
        assert middle(row) <= 2 and worst(row) <= 5
    assert right >= 0.95 * len(judged)


def test_an_estimate_is_quick() -> None:
    """Bounded in itself: it is recomputed with every key press."""
    settings = ServingSettings(gpu=gpus()["h100"])
    found = [configuration(model) for model in all_configurations()]
    times = []
    for model in found:
        if model is None or not model.architectures:
            continue
        for _ in range(2):
            before = time.process_time()
            try:
                cached = kv_cache(model, settings)
            except InvalidInput:
                continue
            cached.longest_that_fits(20 * GIB)
            cached.bytes_for(8192)
            overheads(model, settings, 8192)
            estimate_weights(model, settings)
        times.append(time.process_time() - before)
    times.sort()
    middle_ms, worst_ms = times[len(times) // 2] * 1e3, times[-1] * 1e3
    print(f"\nan estimate: median {middle_ms:.2f} ms, worst {worst_ms:.2f} ms")
    assert times[int(len(times) * 0.95)] < ESTIMATE_S
