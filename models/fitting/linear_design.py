"""Columns as sparse weights: how a linear model reads numbers and hashes.

A number has a straight line over its standardised signed logarithm (counts and prices span decades, some are negative)
and one weight per quantile bin, which bends the line where many clicks ask for it; missing is a bin of its own. A hash
has one weight in its column's table, found by the full hash modulo the table's size. Tables hold many times the values
seen in training, so that an unseen hash seldom borrows the weight of a seen one.

The design is a CSR matrix of n rows with d lines, d bins and k hashes each; its columns are laid out as

    lines (d) | bins (d * (b + 2)) | tables (sum of sizes)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from models.encoder import Encoded
from models.specs import LinearSpec

Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]

BINS = 10
BIN_SCALE = 0.03
"""Size of a bin in the design, which makes the penalty on its weight 1 000 times that on a category's: a bend must be
backed by thousands of clicks. Counters grow with time, so their last bin is also "the last days"; with full weight it
learnt the luck of those days, and the mean prediction on later impressions was off by several percent."""

LIMIT = 5.0
"""Standardised values beyond ± this are clipped: one absurd number must not decide a click."""

TABLE_ROOM = 16
"""Entries per distinct hash seen: an unseen hash meets a seen one's weight 1 time in 16."""

MAX_TABLE = 1 << 18
MIN_SPREAD = 1e-12


@dataclass(frozen=True, slots=True)
class LinearDesign:
    """Where each column's weights lie; see `LinearSpec` for the arrays."""

    mean: Float64s
    spread: Float64s
    edges: Float64s
    id_sizes: Int64s
    id_offsets: Int64s

    @classmethod
    def of(cls, encoded: Encoded, distinct: Int64s | None = None) -> LinearDesign:
        """Spread, bins and table sizes from training rows.

        distinct: (k,) how many distinct hashes each id column has, where `encoded` is but a sample; None: as many as
            it shows.
        """
        d = encoded.features.shape[1]
        mean, spread = np.zeros(d), np.ones(d)
        edges = np.full((d, BINS - 1), np.inf)
        for column in range(d):
            values = encoded.features[:, column].astype(np.float64)
            values = values[~np.isnan(values)]
            if len(values) == 0:
                continue
            logs = signed_log(values)
            mean[column] = logs.mean()
            spread[column] = logs.std() if logs.std() > MIN_SPREAD else 1.0
            quantiles = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1], method="lower"))
            quantiles = quantiles[quantiles < values.max()]
            edges[column, : len(quantiles)] = quantiles
        counts = [len(np.unique(column)) for column in encoded.ids.T] if distinct is None else distinct.tolist()
        id_sizes = np.array([_table_size(count) for count in counts], dtype=np.int64)
        return cls(mean, spread, edges, id_sizes, np.cumsum(id_sizes) - id_sizes)

    @property
    def n_bins(self) -> int:
        """Bin weights of one number: missing, and one more than there are edges."""
        return int(self.edges.shape[1]) + 2

    @property
    def n_weights(self) -> int:
        """Columns of the design."""
        d = len(self.mean)
        return d + d * self.n_bins + int(self.id_sizes.sum())

    def scale(self) -> Float64s:
        """(n_weights,) value of each bin and hash in the rows that have it; a line's values are the row's own, so 1."""
        bins = np.where(np.arange(self.n_bins) == 0, 1.0, BIN_SCALE)
        return np.concatenate([np.ones(len(self.mean)), np.tile(bins, len(self.mean)), np.ones(self.id_sizes.sum())])

    def lines(self, features: npt.NDArray[np.float32]) -> Float64s:
        """(n, d) standardised signed logarithms, 0 where missing."""
        z = (signed_log(features.astype(np.float64)) - self.mean) / self.spread
        return np.where(np.isnan(z), 0.0, np.clip(z, -LIMIT, LIMIT))

    def bins(self, features: npt.NDArray[np.float32]) -> Int64s:
        """(n, d) bin of each number: 0 missing, 1 + edges below it otherwise."""
        bins = np.empty(features.shape, dtype=np.int64)
        for column in range(len(self.edges)):
            bins[:, column] = self.bins_of(column, features[:, column])
        return bins

    def bins_of(self, column: int, numbers: npt.NDArray[np.float32]) -> Int64s:
        """(n,) bin of each number of one column."""
        values = numbers.astype(np.float64)
        return np.where(np.isnan(values), 0, 1 + np.searchsorted(self.edges[column], values, side="left"))

    def matrix(self, encoded: Encoded) -> sparse.csr_array:
        """The design of n rows, (n, n_weights) CSR."""
        n, d = encoded.features.shape
        k = len(self.id_sizes)
        at = np.empty((n, 2 * d + k), dtype=np.int32 if self.n_weights < 2**31 else np.int64)
        values = np.ones((n, 2 * d + k))
        at[:, :d] = np.arange(d)
        values[:, :d] = self.lines(encoded.features)
        bins = self.bins(encoded.features)
        at[:, d : 2 * d] = d + np.arange(d) * self.n_bins + bins
        values[:, d : 2 * d] = np.where(bins == 0, 1.0, BIN_SCALE)
        at[:, 2 * d :] = d + d * self.n_bins + self.id_offsets + encoded.ids % self.id_sizes
        row_ends = np.arange(n + 1, dtype=at.dtype) * (2 * d + k)
        return sparse.csr_array((values.ravel(), at.ravel(), row_ends), shape=(n, self.n_weights))

    def spec(self, weights: Float64s, intercept: float) -> LinearSpec:
        """The model that these weights make."""
        d = len(self.mean)
        table_at = d + d * self.n_bins
        return LinearSpec(
            intercept=intercept,
            mean=self.mean,
            spread=self.spread,
            slope=weights[:d],
            limit=LIMIT,
            edges=self.edges,
            bin_weights=weights[d:table_at].reshape(d, self.n_bins)
            * np.where(np.arange(self.n_bins) == 0, 1.0, BIN_SCALE),
            id_sizes=self.id_sizes,
            id_offsets=self.id_offsets,
            id_weights=weights[table_at:],
        )


def signed_log(values: Float64s) -> Float64s:
    """sign(x) * log(1 + |x|); NaN stays NaN."""
    return np.sign(values) * np.log(1.0 + np.abs(values))


def _table_size(distinct: int) -> int:
    """Power of two with room for the distinct hashes of a column."""
    wanted = TABLE_ROOM * max(1, distinct)
    return min(MAX_TABLE, 1 << (wanted - 1).bit_length())
