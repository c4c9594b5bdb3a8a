"""What a trained model computes, free of the learner that found it: the input of the ONNX export and of the proof.

A *tree ensemble* adds one leaf per tree; hashes reach its trees as numbers through code maps. A *linear* model adds one
weight per column and bin. A *factorisation machine* adds to a linear model what every two columns say together, a *deep
cross net* what any number of columns do, *two towers* what an ad and the rest of the row do. All are plain arrays, so
that the exported graph can hold the trainer's own numbers and not their neighbours: nets the float32 that were learnt,
the others doubles. Sums are of doubles everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64s = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CodeMap:
    """Numbers for the hashes of one id column: keys[i] becomes codes[i], any other hash becomes NaN (missing).

    column: index among the id columns.
    keys: (v,) int64, ascending.
    codes: (v,) float32.
    """

    column: int
    keys: Int64s
    codes: npt.NDArray[np.float32]

    def apply(self, ids: Int64s) -> npt.NDArray[np.float32]:
        """Codes of one column of hashes, (n,) -> (n,)."""
        place = np.searchsorted(self.keys, ids).clip(max=len(self.keys) - 1)
        return np.where(self.keys[place] == ids, self.codes[place], np.float32(np.nan))


@dataclass(frozen=True, slots=True)
class TreeEnsembleSpec:
    """A sum of regression trees over the columns [features | codes], in flat arrays over all m nodes.

    Node i of a tree goes to `left` where value <= threshold, else to `right`; a missing value goes left where
    `missing_left` says so. A leaf has column -1 and its value in `leaf_value`.

    n_features: d, the number of float columns; column d + j is the j-th code map.
    code_maps: one per id column that the trees may read.
    tree: (m,) which tree a node belongs to, ascending from 0; the first node of each tree is its root.
    column, left, right: (m,) int64; left and right are places in these arrays.
    threshold, leaf_value: (m,) float64. missing_left: (m,) bool.
    cover: (m,) float64 above 0, how many training rows (or how much weight of them) came by each node, a split as many
        as its two children together; None where nobody counted. Scores do not need it, explanations do.
    """

    n_features: int
    code_maps: tuple[CodeMap, ...]
    tree: Int64s
    column: Int64s
    threshold: Float64s
    left: Int64s
    right: Int64s
    missing_left: npt.NDArray[np.bool_]
    leaf_value: Float64s
    cover: Float64s | None = None

    def cut_points(self) -> dict[int, Float64s]:
        """Distinct thresholds of each float column, where the answer may jump."""
        return {
            int(column): np.unique(self.threshold[self.column == column])
            for column in np.unique(self.column)
            if 0 <= column < self.n_features
        }

    def known_ids(self) -> dict[int, Int64s]:
        """Hashes of each id column that the model tells from unseen ones."""
        return {code_map.column: code_map.keys for code_map in self.code_maps}


@dataclass(frozen=True, slots=True)
class LinearSpec:
    """A sum of weights: bins and a straight line for each number, a hashed table for each id column.

    A number x adds `slope * z + bin_weights[bin]`: z is the standardised signed logarithm
    `clip((sign(x) * log(1 + |x|) - mean) / spread, -limit, limit)`, 0 where x is missing; bin 0 is "missing", bin
    1 + (number of edges below x) otherwise. A hash adds `id_weights[offset + hash mod size]` of its column.

    Models from elsewhere read numbers as they are: without `signed_log`, z is `clip((x - mean) / spread, …)`.

    mean, spread, slope: (d,) float64; spread > 0.
    edges: (d, b) float64, ascending, padded with +inf.
    bin_weights: (d, b + 2) float64.
    id_sizes, id_offsets: (k,) int64. id_weights: (sum of sizes,) float64.
    """

    intercept: float
    mean: Float64s
    spread: Float64s
    slope: Float64s
    limit: float
    edges: Float64s
    bin_weights: Float64s
    id_sizes: Int64s
    id_offsets: Int64s
    id_weights: Float64s
    signed_log: bool = True

    @classmethod
    def constant(cls, intercept: float, n_features: int, n_ids: int) -> LinearSpec:
        """The model that reads d numbers and k hashes, and answers the same whatever they are."""
        return cls(
            intercept=intercept,
            mean=np.zeros(n_features),
            spread=np.ones(n_features),
            slope=np.zeros(n_features),
            limit=1.0,
            edges=np.full((n_features, 1), np.inf),
            bin_weights=np.zeros((n_features, 3)),
            id_sizes=np.ones(n_ids, dtype=np.int64),
            id_offsets=np.arange(n_ids, dtype=np.int64),
            id_weights=np.zeros(n_ids),
        )

    def cut_points(self) -> dict[int, Float64s]:
        """Finite bin edges of each float column, where the answer may jump."""
        return {column: edges[np.isfinite(edges)] for column, edges in enumerate(self.edges)}

    def known_ids(self) -> dict[int, Int64s]:
        """None: a hashed table gives every hash a weight."""
        return {}


@dataclass(frozen=True, slots=True)
class FactorisationMachineSpec:
    """A linear model, and the inner product of the vectors of every two columns.

    A number's vector is `number_vectors[column] * z`, z as in its line; a hash's is `id_vectors` at the place of its
    weight. The products of all pairs add up to (|sum of the vectors|^2 - sum of their |vector|^2) / 2.

    number_vectors: (d, r) float64. id_vectors: (sum of sizes, r) float64.

    Source: Rendle 2010, "Factorization Machines".
    """

    linear: LinearSpec
    number_vectors: Float64s
    id_vectors: Float64s

    def cut_points(self) -> dict[int, Float64s]:
        """Those of the linear part: vectors bend nowhere."""
        return self.linear.cut_points()

    def known_ids(self) -> dict[int, Int64s]:
        """None: a hashed table gives every hash a vector."""
        return {}


@dataclass(frozen=True, slots=True)
class NetInputs:
    """Columns that a net reads, as one vector x = [z of numbers | 1 where missing | vectors of hashes], (n, width).

    z and the places of hashes are those of the linear model beside the net. A column that all training rows had alike
    is not among them: nobody knows what another value of it would mean.

    numbers, missing: (a,) and (m,) float columns whose z, and whose absence, is read. ids: (b,) id columns.
    rank: e, the length of a hash's vector.
    """

    numbers: Int64s
    missing: Int64s
    ids: Int64s
    rank: int

    @property
    def width(self) -> int:
        """a + m + b e."""
        return len(self.numbers) + len(self.missing) + len(self.ids) * self.rank


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """x becomes x @ weights + bias. weights: (a, b); bias: (b,)."""

    weights: Float32s
    bias: Float32s


@dataclass(frozen=True, slots=True)
class CrossLayer:
    """x becomes x0 * (x @ narrow @ wide + bias) + x, x0 being what the first layer read.

    narrow: (width, rank); wide: (rank, width); bias: (width,).
    """

    narrow: Float32s
    wide: Float32s
    bias: Float32s


@dataclass(frozen=True, slots=True)
class DeepCrossSpec:
    """A linear model, and a net that reads all columns: cross layers beside hidden layers of max(0, x).

    The margin adds [last cross layer | last hidden layer] @ out to the linear model's.

    id_vectors: (rows up to the end of the last table that the net reads, rank).
    out: (inputs.width + width of the last hidden layer,).

    Source: Wang et al. 2021, "DCN V2", the parallel form with low-rank layers.
    """

    linear: LinearSpec
    inputs: NetInputs
    id_vectors: Float32s
    crosses: tuple[CrossLayer, ...]
    hidden: tuple[DenseLayer, ...]
    out: Float32s

    def cut_points(self) -> dict[int, Float64s]:
        """Those of the linear part: the net bends, and jumps nowhere."""
        return self.linear.cut_points()

    def known_ids(self) -> dict[int, Int64s]:
        """None: a hashed table gives every hash a vector."""
        return {}


@dataclass(frozen=True, slots=True)
class Tower:
    """Columns become a vector: max(0, hidden(x)), then out. hidden: width to h; out: h to r."""

    inputs: NetInputs
    hidden: DenseLayer
    out: DenseLayer

    @classmethod
    def same(cls, vector: Float32s, rank: int) -> Tower:
        """The tower that reads no column: `vector` (r,) for every row."""
        none = np.empty(0, dtype=np.int64)
        hidden = DenseLayer(np.empty((0, 0), np.float32), np.empty(0, np.float32))
        return cls(
            NetInputs(none, none, none, rank), hidden, DenseLayer(np.empty((0, len(vector)), np.float32), vector)
        )


@dataclass(frozen=True, slots=True)
class TwoTowerSpec:
    """A linear model, and the inner product of two vectors: one of the ad, one of the user and the context.

    id_vectors: (rows up to the end of the last table that a tower reads, rank).

    Source: Huang et al. 2013, "Learning Deep Structured Semantic Models for Web Search using Clickthrough Data".
    """

    linear: LinearSpec
    id_vectors: Float32s
    query: Tower
    ad: Tower

    def cut_points(self) -> dict[int, Float64s]:
        """Those of the linear part: towers bend, and jump nowhere."""
        return self.linear.cut_points()

    def known_ids(self) -> dict[int, Int64s]:
        """None: a hashed table gives every hash a vector."""
        return {}


ModelSpec = TreeEnsembleSpec | LinearSpec | FactorisationMachineSpec | DeepCrossSpec | TwoTowerSpec
