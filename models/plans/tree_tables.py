"""Tree ensembles as bit masks: the tables that both kernels score with.

Idea (QuickScorer, Lucchese et al. 2015, factorised by entity). Number the leaves of each tree from left to right. A
test `x <= t` that fails rules out the leaves of its left branch: one word per tree to AND with. After all failed tests
the exit leaf is the lowest bit that is left. Which tests of a column fail depends on one value alone, so the masks of a
user, of an ad and of a context can be computed apart, and a pair of them costs one AND, one count of trailing zeros and
one look-up per tree.

A column's tests are sorted by threshold; a value fails the first p. The AND of the first 0, s, 2s, … of them is stored
as a row over all trees (s = `stride`), a missing value has a row of its own, and what lies between two rows is applied
test by test. Stride 1 needs no such rest and a table row per test: 4 bytes x tests x trees. For 200 trees of 31 leaves
that is 4.8 MB at stride 1 and 0.35 MB at 16; but it grows with the square of the trees (4 000: 121 MB at 16), so the
stride doubles until the rows fit a limit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.calibrator import CalibratorMap, CalibratorPieces
from models.errors import PlanError
from models.specs import Float64s, Int64s, TreeEnsembleSpec

MAX_LEAVES = 64
"""Leaves of a tree that fit into one word."""

Words = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class TreeTables:
    """T trees over C columns: first the float columns, then one per code map.

    cuts, test_tree, test_mask: (tests,) float64, int32, words; by column, ascending within it.
    column_start: (C + 1,) where a column's tests begin.
    rows: (R, T) words; column_row: (C + 1,) where a column's rows begin; the last one is for a missing value. A column
        without tests has no rows.
    leaves: (T, bits of a word) float64.
    keys, codes: (v,) uint32 and float32 of all code maps; key_start: (maps + 1,) where each begins, ascending within.
    code_column: (k,) the code map of each id column, -1 where the trees do not look at it.
    calibrator: over raw_logit.
    """

    stride: int
    cuts: Float64s
    test_tree: npt.NDArray[np.int32]
    test_mask: Words
    column_start: Int64s
    rows: Words
    column_row: Int64s
    leaves: Float64s
    keys: npt.NDArray[np.uint32]
    codes: npt.NDArray[np.float32]
    key_start: Int64s
    code_column: Int64s
    calibrator: CalibratorPieces

    @property
    def n_trees(self) -> int:
        """T."""
        return len(self.leaves)

    @property
    def n_features(self) -> int:
        """Columns before the code maps."""
        return len(self.column_start) - len(self.key_start)

    @property
    def word(self) -> np.dtype[np.unsignedinteger]:
        """Of a mask: 32 or 64 bits, as many as the largest tree needs."""
        return self.test_mask.dtype


def tree_tables(
    spec: TreeEnsembleSpec,
    n_ids: int,
    correction: float,
    calibrator: CalibratorMap,
    *,
    stride: int,
    max_row_bytes: int | None = None,
) -> TreeTables:
    """Builds the tables.

    Args:
        n_ids: number of id columns of the model.
        stride: tests between two stored rows, 1 or more.
        max_row_bytes: where `rows` would take more, the stride doubles until they fit, or until each column has only
            the row before its first test and that of a missing value, with nothing more to save.
    Raises:
        PlanError: a tree has more leaves than a word has bits, or two code maps read one column.
    """
    ruled_out, leaf_number, n_leaves = _leaf_ranges(spec)
    if n_leaves > MAX_LEAVES:
        raise PlanError(f"a tree of {n_leaves} leaves; factorised trees have at most {MAX_LEAVES}")
    word = np.dtype(np.uint32 if n_leaves <= 32 else np.uint64)
    n_trees, n_columns = int(spec.tree[-1]) + 1, spec.n_features + len(spec.code_maps)

    is_leaf = spec.column < 0
    leaves = np.zeros((n_trees, word.itemsize * 8))
    leaves[spec.tree[is_leaf], leaf_number[is_leaf]] = spec.leaf_value[is_leaf]

    tests = np.flatnonzero(~is_leaf)
    tests = tests[np.lexsort((spec.threshold[tests], spec.column[tests]))]
    test_mask = (~ruled_out[tests]).astype(word)
    column_start = np.searchsorted(spec.column[tests], np.arange(n_columns + 1)).astype(np.int64)
    if max_row_bytes is not None:
        stride = _fitting_stride(stride, np.diff(column_start), max_row_bytes // (n_trees * word.itemsize))
    rows, column_row = _rows(spec.tree[tests], test_mask, ~spec.missing_left[tests], column_start, n_trees, stride)

    code_column = np.full(n_ids, -1, dtype=np.int64)
    for number, code_map in enumerate(spec.code_maps):
        if code_column[code_map.column] != -1:
            raise PlanError(f"two code maps read id column {code_map.column}")
        code_column[code_map.column] = number
    reachable = [(code_map.keys >= 0) & (code_map.keys < 1 << 32) for code_map in spec.code_maps]
    keys = [
        code_map.keys[possible].astype(np.uint32) for code_map, possible in zip(spec.code_maps, reachable, strict=True)
    ]
    codes = [code_map.codes[possible] for code_map, possible in zip(spec.code_maps, reachable, strict=True)]
    return TreeTables(
        stride=stride,
        cuts=spec.threshold[tests],
        test_tree=spec.tree[tests].astype(np.int32),
        test_mask=test_mask,
        column_start=column_start,
        rows=rows,
        column_row=column_row,
        leaves=leaves,
        keys=np.concatenate([np.empty(0, np.uint32), *keys]),
        codes=np.concatenate([np.empty(0, np.float32), *codes]).astype(np.float32),
        key_start=np.cumsum([0, *map(len, keys)]).astype(np.int64),
        code_column=code_column,
        calibrator=calibrator.pieces(correction),
    )


def _leaf_ranges(spec: TreeEnsembleSpec) -> tuple[npt.NDArray[np.uint64], Int64s, int]:
    """For each node: the leaves of its left branch as bits, and its own number if a leaf; the most leaves of a tree.

    A tree is walked depth first, left before right; a split learns the end of its left branch when its right begins.
    """
    left, right, is_leaf = spec.left.tolist(), spec.right.tolist(), (spec.column < 0).tolist()
    ruled_out = np.zeros(len(left), dtype=np.uint64)
    leaf_number = np.zeros(len(left), dtype=np.int64)
    most = 0
    for root in np.searchsorted(spec.tree, np.arange(int(spec.tree[-1]) + 1)).tolist():
        counted = 0
        pending: list[tuple[int, int | None, int]] = [(root, None, 0)]
        while pending:
            node, parent, first = pending.pop()
            if parent is not None:  # `node` is the right child: the left branch holds leaves `first` to `counted - 1`
                ruled_out[parent] = ((1 << counted) - (1 << first)) & 0xFFFF_FFFF_FFFF_FFFF
            if is_leaf[node]:
                leaf_number[node] = counted
                counted += 1
            else:
                pending.append((right[node], node, counted))
                pending.append((left[node], None, 0))
        most = max(most, counted)
        if most > MAX_LEAVES:
            break
    return ruled_out, leaf_number, most


def _n_rows(n_tests: Int64s, stride: int) -> Int64s:
    """(C,) stored rows of columns with so many tests: after every `stride` tests, before the first, and if missing."""
    return np.where(n_tests > 0, n_tests // stride + 2, 0)


def _fitting_stride(stride: int, n_tests: Int64s, max_rows: int) -> int:
    """The stride, doubled until there are at most so many rows or larger strides save none."""
    while _n_rows(n_tests, stride).sum() > max_rows and stride <= n_tests.max():
        stride *= 2
    return stride


def _rows(
    test_tree: Int64s,
    test_mask: Words,
    fails_if_missing: npt.NDArray[np.bool_],
    column_start: Int64s,
    n_trees: int,
    stride: int,
) -> tuple[Words, Int64s]:
    """The stored rows of all columns, and where each column's begin."""
    n_tests = np.diff(column_start)
    column_row = np.concatenate([[0], np.cumsum(_n_rows(n_tests, stride))]).astype(np.int64)
    rows = np.full((column_row[-1], n_trees), np.iinfo(test_mask.dtype).max, dtype=test_mask.dtype)
    for column in np.flatnonzero(n_tests).tolist():
        tests = slice(column_start[column], column_start[column + 1])
        missing = rows[column_row[column + 1] - 1]
        fails = fails_if_missing[tests]
        np.bitwise_and.at(missing, test_tree[tests][fails], test_mask[tests][fails])
        for row in range(column_row[column] + 1, column_row[column + 1] - 1):
            rows[row] = rows[row - 1]
            end = column_start[column] + (row - column_row[column]) * stride
            between = slice(end - stride, end)
            np.bitwise_and.at(rows[row], test_tree[between], test_mask[between])
    return rows, column_row
