"""Histograms of the training, asked for the share below a bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.reference import BINS, histogram

BOUNDS = (0.001, 0.01, 0.05, 0.2, 0.5, 1.0)


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 4), st.floats(2, 40))
def test_shares_up_to_a_bound_are_those_of_the_values(seed: int, a: float, b: float) -> None:
    """Within one bin, because inside a bin nobody knows."""
    values = np.random.default_rng(seed).beta(a, b, 2_000)

    shares = histogram(values).shares_up_to(BOUNDS, 0.0, 1.0)

    assert shares == pytest.approx([(values <= bound).mean() for bound in BOUNDS], abs=1.5 / BINS)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_a_model_that_gives_one_answer_has_one_step() -> None:
    """The base rate as a model: all below, or none."""
    shares = histogram(np.full(100, 0.05)).shares_up_to((0.01, 0.05, 0.06, 1.0), 0.0, 1.0)

    assert shares[1:] == [1, 1, 1]
    assert shares[0] <= 0.2


def test_nothing_known_has_no_shares() -> None:
    """Zero of zero is no number."""
    assert histogram(np.array([np.nan])).shares_up_to(BOUNDS, 0.0, 1.0) == []
