"""The soak of tests/bench/soak.py, smaller."""

import gc
import tracemalloc

from agentloop.core import tokens
from tests.bench.soak import KEPT, soak

KB = 1_000


def test_threads_lose_and_mix_no_accounts() -> None:
    soaked = soak(1_600)

    assert soaked.report["totals"]["requests"] == 1_600
    assert soaked.summed() == soaked.reported()
    assert soaked.summed()["cache_read_input_tokens"] > 0


def test_threads_get_the_same_every_time() -> None:
    assert soak(832).by_thread == soak(832).by_thread


def test_what_is_kept_is_bounded() -> None:
    tracemalloc.start()
    try:
        soaked = soak(4_000, threads=4, measured=traced_bytes)
    finally:
        tracemalloc.stop()

    _, second, _, last = soaked.kept
    assert last - second < 400 * KB  # what the test itself writes down grows by 200
    assert len(soaked.report["requests"]) == KEPT


def traced_bytes() -> int:
    """What is held now, without the estimates of texts, which are kept up to a number of their own."""
    tokens._estimate.cache_clear()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
