"""Random models for the score plans: tree ensembles and linear models, rows where they may jump, and a plain walk.

The walk is the oracle: one row, one tree, one test at a time, in plain Python, with nothing in common with the tables
of bit masks. Thresholds come from a small pool, so that trees and columns share them; the pool holds what floating
point is known to trip over. Exact leaves are multiples of 2^-10, whose sums no order of addition rounds.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from models.calibrator import CalibratorMap
from models.encoder import Columns, Encoded, Layout, Side
from models.fitting.beta_curve import drawn_curve
from models.segments import SegmentLines
from models.specs import (
    CodeMap,
    DeepCrossSpec,
    FactorisationMachineSpec,
    LinearSpec,
    ModelSpec,
    TreeEnsembleSpec,
    TwoTowerSpec,
)
from tests.net_walk import net_by_hand

AWKWARD = (
    *(0.0, -0.0, 5e-324, -5e-324, 1e-45, -1e-45, 1e-35, 0.1, float(np.float32(0.1)), 0.5, 1.0, -1.0),
    *(16_777_217.0, 3e38, -3e38, 1e300, math.inf, -math.inf),
)
"""Zeros of both signs, denormals of double and of float32, numbers between two float32 and beyond all of them."""
LEAVES = st.one_of(st.just(1), st.integers(2, 9), st.sampled_from([31, 32, 33, 63, 64]))
PIECEWISE = CalibratorMap("piecewise", 0.1, np.array([-0.75, 0.0, 0.5]), np.array([0.5, 1.2, 0.3, 2.0]))
SCALES, SHIFTS = np.array([1.0, 0.5, 1.0, 3.0]), np.array([0.0, -0.75, 0.25, 1.5])
SEGMENT_VALUES = np.array([0, 1, 2, 3, 4, -1, 0.5, 2.0**31, -0.0, np.nan], np.float32)
"""Segments with and without a line, and what is none."""
CALIBRATORS = (
    CalibratorMap.identity(),
    CalibratorMap("platt", 0.3, np.empty(0), np.array([0.8])),
    PIECEWISE,
    drawn_curve(0.6, 2.5, 0.1),
)


@dataclass(frozen=True, slots=True)
class RandomModel:
    """A model, where its columns come from, what follows its margin, and rows to ask it for."""

    spec: ModelSpec
    layout: Layout
    correction: float
    calibrator: CalibratorMap
    rows: Encoded


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Up to three numbers and two hashes from each side, at least one of all."""
    widths = draw(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=4, max_size=4).filter(
            lambda sides: any(map(any, sides))
        )
    )
    first_float = first_id = 0
    sides = []
    for n_floats, n_ids in widths:
        sides.append(Columns(first_float, n_floats, first_id, n_ids))
        first_float, first_id = first_float + n_floats, first_id + n_ids
    user, ad, context, pair = sides
    return Layout((user, ad, context, pair))


@st.composite
def tree_models(draw: st.DrawFn, *, exact: bool) -> RandomModel:
    """Up to eight trees of 1 to 64 leaves; `exact` ones have leaves that add up without rounding."""
    layout = draw(layouts())
    sizes = draw(st.lists(LEAVES, min_size=1, max_size=8))
    pool = draw(st.lists(st.sampled_from(AWKWARD) | st.floats(-2, 2), min_size=1, max_size=6))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    maps = code_maps(random, layout)
    n_columns = layout.n_floats + len(maps)
    cuts = np.array([*pool, *(code for code_map in maps for code in code_map.codes.tolist() if not math.isnan(code))])
    trees = [grown(random, size if n_columns else 1, n_columns, cuts) for size in sizes]
    spec = ensemble(random, trees, layout.n_floats, maps, exact=exact)
    rows = awkward_rows(random, layout, cuts, [code_map.keys for code_map in maps])
    return RandomModel(spec, layout, *after_the_margin(draw, random, layout, rows), rows)


@st.composite
def linear_models(draw: st.DrawFn) -> RandomModel:
    """Lines, bins and tables of any size, edges from the same pool; half of them with vectors."""
    layout = draw(layouts())
    n_edges = draw(st.integers(1, 5))
    pool = draw(st.lists(st.sampled_from(AWKWARD[:-2]) | st.floats(-2, 2), min_size=1, max_size=6))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    limit = draw(st.sampled_from([0.5, 5.0]))
    linear = linear_spec(random, layout, np.array([*pool, math.inf]), n_edges, limit)
    spec: LinearSpec | FactorisationMachineSpec = linear
    if rank := draw(st.sampled_from([0, 0, 1, 3])):
        vectors = (random.normal(size=(n, rank)) for n in (layout.n_floats, linear.id_sizes.sum()))
        spec = FactorisationMachineSpec(linear, *vectors)
    rows = awkward_rows(random, layout, np.array(pool), [])
    return RandomModel(spec, layout, *after_the_margin(draw, random, layout, rows), rows)


