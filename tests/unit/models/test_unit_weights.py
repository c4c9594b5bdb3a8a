"""Weights of the Poisson bootstrap: as often 0, 1, 2, … as Poisson(1) has them, and independent of each other."""

from __future__ import annotations

import math

import numpy as np

from models.evaluation.unit_weights import unit_weights

N = 1_000_000


def test_each_count_comes_as_often_as_in_a_poisson_law_of_mean_one() -> None:
    """Beyond 8 comes nothing, which a million draws of the law itself show once."""
    weights = unit_weights(N, np.random.default_rng(1))

    for count in range(8):
        share = math.exp(-1.0) / math.factorial(count)
        error = math.sqrt(share * (1 - share) / N)
        assert abs(np.mean(weights == count) - share) < 5 * error + 1 / 65_536


def test_mean_and_variance_are_one_and_neighbours_do_not_know_of_each_other() -> None:
    """The spread of a replicate is that of the sample only if all of this is so."""
    weights = unit_weights(N, np.random.default_rng(2))

    assert abs(weights.mean() - 1) < 5 / math.sqrt(N)
    assert abs(weights.var() - 1) < 5 * math.sqrt(3 / N)
    assert abs(np.corrcoef(weights[1:], weights[:-1])[0, 1]) < 5 / math.sqrt(N)


def test_one_seed_draws_the_same_again() -> None:
    """Intervals are repeated by whoever doubts them."""
    first, second = (unit_weights(1_000, np.random.default_rng(3)) for _ in range(2))

    assert first.tolist() == second.tolist()
    assert unit_weights(0, np.random.default_rng(3)).shape == (0,)
