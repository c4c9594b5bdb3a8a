"""The linear kernel in NumPy: same sums, same answers, no compiler. The compiled twin is `_linear.c`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from feature_store.rows import Floats, Ids
from models.calibrator import CalibratorMap
from models.plans.parts import check_rows, gathered
from models.segments import Int32s
from models.specs import Float64s, Int64s, LinearSpec


class LinearColumns(NamedTuple):
    """m rows of some columns as a linear model reads them: f numbers and i hashes."""

    z: Float64s
    """(m, f) standardised numbers, 0 where missing."""
    place: Int64s
    """(m, i) of each hash in the tables."""
    number_terms: Float64s
    """(m, f) what each number adds to the margin."""
    id_terms: Float64s
    """(m, i) what each hash adds."""

    @property
    def total(self) -> Float64s:
        """(m,) of all of them."""
        total: Float64s = self.number_terms.sum(axis=1) + self.id_terms.sum(axis=1)
        return total


def linear_columns(spec: LinearSpec, floats: Floats, first_float: int, ids: Ids, first_id: int) -> LinearColumns:
    """Reads columns; see `Kernel.partial` for the arguments and `LinearSpec` for the formula."""
    at = slice(first_float, first_float + floats.shape[1])
    values = floats.astype(np.float64)  # (m, f)
    missing = np.isnan(values)
    scaled = np.sign(values) * np.log(1 + np.abs(values)) if spec.signed_log else values
    z = (scaled - spec.mean[at]) / spec.spread[at]
    z = np.where(missing, 0.0, z.clip(-spec.limit, spec.limit))
    below = (values[:, :, None] > spec.edges[at]).sum(axis=2)  # NaN is above nothing
    bins = np.where(missing, 0, below + 1)
    weights = spec.bin_weights[np.arange(first_float, first_float + floats.shape[1]), bins]
    lines = spec.slope[at] * z
    at = slice(first_id, first_id + ids.shape[1])
    place = ids % spec.id_sizes[at] + spec.id_offsets[at]
    return LinearColumns(z, place, lines + weights, spec.id_weights[place])


class NumpyLinearKernel:
    """See `Kernel` in kernel.py."""

    def __init__(self, spec: LinearSpec, correction: float, calibrator: CalibratorMap) -> None:
        self._spec = spec
        self._calibrator = calibrator.pieces(correction)

    def partial(self, floats: Floats, first_float: int, ids: Ids, first_id: int, out: Float64s) -> None:
        """See `Kernel.partial`."""
        check_rows(floats, ids, out)
        out[:, 0] += linear_columns(self._spec, floats, first_float, ids, first_id).total

    def score(
        self,
        shared: Float64s,
        base: Float64s,
        delta: Float64s,
        split: int,
        rows: Int64s,
        raw_logit: Float64s,
        p_click: Float64s,
        segments: Int32s | None,
    ) -> None:
        """See `Kernel.score`."""
        raw_logit[:] = self._spec.intercept + shared[:, 0] + gathered(base, delta, split, rows)[:, 0]
        p_click[:] = self._calibrator.p_click(raw_logit, segments)