def linear_spec(
    random: np.random.Generator, layout: Layout, edges: npt.NDArray[np.float64], n_edges: int, limit: float
) -> LinearSpec:
    """Random weights over the columns of a layout, edges drawn from some."""
    d, sizes = layout.n_floats, random.integers(1, 9, size=layout.n_ids)
    return LinearSpec(
        intercept=float(random.normal()),
        mean=random.normal(size=d),
        spread=random.uniform(0.1, 3.0, size=d),
        slope=random.normal(size=d),
        limit=limit,
        edges=np.sort(random.choice(edges, size=(d, n_edges)), axis=1),
        bin_weights=random.normal(size=(d, n_edges + 2)),
        id_sizes=sizes,
        id_offsets=np.cumsum(sizes) - sizes,
        id_weights=random.normal(size=sizes.sum()),
    )


def after_the_margin(
    draw: st.DrawFn, random: np.random.Generator, layout: Layout, rows: Encoded
) -> tuple[float, CalibratorMap]:
    """A correction and a calibrator, half of them with segments; the column of `rows` that names those is changed."""
    correction, calibrator = draw(st.sampled_from([0.0, -1.609])), draw(st.sampled_from(CALIBRATORS))
    n_columns = layout[Side.PAIR].first_float
    if n_columns == 0 or draw(st.booleans()):
        return correction, calibrator
    column = draw(st.integers(0, n_columns - 1))
    rows.features[:, column] = random.choice(SEGMENT_VALUES, len(rows.features))
    return correction, replace(calibrator, segments=SegmentLines(column, SCALES, SHIFTS))


