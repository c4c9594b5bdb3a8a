"""The tree kernel in NumPy: same tables, same answers, no compiler.

Serves where the compiled kernel (`_trees.c`) was not built, and says in a few lines what that one does.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from feature_store.rows import Floats, Ids
from models.plans.parts import check_rows, gathered
from models.plans.tree_tables import TreeTables, Words
from models.segments import Int32s
from models.specs import Float64s, Int64s


class _Float(NamedTuple):
    """A float that holds the powers of two of a word, and the whole number of as many bytes."""

    kind: np.dtype[Any]
    whole: np.dtype[Any]
    exponent_at: int
    exponent_of_1: int


_FLOAT_OF_WORD = {
    4: _Float(np.dtype(np.float32), np.dtype(np.int32), 23, 127),
    8: _Float(np.dtype(np.float64), np.dtype(np.int64), 52, 1023),
}
"""By bytes of a word."""


class NumpyTreeKernel:
    """See `Kernel` in kernel.py."""

    def __init__(self, tables: TreeTables) -> None:
        self._tables = tables
        self._float = _FLOAT_OF_WORD[tables.word.itemsize]
        # A leaf lies at its number, the exponent of its bit, behind the leaves of the trees before.
        first_leaf = np.arange(tables.n_trees, dtype=np.int64) * tables.leaves.shape[1]
        self._leaf_of_exponent_0 = first_leaf - self._float.exponent_of_1
        self._leaves = tables.leaves.ravel()
        starts = tables.column_start.tolist()
        self._cuts = [tables.cuts[start:end].tolist() for start, end in pairwise(starts)]

    def partial(self, floats: Floats, first_float: int, ids: Ids, first_id: int, out: Words) -> None:
        """See `Kernel.partial`."""
        check_rows(floats, ids, out)
        columns = [(first_float + j, floats[:, j]) for j in range(floats.shape[1])]
        for j in range(ids.shape[1]):
            code_map = int(self._tables.code_column[first_id + j])
            if code_map >= 0:
                columns.append((self._tables.n_features + code_map, self._codes(code_map, ids[:, j])))
        if len(out) == 1 and self._tables.stride == 1:
            rows = [self._row(column, float(values[0])) for column, values in columns if self._cuts[column]]
            out &= np.bitwise_and.reduce(self._tables.rows[rows], axis=0, keepdims=True)
            return
        for column, values in columns:
            self._apply(column, values, out)

    def score(
        self,
        shared: Words,
        base: Words,
        delta: Words,
        split: int,
        rows: Int64s,
        raw_logit: Float64s,
        p_click: Float64s,
        segments: Int32s | None,
    ) -> None:
        """See `Kernel.score`."""
        left = gathered(base, delta, split, rows)
        left &= shared
        left &= -left  # the lowest bit alone
        exponent = left.astype(self._float.kind).view(self._float.whole) >> self._float.exponent_at
        # No bit left means damaged masks; clipping then reads a wrong leaf and no memory that is not ours.
        raw_logit[:] = self._leaves.take(self._leaf_of_exponent_0 + exponent, mode="clip").sum(axis=1)
        p_click[:] = self._tables.calibrator.p_click(raw_logit, segments)

    def _row(self, column: int, value: float) -> int:
        """The stored row of one value, at stride 1."""
        if value != value:
            return int(self._tables.column_row[column + 1]) - 1
        return int(self._tables.column_row[column]) + bisect_left(self._cuts[column], value)

    def _apply(self, column: int, values: Floats, masks: Words) -> None:
        """ANDs what (m,) values of one column rule out into (m, T) masks."""
        tables = self._tables
        start, end = tables.column_start[column], tables.column_start[column + 1]
        if start == end:
            return
        missing = np.isnan(values)
        failed = np.where(missing, 0, np.searchsorted(tables.cuts[start:end], values.astype(np.float64)))
        first_row = tables.column_row[column]
        masks &= tables.rows[np.where(missing, tables.column_row[column + 1] - 1, first_row + failed // tables.stride)]
        rest = failed % tables.stride
        for step in range(int(rest.max(initial=0))):
            at = np.flatnonzero(rest > step)
            test = start + (failed - rest)[at] + step
            masks[at, tables.test_tree[test]] &= tables.test_mask[test]

    def _codes(self, code_map: int, hashes: npt.NDArray[np.uint32]) -> Floats:
        """(m,) codes of hashes, NaN where unknown."""
        keys, codes = (
            values[self._tables.key_start[code_map] : self._tables.key_start[code_map + 1]]
            for values in (self._tables.keys, self._tables.codes)
        )
        if not len(keys):
            return np.full(len(hashes), np.nan, dtype=np.float32)
        place = np.searchsorted(keys, hashes).clip(max=len(keys) - 1)
        return np.where(keys[place] == hashes, codes[place], np.float32(np.nan))
