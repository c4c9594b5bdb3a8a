"""Several pairs at a time with AVX-512: the same answers, to the bit, as one by one."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.plans.kernel import compiled_kernels_trouble, tree_kernel
from models.plans.tree_tables import TreeTables, tree_tables
from tests.ensembles import PIECEWISE, ensemble, grown

N_FLOATS, N_ADS, N_CHANGED = 4, 50, 7


def made_tables(n_trees: int, n_leaves: int, seed: int) -> TreeTables:
    """Trees over four numbers, with leaves whose sums depend on the order of addition."""
    random = np.random.default_rng(seed)
    trees = [grown(random, n_leaves, N_FLOATS, np.linspace(-1, 1, 15)) for _ in range(n_trees)]
    return tree_tables(ensemble(random, trees, N_FLOATS, (), exact=False), 0, 0.0, PIECEWISE, stride=3)


def kernels(tables: TreeTables) -> tuple[Any, Any]:
    """In tiles and one by one; skips where the processor has no AVX-512."""
    if compiled_kernels_trouble():
        pytest.skip("the compiled kernels were not built")
    tiles, single = (tree_kernel("compiled", tables, in_tiles=in_tiles) for in_tiles in (True, False))
    if not tiles.in_tiles:  # type: ignore[attr-defined]
        pytest.skip("this processor has no AVX-512: pairs are scored one by one here")
    return tiles, single


def parts(kernel: Any, tables: TreeTables, m: int, seed: int) -> np.ndarray[Any, Any]:
    """(m, T) what is left of the trees for m made rows, some values missing."""
    random = np.random.default_rng(seed)
    floats = random.normal(size=(m, N_FLOATS)).astype(np.float32)
    floats[random.random(floats.shape) < 0.1] = np.nan
    part = np.full((m, tables.n_trees), np.iinfo(tables.word).max, dtype=tables.word)
    kernel.partial(floats, 0, np.empty((m, 0), np.uint32), 0, part)
    return part


@example(n_trees=16, n_leaves=32, n=0, shared_by_all=True, seed=0)
@example(n_trees=17, n_leaves=32, n=5, shared_by_all=True, seed=0)
@example(n_trees=31, n_leaves=32, n=6, shared_by_all=True, seed=0)
@example(n_trees=8, n_leaves=64, n=17, shared_by_all=False, seed=0)
@example(n_trees=33, n_leaves=32, n=22, shared_by_all=False, seed=0)
@given(
    n_trees=st.integers(1, 50),
    n_leaves=st.one_of(st.integers(1, 64), st.sampled_from([31, 32, 33, 63, 64])),
    n=st.integers(0, 70),
    shared_by_all=st.booleans(),
    seed=st.integers(0, 999),
)
def test_tiles_answer_as_one_by_one(n_trees: int, n_leaves: int, n: int, shared_by_all: bool, seed: int) -> None:
    """Trees and pairs that fill no register, one user or one a pair, ads of the base, changed ones, repeated ones."""
    tables = made_tables(n_trees, n_leaves, seed)
    tiles, single = kernels(tables)
    base, delta = parts(single, tables, N_ADS, seed + 1), parts(single, tables, N_CHANGED, seed + 2)
    shared = parts(single, tables, 1 if shared_by_all else n, seed + 3)
    rows = np.random.default_rng(seed).integers(0, N_ADS + N_CHANGED, n)

    answers = []
    for kernel in (tiles, single):
        raw_logit, p_click = np.full(n, np.nan), np.full(n, np.nan)
        kernel.score(shared, base, delta, N_ADS, rows, raw_logit, p_click, None)
        answers.append((raw_logit, p_click))

    np.testing.assert_array_equal(answers[0], answers[1])
    assert np.isfinite(answers[0]).all()


@pytest.mark.parametrize("n_leaves", [32, 64])
def test_damaged_words_read_no_memory_that_is_not_the_model_s(n_leaves: int) -> None:
    """No leaf is left: the answer is wrong, and it is one of the tree's."""
    tables = made_tables(20, n_leaves, 0)
    tiles, _ = kernels(tables)
    nothing = np.zeros((N_ADS, 20), dtype=tables.word)
    raw_logit, p_click = np.empty(N_ADS), np.empty(N_ADS)

    tiles.score(nothing[:1], nothing, nothing[:0], N_ADS, np.arange(N_ADS), raw_logit, p_click, None)

    largest = np.abs(tables.leaves).max(axis=1).sum()
    assert (np.abs(raw_logit) <= largest * (1 + sys.float_info.epsilon * 100)).all()