def code_maps(random: np.random.Generator, layout: Layout) -> tuple[CodeMap, ...]:
    """For about two columns of hashes in three: up to five known hashes, whose codes may repeat or be missing."""
    maps = []
    for column in random.permutation(layout.n_ids)[: (2 * layout.n_ids + 1) // 3].tolist():
        keys = np.unique(random.integers(1, 1 << 32, size=random.integers(1, 6)))
        codes = random.choice(np.array([-1.5, -0.5, 0.0, 0.5, np.nan], np.float32), size=len(keys))
        maps.append(CodeMap(column, keys, codes))
    return tuple(maps)


def grown(
    random: np.random.Generator, n_leaves: int, n_columns: int, cuts: npt.NDArray[np.float64]
) -> list[tuple[int, float, int, int, bool]]:
    """A tree of n_leaves as (column, threshold, left, right, missing left) per node, root first; -1 marks a leaf.

    A leaf is split at random, or always the youngest one, which makes a chain.
    """
    nodes = [(-1, 0.0, 0, 0, False)]
    leaves = [0]
    is_chain = random.random() < 0.3
    while len(leaves) < n_leaves:
        split = leaves.pop(-1 if is_chain else int(random.integers(len(leaves))))
        children = [len(nodes), len(nodes) + 1]
        nodes += [(-1, 0.0, 0, 0, False)] * 2
        leaves += random.permutation(children).tolist()
        column, cut = int(random.integers(n_columns)), float(random.choice(cuts))
        nodes[split] = (column, cut, *children, bool(random.random() < 0.5))
    return nodes


def ensemble(
    random: np.random.Generator,
    trees: list[list[tuple[int, float, int, int, bool]]],
    n_features: int,
    maps: tuple[CodeMap, ...],
    *,
    exact: bool,
) -> TreeEnsembleSpec:
    """The trees one after another, with random leaves."""
    sizes = np.array([len(nodes) for nodes in trees])
    start = np.repeat(np.cumsum(sizes) - sizes, sizes)
    column, threshold, left, right, missing_left = map(np.array, zip(*(n for t in trees for n in t), strict=True))
    leaf = column < 0
    value = random.integers(-1024, 1025, size=len(leaf)) / 1024 if exact else random.uniform(-0.25, 0.25, len(leaf))
    return TreeEnsembleSpec(
        n_features=n_features,
        code_maps=maps,
        tree=np.repeat(np.arange(len(trees)), sizes),
        column=column,
        threshold=threshold,
        left=np.where(leaf, 0, left + start),
        right=np.where(leaf, 0, right + start),
        missing_left=missing_left,
        leaf_value=np.where(leaf, value, 0.0),
    )


def awkward_rows(
    random: np.random.Generator, layout: Layout, cuts: npt.NDArray[np.float64], keys: list[npt.NDArray[np.int64]]
) -> Encoded:
    """24 rows of missing values, cuts, their neighbours, zeros, denormals and others; hashes known, unseen, missing."""
    largest = float(np.finfo(np.float32).max)
    nearest = np.clip(cuts, -largest / 2, largest / 2).astype(np.float32)
    neighbours = [np.nextafter(nearest, np.float32(side)) for side in (-np.inf, np.inf)]
    others = np.array([np.nan, np.nan, 0.0, -0.0, 1e-45, -1e-45, largest, -largest], np.float32)
    values = np.concatenate([nearest, *neighbours, others, random.normal(size=4).astype(np.float32)])
    hashes = np.concatenate([*keys, [0, 1, (1 << 32) - 1], random.integers(0, 1 << 32, size=2)])
    return Encoded(random.choice(values, (24, layout.n_floats)), random.choice(hashes, (24, layout.n_ids)))


def walked(model: RandomModel, rows: Encoded) -> list[float]:
    """The margin of each row, one test at a time."""
    if isinstance(model.spec, TreeEnsembleSpec):
        return [_trees_by_hand(model.spec, *row) for row in zip(*map(np.ndarray.tolist, rows), strict=True)]
    listed = list(zip(*map(np.ndarray.tolist, rows), strict=True))
    if isinstance(model.spec, LinearSpec):
        return [_sum_by_hand(model.spec, *row) for row in listed]
    if isinstance(model.spec, (DeepCrossSpec, TwoTowerSpec)):
        return [_sum_by_hand(model.spec.linear, *row) + net_by_hand(model.spec, *row) for row in listed]
    return [_sum_by_hand(model.spec.linear, *row) + _pairs_by_hand(model.spec, *row) for row in listed]


def _trees_by_hand(spec: TreeEnsembleSpec, features: list[float], ids: list[int]) -> float:
    """For `RandomModel`s only: their trees begin where the tree number rises."""
    values = list(features)
    for code_map in spec.code_maps:
        known = dict(zip(code_map.keys.tolist(), code_map.codes.tolist(), strict=True))
        values.append(known.get(ids[code_map.column], math.nan))
    chosen = []
    for tree in range(int(spec.tree[-1]) + 1):
        node = spec.tree.tolist().index(tree)
        while spec.column[node] >= 0:
            value = values[spec.column[node]]
            goes_left = spec.missing_left[node] if math.isnan(value) else value <= spec.threshold[node]
            node = int(spec.left[node] if goes_left else spec.right[node])
        chosen.append(float(spec.leaf_value[node]))
    return math.fsum(chosen)


def _sum_by_hand(spec: LinearSpec, features: list[float], ids: list[int]) -> float:
    terms = [spec.intercept]
    for column, value in enumerate(features):
        if math.isnan(value):
            terms.append(spec.bin_weights[column][0])
            continue
        z = (math.copysign(math.log(1 + abs(value)), value) - spec.mean[column]) / spec.spread[column]
        terms.append(spec.slope[column] * min(max(z, -spec.limit), spec.limit))
        terms.append(spec.bin_weights[column][1 + sum(edge < value for edge in spec.edges[column])])
    for column, hashed in enumerate(ids):
        terms.append(spec.id_weights[spec.id_offsets[column] + hashed % spec.id_sizes[column]])
    return math.fsum(terms)


def _pairs_by_hand(spec: FactorisationMachineSpec, features: list[float], ids: list[int]) -> float:
    """The inner product of every two columns, one after the other."""
    linear = spec.linear
    vectors = []
    for column, value in enumerate(features):
        if not math.isnan(value):
            z = (math.copysign(math.log(1 + abs(value)), value) - linear.mean[column]) / linear.spread[column]
            vectors.append(spec.number_vectors[column] * min(max(z, -linear.limit), linear.limit))
    for column, hashed in enumerate(ids):
        vectors.append(spec.id_vectors[linear.id_offsets[column] + hashed % linear.id_sizes[column]])
    return math.fsum(float(one @ other) for one, other in itertools.combinations(vectors, 2))
