"""What a model's columns and scores looked like when it was trained: `reference.json`, against which drift is measured.

Bins are fixed here once, at quantiles of the training rows, and later traffic is only counted into them: counters of
different workers and hours add up exactly, and a comparison needs no raw values.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from models.encoder import Encoded
from models.evaluation.metrics import Array, Float64s

BINS = 20
TOP_HASHES = 50


class NumberHistogram(msgspec.Struct, frozen=True):
    """Values of one number. counts[i] lies in (edges[i - 1], edges[i]]; the first and last bins are open."""

    edges: list[float]
    counts: list[int]
    missing: int

    def shares_up_to(self, bounds: Sequence[float], low: float, high: float) -> list[float]:
        """Share of the known values that are at most each bound; empty where no value is known.

        Exact at an edge; between two of them, values are taken as evenly spread, so an answer is wrong by less than the
        share of one bin (1 / BINS of a continuous column).

        Args:
            bounds: rising.
            low, high: no value is less, or more.
        """
        known = sum(self.counts)
        if not known:
            return []
        up_to = np.cumsum([0, *self.counts]) / known
        shares: list[float] = np.interp(bounds, [low, *self.edges, high], up_to).tolist()
        return shares


class HashHistogram(msgspec.Struct, frozen=True):
    """The most frequent hashes of one id column; the rest are `other`."""

    hashes: list[int]
    counts: list[int]
    other: int
    missing: int


class Reference(msgspec.Struct, frozen=True):
    """Histograms of all columns, by name, and of the scores."""

    rows: int
    floats: dict[str, NumberHistogram]
    ids: dict[str, HashHistogram]
    raw_logit: NumberHistogram
    p_click: NumberHistogram

    def coverage(self) -> dict[str, float]:
        """Share of rows in which each column was present."""
        rows = max(1, self.rows)
        return {name: 1.0 - histogram.missing / rows for name, histogram in (self.floats | self.ids).items()}


def reference_of(
    encoded: Encoded, float_names: tuple[str, ...], id_names: tuple[str, ...], raw_logit: Float64s, p_click: Float64s
) -> Reference:
    """Histograms of n training rows and of their out-of-sample scores."""
    return Reference(
        rows=len(encoded.features),
        floats={name: histogram(encoded.features[:, i]) for i, name in enumerate(float_names)},
        ids={name: _hashes(encoded.ids[:, i]) for i, name in enumerate(id_names)},
        raw_logit=histogram(raw_logit),
        p_click=histogram(p_click),
    )


def histogram(values: Array) -> NumberHistogram:
    """Of (n,) numbers, NaN for missing."""
    known = values[~np.isnan(values)].astype(np.float64)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1], method="lower")) if len(known) else known
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    return NumberHistogram(edges=edges.tolist(), counts=counts.tolist(), missing=len(values) - len(known))


def _hashes(ids: Array) -> HashHistogram:
    keys, counts = np.unique(ids[ids != 0], return_counts=True)
    top = np.argsort(counts, kind="stable")[::-1][:TOP_HASHES]
    return HashHistogram(
        hashes=keys[top].tolist(),
        counts=counts[top].tolist(),
        other=int(counts.sum() - counts[top].sum()),
        missing=int(np.count_nonzero(ids == 0)),
    )
