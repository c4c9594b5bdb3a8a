"""Pair operators: what each makes of two sides, and that a missing side makes a missing result."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from feature_store.schema import PairFeature
from models.errors import EncodingError
from models.pairs import OPERATORS, cross_hash, difference, equal, lookup, pair_dtype, product

NAN = float("nan")


def numbers(*values: float) -> npt.NDArray[np.float32]:
    return np.array(values, dtype=np.float32).reshape(-1, 1)


def hashes(*values: int) -> npt.NDArray[np.uint32]:
    return np.array(values, dtype=np.uint32).reshape(-1, 1)


def test_equal_tells_same_different_and_missing_apart() -> None:
    """Missing is neither the same nor different."""
    result = equal(hashes(5), hashes(5, 6, 0))

    np.testing.assert_array_equal(result, numbers(1, 0, NAN))
    assert result.dtype == np.float32


def test_product_and_difference_keep_float32_and_missing() -> None:
    """One side missing, nothing known."""
    np.testing.assert_array_equal(product(numbers(2), numbers(3, NAN)), numbers(6, NAN))
    np.testing.assert_array_equal(difference(numbers(2), numbers(3, NAN)), numbers(-1, NAN))
    assert product(numbers(2), numbers(3)).dtype == np.float32


@pytest.mark.parametrize("operator", [product, difference])
def test_overflow_is_missing_and_silent(operator: object) -> None:
    """Finite features whose pair is infinite must not reach the graph as infinity, nor warn at each request."""
    result = operator(numbers(3e38), numbers(-3e38))  # type: ignore[operator]

    np.testing.assert_array_equal(result, numbers(NAN))


def test_lookup_takes_the_entry_of_the_ads_index() -> None:
    """One user vector serves all ads; an index that is no place in it finds nothing."""
    taste = np.array([[0.1, 0.2, 0.3]], dtype=np.float32)

    result = lookup(taste, numbers(0, 2, 3, -1, 1.5, NAN))

    np.testing.assert_array_equal(result, numbers(0.1, 0.3, NAN, NAN, NAN, NAN))


def test_lookup_broadcasts_either_side() -> None:
    """In training both sides have n rows; in serving the index may be the request's."""
    taste = np.array([[0.1, 0.2], [0.3, 0.4]], dtype=np.float32)

    np.testing.assert_array_equal(lookup(taste, numbers(1, 0)), numbers(0.2, 0.3))
    np.testing.assert_array_equal(lookup(taste, numbers(1)), numbers(0.2, 0.4))


def test_cross_hash_has_golden_values() -> None:
    """Trained tables are indexed by these hashes: a change here is a change of every model."""
    result = cross_hash(hashes(1, 2, 0xFFFFFFFF, 1), hashes(2, 1, 0xFFFFFFFF, 0))

    assert result.ravel().tolist() == [2941743012, 1834323149, 2225773772, 0]
    assert result.dtype == np.uint32


def test_cross_hash_spreads_over_small_tables() -> None:
    """Tables take the hash modulo a power of two, so the low bits must be as good as the rest."""
    left, right = np.meshgrid(np.arange(1, 201, dtype=np.uint32), np.arange(1, 201, dtype=np.uint32))

    places = cross_hash(left.reshape(-1, 1), right.reshape(-1, 1)).ravel() % 1024

    counts = np.bincount(places, minlength=1024)
    chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert chi_square < 1024 + 5 * np.sqrt(2 * 1024)


def test_the_set_of_operators_is_closed() -> None:
    """Serving refuses what it cannot compute."""
    with pytest.raises(EncodingError, match="unknown operator 'ratio'"):
        pair_dtype(PairFeature("x", "ratio", "a", "b"))  # type: ignore[arg-type]

    assert set(OPERATORS) == {"equal", "product", "difference", "lookup", "cross_hash"}
