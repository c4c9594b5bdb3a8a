"""The linear kernel in NumPy: same sums, same answers, no compiler. The compiled twin is `_linear.c`."""

from __future__ import annotations

import numpy as np

from feature_store.rows import Floats, Ids
from models.calibrator import CalibratorMap
from models.plans.parts import check_rows, gathered
from models.segments import Int32s
from models.specs import Float64s, Int64s, LinearSpec


class NumpyLinearKernel:
    """See `Kernel` in kernel.py."""

    def __init__(self, spec: LinearSpec, correction: float, calibrator: CalibratorMap) -> None:
        self._spec = spec
        self._calibrator = calibrator.pieces(correction)

    def partial(self, floats: Floats, first_float: int, ids: Ids, first_id: int, out: Float64s) -> None:
        """See `Kernel.partial`."""
        check_rows(floats, ids, out)
        spec = self._spec
        at = slice(first_float, first_float + floats.shape[1])
        values = floats.astype(np.float64)  # (m, f)
        missing = np.isnan(values)
        z = (np.sign(values) * np.log(1 + np.abs(values)) - spec.mean[at]) / spec.spread[at]
        lines = np.where(missing, 0.0, spec.slope[at] * z.clip(-spec.limit, spec.limit))
        below = (values[:, :, None] > spec.edges[at]).sum(axis=2)  # NaN is above nothing
        bins = np.where(missing, 0, below + 1)
        weights = spec.bin_weights[np.arange(first_float, first_float + floats.shape[1]), bins]
        at = slice(first_id, first_id + ids.shape[1])
        place = ids % spec.id_sizes[at] + spec.id_offsets[at]
        out[:, 0] += (lines + weights).sum(axis=1) + spec.id_weights[place].sum(axis=1)

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
