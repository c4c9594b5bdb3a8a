"""Random streams: one seed, many purposes, no echo between them."""

from __future__ import annotations

import numpy as np
import pytest

from models.random_streams import random_stream


def test_the_same_seed_and_purpose_give_the_same_numbers() -> None:
    """Or nothing here could be made again."""
    np.testing.assert_array_equal(random_stream(7, "folds").random(5), random_stream(7, "folds").random(5))


@pytest.mark.parametrize("other", [random_stream(7, "bootstrap"), random_stream(8, "folds"), np.random.default_rng(7)])
def test_other_purposes_and_seeds_give_other_numbers(other: np.random.Generator) -> None:
    """Folds that follow the numbers a log was drawn from put all rows of an id into one fold."""
    drawn = random_stream(7, "folds").random(10_000)

    assert abs(np.corrcoef(drawn, other.random(10_000))[0, 1]) < 0.05
