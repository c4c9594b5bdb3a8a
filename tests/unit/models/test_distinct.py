"""Counting distinct hashes as they stream by."""

from __future__ import annotations

import numpy as np
import pytest

from models.fitting.distinct import DistinctCounter


@pytest.mark.parametrize("n_distinct", [1, 40, 3_000, 200_000, 2_000_000])
def test_distinct_hashes_are_counted_within_two_percent(n_distinct: int) -> None:
    """However often each comes, and in however many parts; one hash is one."""
    random = np.random.default_rng(n_distinct)
    hashes = np.unique(random.integers(1, 1 << 32, size=n_distinct))
    seen = np.concatenate([hashes, random.choice(hashes, size=1_000)])
    counter = DistinctCounter(2)

    for part in np.array_split(np.column_stack([seen, np.full(len(seen), 7)]), 5):
        counter.add(part)

    assert counter.counts()[0] == pytest.approx(len(hashes), rel=0.02)
    assert counter.counts()[1] == 1
