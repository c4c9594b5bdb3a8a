"""The kernel of a factorisation machine: what is left of a pair is one sum of two short vectors.

The products of every two columns add up to (|s|^2 - the sum of their own |vector|^2) / 2, s being the sum of all
vectors (Rendle 2010). s of a pair is s of its user plus s of its ad, so a part is

    [weights - own |vector|^2 / 2, s]    (1 + r) float64

and parts simply add. In NumPy alone: 100 pairs are an addition of 900 numbers.
"""

from __future__ import annotations

from feature_store.rows import Floats, Ids
from models.calibrator import CalibratorMap
from models.plans.numpy_linear import linear_columns
from models.plans.parts import check_rows, gathered
from models.segments import Int32s
from models.specs import FactorisationMachineSpec, Float64s, Int64s


class NumpyFactorisationMachineKernel:
    """See `Kernel` in kernel.py."""

    def __init__(self, spec: FactorisationMachineSpec, correction: float, calibrator: CalibratorMap) -> None:
        self._spec = spec
        self._calibrator = calibrator.pieces(correction)

    def partial(self, floats: Floats, first_float: int, ids: Ids, first_id: int, out: Float64s) -> None:
        """See `Kernel.partial`."""
        check_rows(floats, ids, out)
        columns = linear_columns(self._spec.linear, floats, first_float, ids, first_id)
        numbers = self._spec.number_vectors[first_float : first_float + floats.shape[1]]  # (f, r)
        hashes = self._spec.id_vectors[columns.place]  # (m, i, r)
        own = columns.z**2 @ (numbers**2).sum(axis=1) + (hashes**2).sum(axis=(1, 2))
        out[:, 0] += columns.total - own / 2
        out[:, 1:] += columns.z @ numbers + hashes.sum(axis=1)

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
        pairs = shared + gathered(base, delta, split, rows)  # (n, 1 + r)
        raw_logit[:] = self._spec.linear.intercept + pairs[:, 0] + (pairs[:, 1:] ** 2).sum(axis=1) / 2
        p_click[:] = self._calibrator.p_click(raw_logit, segments)
