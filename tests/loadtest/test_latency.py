"""Percentiles are exact order statistics, and are only claimed where requests stand behind them."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from loadtest.latency import percentile, percentile_curve, summarise, timeline
from loadtest.results import LatencySummary

LATENCIES = arrays.arrays(np.float64, st.integers(1, 300), elements=st.floats(0.001, 1e5))


@given(LATENCIES, st.sampled_from([0.5, 0.9, 0.99, 0.999]))
def test_a_percentile_is_the_smallest_latency_that_covers_its_share(latencies_ms: np.ndarray, q: float) -> None:
    """No bucket and no interpolation: a time that was really seen, equal to numpy's nearest rank."""
    found = percentile(latencies_ms, q)

    n = len(latencies_ms)
    assert found == np.percentile(latencies_ms, q * 100, method="inverted_cdf")
    assert found in latencies_ms
    assert (latencies_ms <= found).sum() >= q * n - 1e-9
    assert (latencies_ms < found).sum() < q * n + 1e-9


def test_a_summary_holds_the_exact_figures_of_a_known_sample() -> None:
    """10 000 latencies of 1 to 10 000: each percentile can be read off."""
    latencies_ms = np.random.default_rng(1).permutation(np.arange(1.0, 10_001.0))

    summary = summarise(latencies_ms)

    assert summary == LatencySummary(10_000, 5000.5, 5000.0, 9000.0, 9900.0, 9990.0, 9999.0, 10_000.0)


def test_a_percentile_without_a_request_beyond_it_is_not_claimed() -> None:
    """The p99.9 of 999 requests would be their maximum under a grander name."""
    summary = summarise(np.arange(1.0, 1000.0))

    assert summary.p99_ms == 990.0
    assert summary.p999_ms is None
    assert summary.p9999_ms is None


def test_no_latencies_give_no_figures() -> None:
    """Unknown is not 0 ms."""
    assert summarise(np.array([])) == LatencySummary(n=0)
    assert percentile_curve(np.array([])) == []


@given(LATENCIES)
def test_the_curve_never_falls_and_ends_where_the_sample_does(latencies_ms: np.ndarray) -> None:
    """A drawn quantile beyond 1 − 1/n would be invented."""
    curve = percentile_curve(latencies_ms)

    values = [point.latency_ms for point in curve]
    assert values == sorted(values)
    assert all(point.quantile <= 1 - 1 / len(latencies_ms) + 1e-9 for point in curve)


def test_the_timeline_groups_requests_by_the_second_they_were_due_in() -> None:
    """A stall must show in the second it happened, and a second without requests must keep its place."""
    due_s = np.array([0.1, 0.9, 2.0, 2.5])
    latencies_ms = np.array([1.0, 3.0, math.nan, 7.0])
    failed = np.array([False, False, True, False])

    seconds = timeline(due_s, latencies_ms, failed)

    assert [second.n_requests for second in seconds] == [2, 0, 2]
    assert [second.n_errors for second in seconds] == [0, 0, 1]
    assert [second.p50_ms for second in seconds] == [1.0, None, 7.0]
