"""Pair operators: features of user (or context) and ad together, from a closed set.

Each operator is one function over the candidate column, used by training and serving alike: the left side is one value
for the whole request (or one per impression in training, NumPy broadcasts both), the right side one per candidate.
A missing side (NaN, hash 0) makes a missing result. Numbers are float32, hashes uint32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_store.schema import PairFeature
from models.errors import EncodingError

Array = npt.NDArray[Any]


def equal(left: Array, right: Array) -> Array:
    """1 where both hashes are the same value, 0 where they differ, NaN where one is missing. (n, 1) float32."""
    known = (left != 0) & (right != 0)
    return np.where(known, (left == right).astype(np.float32), np.float32(np.nan))


def product(left: Array, right: Array) -> Array:
    """Left times right; NaN where that is beyond float32, because a graph must not meet an infinity. (n, 1) float32."""
    with np.errstate(over="ignore"):
        return _finite(left * right)


def difference(left: Array, right: Array) -> Array:
    """Left minus right; NaN where that is beyond float32. (n, 1) float32."""
    with np.errstate(over="ignore"):
        return _finite(left - right)


def lookup(left: Array, right: Array) -> Array:
    """The left vector's entry at the right side's index; NaN where that is no whole number in 0..w-1.

    left: (n or 1, w) float32; right: (n or 1, 1). Answers (n, 1) float32.
    """
    width = left.shape[1]
    whole = np.isfinite(right) & (right == np.floor(right)) & (right >= 0) & (right < width)
    index = np.where(whole, right, 0).astype(np.intp)
    n = index.shape[0] if left.shape[0] == 1 else left.shape[0]
    left, index, whole = (np.broadcast_to(a, (n, a.shape[1])) for a in (left, index, whole))
    return np.where(whole, np.take_along_axis(left, index, axis=1), np.float32(np.nan))


def cross_hash(left: Array, right: Array) -> Array:
    """One hash for the two values together, 0 where one is missing. (n, 1) uint32.

    A 64-bit multiply and xor-shift of the two hashes (the finaliser of MurmurHash3): order matters, so the cross of
    (a, b) is not the cross of (b, a), and no text is built per candidate.
    """
    mixed = (left.astype(np.uint64) << np.uint64(32)) | right.astype(np.uint64)
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xFF51AFD7ED558CCD)
    mixed ^= mixed >> np.uint64(33)
    crossed = (mixed & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    known = (left != 0) & (right != 0)
    return np.where(known, np.maximum(crossed, np.uint32(1)), np.uint32(0))


OPERATORS: dict[str, Callable[[Array, Array], Array]] = {
    "equal": equal,
    "product": product,
    "difference": difference,
    "lookup": lookup,
    "cross_hash": cross_hash,
}
HASH_INPUTS = frozenset({"equal", "cross_hash"})
"""Operators that compare hashes; the others work on numbers."""
HASH_OUTPUTS = frozenset({"cross_hash"})
"""Operators whose result is a hash."""


def pair_dtype(pair: PairFeature) -> str:
    """`id` where the pair's result is a hash, else `float32`."""
    if pair.op not in OPERATORS:
        raise EncodingError(f"pair {pair.name!r}: unknown operator {pair.op!r}; the closed set is {sorted(OPERATORS)}")
    return "id" if pair.op in HASH_OUTPUTS else "float32"


def _finite(numbers: Array) -> Array:
    return np.where(np.isinf(numbers), np.float32(np.nan), numbers)
