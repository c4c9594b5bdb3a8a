"""How many distinct hashes columns hold, counted as rows stream by, in 1 MB a column (linear counting).

Hashes are spread evenly, so each sets one of m marks at random, and of m marks a share exp(-d / m) stays unset after d
distinct ones. The estimate is within 1 % for up to a few million; beyond that the tables of a design are as large as
they get anyway.

Source: Whang et al. 1990, "A linear-time probabilistic counting algorithm for database applications".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MARKS = 1 << 20


class DistinctCounter:
    """Counts distinct values of k columns."""

    def __init__(self, columns: int) -> None:
        self._seen = np.zeros((columns, MARKS), dtype=np.bool_)

    def add(self, ids: npt.NDArray[np.int64]) -> None:
        """(n, k) more rows."""
        for marks, column in zip(self._seen, ids.T, strict=True):
            marks[column % MARKS] = True

    def counts(self) -> npt.NDArray[np.int64]:
        """(k,) how many distinct values each column had."""
        unset = np.maximum(1, MARKS - np.count_nonzero(self._seen, axis=1))
        found: npt.NDArray[np.int64] = np.rint(-MARKS * np.log(unset / MARKS)).astype(np.int64)
        return found
