"""Arrivals form a Poisson process that is fixed before the run."""

from __future__ import annotations

import numpy as np

from loadtest.schedule import poisson_schedule

RATE_PER_S, SPAN_S = 500.0, 200.0


def test_gaps_have_the_mean_and_the_variance_of_an_exponential() -> None:
    """Evenly spaced sends would never queue behind each other; exponential gaps deviate by as much as their mean."""
    gaps_s = np.diff(poisson_schedule(RATE_PER_S, SPAN_S, seed=7))

    standard_error = 1 / RATE_PER_S / np.sqrt(len(gaps_s))
    assert abs(gaps_s.mean() - 1 / RATE_PER_S) < 4 * standard_error
    assert abs(gaps_s.std() - 1 / RATE_PER_S) < 8 * standard_error


def test_counts_per_second_vary_as_much_as_their_mean() -> None:
    """The variance of a Poisson count is its mean: arrivals in one second say nothing about the next."""
    arrivals_s = poisson_schedule(RATE_PER_S, SPAN_S, seed=7)

    counts = np.bincount(arrivals_s.astype(int), minlength=int(SPAN_S))

    assert abs(counts.mean() - RATE_PER_S) < 4 * np.sqrt(RATE_PER_S / SPAN_S)
    assert 0.7 < counts.var() / counts.mean() < 1.4


def test_arrivals_rise_and_stay_within_the_span() -> None:
    """A request due after the end would be sent when nobody counts."""
    arrivals_s = poisson_schedule(37.5, 3.3, seed=1)

    assert (np.diff(arrivals_s) > 0).all()
    assert arrivals_s[0] >= 0
    assert arrivals_s[-1] < 3.3


def test_a_seed_names_a_schedule() -> None:
    """Two runs are comparable because they sent at the same moments."""
    first, again, other = (poisson_schedule(100, 5, seed) for seed in (3, 3, 4))

    assert np.array_equal(first, again)
    assert not np.array_equal(first[:50], other[:50])


def test_even_one_expected_arrival_fills_the_whole_span() -> None:
    """The first draw may fall short of the span when few arrivals are expected; the rest must be drawn then."""
    schedules = [poisson_schedule(1.0, 1.0, seed) for seed in range(2_000)]

    mean_count = np.mean([len(schedule) for schedule in schedules])
    assert abs(mean_count - 1.0) < 4 / np.sqrt(2_000)
