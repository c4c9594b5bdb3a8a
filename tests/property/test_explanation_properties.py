"""Contributions of random models on awkward rows: they add up, and trees give the Shapley values by their definition.

The oracle counts all sets of known columns, walking every tree by hand: exponential, and with nothing in common with
the integrals of `tree_shap.py`.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.explanation.contributions import contributions_of, explained
from models.export.graph import export_graph
from models.plans.source import plan_source
from models.specs import ModelSpec, TreeEnsembleSpec
from tests.ensembles import RandomModel, linear_models, tree_models, walked

MAX_COLUMNS = 7
"""Of the oracle, which walks all trees once per set of columns."""


@settings(max_examples=150)
@given(st.one_of(tree_models(exact=False), linear_models()), st.integers(0, 2**32 - 1))
def test_baseline_and_contributions_are_the_raw_logit(model: RandomModel, seed: int) -> None:
    """Within 1e-9 of a walk by hand, for missing, unseen and extreme values alike."""
    spec = read_back(model, seed)

    found = explained(contributions_of(spec, model.layout.n_ids), model.rows)

    margins = np.array(walked(model, model.rows))
    assert found.contributions.shape == (len(margins), model.layout.n_floats + model.layout.n_ids)
    np.testing.assert_allclose(found.baseline + found.contributions.sum(axis=1), margins, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.raw_logit, margins, rtol=1e-9, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(tree_models(exact=False), st.integers(0, 2**32 - 1))
def test_contributions_of_trees_are_shapley_values(model: RandomModel, seed: int) -> None:
    """Of the columns that the trees read, ids through their codes included."""
    spec = read_back(model, seed)
    assert isinstance(spec, TreeEnsembleSpec)
    used = sorted(set(spec.column[spec.column >= 0].tolist()))[:MAX_COLUMNS]
    spec = without_other_columns(spec, used)
    rows = type(model.rows)(model.rows.features[:2], model.rows.ids[:2])

    contributions = contributions_of(spec, model.layout.n_ids)
    found = contributions.of(rows)

    place = [c if c < spec.n_features else spec.n_features + spec.code_maps[c - spec.n_features].column for c in used]
    codes = [code_map.apply(rows.ids[:, code_map.column])[:, None] for code_map in spec.code_maps]
    for row, values in enumerate(np.concatenate([rows.features, *codes], axis=1).astype(np.float64)):
        wanted = shapley_values(spec, values.tolist(), used)
        np.testing.assert_allclose(found[row, place], wanted, rtol=0, atol=1e-9)
    assert math.isclose(contributions.baseline, expectation(spec, [], ()), rel_tol=1e-9, abs_tol=1e-9)
    assert not np.delete(found, place, axis=1).any()


def read_back(model: RandomModel, seed: int) -> ModelSpec:
    """The model as it comes out of its graph, trees with made-up counts of training rows."""
    spec = model.spec
    if isinstance(spec, TreeEnsembleSpec):
        spec = replace(spec, cover=made_covers(spec, np.random.default_rng(seed)))
    widths = (model.layout.n_floats, model.layout.n_ids)
    return plan_source(export_graph(spec, model.correction, model.calibrator, *widths)).spec


def made_covers(spec: TreeEnsembleSpec, random: np.random.Generator) -> np.ndarray:
    """Any number of rows in each leaf; children lie behind their parents."""
    cover = random.integers(1, 10_000, size=len(spec.tree)).astype(np.float64)
    for node in reversed(range(len(cover))):
        if spec.column[node] >= 0:
            cover[node] = cover[spec.left[node]] + cover[spec.right[node]]
    return cover


def without_other_columns(spec: TreeEnsembleSpec, kept: Collection[int]) -> TreeEnsembleSpec:
    """Splits of columns that are not kept become splits of the first that is."""
    is_other = (spec.column >= 0) & ~np.isin(spec.column, list(kept))
    return replace(spec, column=np.where(is_other, next(iter(kept), 0), spec.column))


def shapley_values(spec: TreeEnsembleSpec, values: list[float], columns: list[int]) -> list[float]:
    """By the definition: what a column adds to every set of the others, weighted."""
    n = len(columns)
    known = {s: expectation(spec, values, s) for size in range(n + 1) for s in combinations(columns, size)}
    return [
        math.fsum(
            (known[tuple(sorted((*s, column)))] - answer) / (n * math.comb(n - 1, len(s)))
            for s, answer in known.items()
            if column not in s
        )
        for column in columns
    ]


def expectation(spec: TreeEnsembleSpec, values: list[float], known: Collection[int]) -> float:
    """What the trees answer where only some columns are known: both branches elsewhere, by their training rows."""
    assert spec.cover is not None
    arrays = (spec.column, spec.threshold, spec.left, spec.right, spec.missing_left, spec.leaf_value, spec.cover)
    column, threshold, left, right, missing_left, leaf_value, cover = (array.tolist() for array in arrays)

    def below(node: int) -> float:
        if column[node] < 0:
            return float(leaf_value[node])
        if column[node] not in known:
            share = cover[left[node]] / cover[node]
            return share * below(left[node]) + (1 - share) * below(right[node])
        value = values[column[node]]
        goes_left = missing_left[node] if math.isnan(value) else value <= threshold[node]
        return below(left[node] if goes_left else right[node])

    return math.fsum(below(root) for root in np.flatnonzero(np.diff(spec.tree, prepend=-1)).tolist())
