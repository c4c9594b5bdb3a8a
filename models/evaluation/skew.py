"""Skew: served vectors beside the same rows made offline, column by column.

The question for each served row is what the offline store says of its entity *as of the row that was served*, not as
of the request: a store that was materialized an hour ago serves an hour-old rows, and that is staleness, told apart
below. What remains is skew: another value for the same entity and the same as-of.

- Counts, attributes, hashes, context and pairs must be equal bit by bit (NaN equals NaN).
- Rates, decayed counts and what SQL computes may differ by one step of float32 (1 ulp): a division or a sum of
  fractions may be rounded either way.
- A row that was missing must hold the view's defaults. A row whose as-of the offline history does not know counts as
  differing: it was made from other data.
- Pairs are made again from the *served* columns, so that a wrong column is named once and not again in its products.
Pure. Cost: a pass over each column.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_store.rows import Mask
from feature_store.schema import FeatureView, SqlSource, WindowSource

EXACT, ROUNDED = 0, 1
"""Steps of float32 that a column may be away."""
NOT_A_NUMBER = 2**32
"""Steps between a number and NaN: more than between any two numbers."""


@dataclass(frozen=True, slots=True)
class ColumnSkew:
    """One column of n served rows."""

    column: str
    allowed_ulps: int
    rows: int
    differing: int
    """Rows further away than allowed."""
    unequal: int
    """Rows that are not bit-equal, the differing ones among them."""
    max_ulps: int | None
    """Largest distance; None for hashes, which are equal or not."""
    example: dict[str, Any] | None = None
    """The first differing row."""

    @property
    def passes(self) -> bool:
        """Whether no row differs."""
        return self.differing == 0

    @property
    def share(self) -> float:
        """Of the rows, how many differ."""
        return self.differing / max(1, self.rows)

    def and_(self, other: ColumnSkew) -> ColumnSkew:
        """Both as one: the same column, other rows."""
        known = [ulps for ulps in (self.max_ulps, other.max_ulps) if ulps is not None]
        return replace(
            self,
            rows=self.rows + other.rows,
            differing=self.differing + other.differing,
            unequal=self.unequal + other.unequal,
            max_ulps=max(known, default=None),
            example=self.example or other.example,
        )


@dataclass(frozen=True, slots=True)
class ViewAges:
    """How the served rows of one view stand in time; nothing here is skew but `unknown`."""

    view: str
    rows: int
    missing: int
    """Rows that were not there when they were asked for; defaults were served."""
    missing_but_known: int
    """Of these, rows of entities that the offline store knew at the time of the request."""
    stale: int
    """Rows past their time-to-live, served all the same."""
    behind: int
    """Rows that a materialization at the time of the request would have renewed."""
    behind_ms_max: int
    """By how much their as-of was older, at most."""
    unknown: int
    """Rows of an as-of time that the offline history does not have: made from other data. They count as differing."""
    as_of_times: frozenset[int]
    """Of the rows that were served: as many as materializations, where the view is windowed."""

    def and_(self, other: ViewAges) -> ViewAges:
        """Both as one: the same view, other rows."""
        return ViewAges(
            self.view,
            self.rows + other.rows,
            self.missing + other.missing,
            self.missing_but_known + other.missing_but_known,
            self.stale + other.stale,
            self.behind + other.behind,
            max(self.behind_ms_max, other.behind_ms_max),
            self.unknown + other.unknown,
            self.as_of_times | other.as_of_times,
        )


def ulps_apart(served: npt.NDArray[np.float32], offline: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """(n,) how many float32 lie between two numbers; 0 where both are NaN, `NOT_A_NUMBER` where one is.

    -0.0 and 0.0 are one step apart: they are not bit-equal.
    """
    apart = np.abs(_ordered(served) - _ordered(offline))
    one, other = np.isnan(served), np.isnan(offline)
    return np.where(one & other, 0, np.where(one | other, NOT_A_NUMBER, apart))


def _ordered(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Numbers as integers in the same order, one step each; below zero -1 is -0.0."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF) - 1, bits)


def float_skew(
    column: str, allowed: int, served: npt.NDArray[np.float32], offline: npt.NDArray[np.float32], unknown: Mask
) -> tuple[ColumnSkew, Mask]:
    """A column of numbers, and which rows differ.

    Args:
        unknown: (n,) rows that differ whatever they hold.
    """
    apart = ulps_apart(served, offline)
    differs = (apart > allowed) | unknown
    n_unequal = int(np.count_nonzero((apart > 0) | unknown))
    skew = ColumnSkew(column, allowed, len(apart), int(differs.sum()), n_unequal, int(apart[~unknown].max(initial=0)))
    return skew, differs


def id_skew(column: str, served: npt.NDArray[Any], offline: npt.NDArray[Any], unknown: Mask) -> tuple[ColumnSkew, Mask]:
    """A column of hashes, and which rows differ."""
    differs = (served != offline) | unknown
    n = int(differs.sum())
    return ColumnSkew(column, EXACT, len(differs), n, n, None), differs


def allowed_ulps(view: FeatureView) -> list[int]:
    """Of each number of a view, in stored order, the steps that it may be away."""
    if isinstance(view.source, WindowSource):
        measures = dict(zip(view.features, view.source.measures, strict=True))
        return [
            EXACT if measures[feature].counts_whole else ROUNDED
            for feature in view.features
            if feature.dtype == "float32"
            for _ in range(feature.width)
        ]
    return [ROUNDED if isinstance(view.source, SqlSource) else EXACT] * view.n_float
