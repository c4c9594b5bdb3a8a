"""The kernel of two towers: an ad's vector is worked out when the ad changes, and a pair is one inner product.

The query tower reads the user and the context, which are known apart, so its part is what each adds to its hidden
layer; the layer itself follows where both are together. The ad's vector is finished in its part. A part is

    [terms of the linear model, hidden layer of the query before max(0, x), vector of the ad]    (1 + h + r) float64

of which each side fills its own, the others being 0, so parts simply add. In NumPy alone: 100 pairs are an addition of
4 900 numbers, and one small matrix product.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from feature_store.rows import Floats, Ids
from models.calibrator import CalibratorMap
from models.encoder import Columns, Layout, Side
from models.errors import PlanError
from models.plans.numpy_linear import LinearColumns, linear_columns
from models.plans.parts import check_rows, gathered
from models.segments import Int32s
from models.specs import DenseLayer, Float32s, Float64s, Int64s, NetInputs, Tower, TwoTowerSpec


class _Layer(NamedTuple):
    """A dense layer in double."""

    weights: Float64s
    bias: Float64s

    @classmethod
    def of(cls, layer: DenseLayer) -> _Layer:
        return cls(layer.weights.astype(np.float64), layer.bias.astype(np.float64))


class NumpyTwoTowerKernel:
    """See `Kernel` in kernel.py."""

    def __init__(self, spec: TwoTowerSpec, correction: float, calibrator: CalibratorMap, layout: Layout) -> None:
        """Raises PlanError where a tower reads columns of the other's side, or of pairs."""
        _check_sides("query", spec.query.inputs, [layout[Side.USER], layout[Side.CONTEXT]])
        _check_sides("ad", spec.ad.inputs, [layout[Side.AD]])
        self._spec = spec
        self._calibrator = calibrator.pieces(correction)
        self._query_hidden, self._query_out = _Layer.of(spec.query.hidden), _Layer.of(spec.query.out)
        self._h = len(self._query_hidden.bias)
        self.width = 1 + self._h + len(self._query_out.bias)
        self._reads: dict[Columns, tuple[NetInputs, Float64s, NetInputs]] = {}
        self._same_ad = np.zeros(len(self._query_out.bias))
        """The vector of all ads where it reads no column."""
        if not spec.ad.inputs.width:
            self._same_ad += spec.ad.out.bias

    def partial(self, floats: Floats, first_float: int, ids: Ids, first_id: int, out: Float64s) -> None:
        """See `Kernel.partial`. The columns are those of one side, or of all."""
        check_rows(floats, ids, out)
        columns = linear_columns(self._spec.linear, floats, first_float, ids, first_id)
        missing = np.isnan(floats)
        out[:, 0] += columns.total
        query, weights, ad = self._read(Columns(first_float, floats.shape[1], first_id, ids.shape[1]))
        if query.width:
            out[:, 1 : 1 + self._h] += net_input(query, columns, missing, self._spec.id_vectors) @ weights
        if ad.width:
            x = net_input(ad, columns, missing, self._spec.id_vectors)
            out[:, 1 + self._h :] += tower_vector(self._spec.ad, x)

    def _read(self, at: Columns) -> tuple[NetInputs, Float64s, NetInputs]:
        """What the towers read of a block, counted from its beginning, and the query's weights behind it.

        The ad's tower reads all of its columns or, where these are not all in the block, none.
        """
        if (known := self._reads.get(at)) is not None:
            return known
        query, ad = self._spec.query.inputs, self._spec.ad.inputs
        of_query, of_ad = _within(query, at), _within(ad, at)
        whole_ad = ad if all(map(np.all, of_ad)) else Tower.same(self._spec.ad.out.bias, ad.rank).inputs
        read = (
            _shifted(query, of_query, at),
            self._query_hidden.weights[_input_places(query, of_query)],
            _shifted(whole_ad, _within(whole_ad, at), at),
        )
        self._reads[at] = read  # threads that come here at once find the same
        return read

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
        pairs = shared + gathered(base, delta, split, rows)  # (n, 1 + h + r)
        hidden = np.maximum(pairs[:, 1 : 1 + self._h] + self._query_hidden.bias, 0.0)
        query = hidden @ self._query_out.weights + self._query_out.bias  # (n, r)
        products = (query * (pairs[:, 1 + self._h :] + self._same_ad)).sum(axis=1)
        raw_logit[:] = self._spec.linear.intercept + pairs[:, 0] + products
        p_click[:] = self._calibrator.p_click(raw_logit, segments)


def net_input(inputs: NetInputs, columns: LinearColumns, missing: npt.NDArray[np.bool_], vectors: Float32s) -> Float64s:
    """(n, width) what a net reads of n rows; missing: (n, f); vectors: (tables, e) of hashes."""
    found = vectors[columns.place[:, inputs.ids]].reshape(len(missing), len(inputs.ids) * vectors.shape[1])  # (n, b e)
    return np.concatenate([columns.z[:, inputs.numbers], missing[:, inputs.missing], found], axis=1, dtype=np.float64)


def tower_vector(tower: Tower, x: Float64s) -> Float64s:
    """(n, width) -> (n, r)"""
    return dense(tower.out, np.maximum(dense(tower.hidden, x), 0.0))


def dense(layer: DenseLayer, x: Float64s) -> Float64s:
    """(n, a) -> (n, b), in double."""
    found: Float64s = x @ layer.weights.astype(np.float64) + layer.bias
    return found


_Own = tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
"""Which numbers, missing and ids of a net's inputs lie in some block."""


def _within(inputs: NetInputs, at: Columns) -> _Own:
    def held(columns: Int64s, first: int, n: int) -> npt.NDArray[np.bool_]:
        return (columns >= first) & (columns < first + n)

    return (
        held(inputs.numbers, at.first_float, at.n_floats),
        held(inputs.missing, at.first_float, at.n_floats),
        held(inputs.ids, at.first_id, at.n_ids),
    )


def _shifted(inputs: NetInputs, own: _Own, at: Columns) -> NetInputs:
    """Those inputs, counted from the beginning of the block."""
    numbers, missing, ids = own
    return NetInputs(
        inputs.numbers[numbers] - at.first_float,
        inputs.missing[missing] - at.first_float,
        inputs.ids[ids] - at.first_id,
        inputs.rank,
    )


def _input_places(inputs: NetInputs, own: _Own) -> npt.NDArray[np.bool_]:
    """(width,) which places of the net's vector those inputs fill."""
    numbers, missing, ids = own
    return np.concatenate([numbers, missing, np.repeat(ids, inputs.rank)])


def _check_sides(tower: str, inputs: NetInputs, sides: list[Columns]) -> None:
    per_side = [_within(inputs, side) for side in sides]
    read = (inputs.numbers, inputs.missing, inputs.ids)
    if sum(int(np.count_nonzero(held)) for own in per_side for held in own) != sum(map(len, read)):
        raise PlanError(f"the {tower} tower reads columns that are not of its own side")
