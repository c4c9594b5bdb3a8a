"""A linear model as ONNX: lines and bins of the numbers, table look-ups of the hashes, one sum.

Everything is double and elementary, so the graph agrees with the trainer to the order of the sum (about 1e-15). A bin
is the number of edges below the value, counted by comparisons; missing is bin 0. See `LinearSpec` for the formula.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from models.export.fragment import Fragment
from models.specs import LinearSpec


def linear_core(spec: LinearSpec) -> Fragment:
    """Nodes from `features` (n, d) and `ids` (n, k) to `raw_logit` (n,) double."""
    core = Fragment("core")
    core.rename_output(LinearNodes(core, spec).total, "raw_logit")
    return core


class LinearNodes:
    """A linear model's nodes inside a core, and the values that other parts of it may share."""

    def __init__(self, core: Fragment, spec: LinearSpec) -> None:
        self.columns_axis = core.constant("columns_axis", np.array([1], dtype=np.int64))
        self.z: str | None = None
        """(n, d) standardised numbers, 0 where missing; None without numbers."""
        self.missing: str | None = None
        """(n, d) bool; None without numbers."""
        self.id_place: str | None = None
        """(n, k) place of each hash in the tables; None without hashes."""
        parts = []
        if len(spec.slope):
            wide = core.node("Cast", ["features"], "features_f64", to=TensorProto.DOUBLE)
            missing = self.missing = core.node("IsNaN", [wide], "missing")
            self.z = _standardised(core, spec, wide, missing)
            parts.append(core.node("Mul", [self.z, core.constant("slope", spec.slope)], "lines"))
            parts.append(_bins(core, spec, wide, missing))
        if len(spec.id_sizes):
            self.id_place = _id_place(core, spec)
            weights = core.constant("id_weights", spec.id_weights)
            parts.append(core.node("Gather", [weights, self.id_place], "id_values", axis=0))
        sums = [
            core.node("ReduceSum", [part, self.columns_axis], f"sum_{i}", keepdims=0) for i, part in enumerate(parts)
        ]
        self.total = core.constant("intercept", np.array([spec.intercept]))
        """(n,) margins."""
        for i, part in enumerate(sums):
            self.total = core.node("Add", [self.total, part], f"total_{i}")


def _standardised(core: Fragment, spec: LinearSpec, wide: str, missing: str) -> str:
    """(n, d) standardised signed logarithm, or standardised number, 0 where missing."""
    scaled = _signed_log(core, wide) if spec.signed_log else wide
    centred = core.node("Sub", [scaled, core.constant("mean", spec.mean)], "centred")
    scaled = core.node("Div", [centred, core.constant("spread", spec.spread)], "scaled")
    limits = [core.constant(f"limit_{side}", np.array(sign * spec.limit)) for side, sign in (("low", -1), ("high", 1))]
    clipped = core.node("Clip", [scaled, *limits], "clipped")
    return core.node("Where", [missing, core.constant("zero", np.array(0.0)), clipped], "known")


def _signed_log(core: Fragment, wide: str) -> str:
    """(n, d) sign(x) * log(1 + |x|)."""
    size = core.node("Abs", [wide], "size")
    beyond_one = core.node("Add", [size, core.constant("one", np.array(1.0))], "size_plus_1")
    log_size = core.node("Log", [beyond_one], "log_size")
    return core.node("Mul", [core.node("Sign", [wide], "sign"), log_size], "signed_log")


def _bins(core: Fragment, spec: LinearSpec, wide: str, missing: str) -> str:
    """(n, d) weight of each number's bin."""
    d, n_bins = spec.bin_weights.shape
    last_axis = core.constant("last_axis", np.array([2], dtype=np.int64))
    spread_out = core.node("Unsqueeze", [wide, last_axis], "values")  # (n, d, 1)
    above = core.node("Greater", [spread_out, core.constant("edges", spec.edges)], "above")  # (n, d, b)
    counted = core.node("Cast", [above], "above_i64", to=TensorProto.INT64)
    below = core.node("ReduceSum", [counted, last_axis], "edges_below", keepdims=0)  # (n, d)
    first = core.constant("first_known_bin", np.arange(d, dtype=np.int64) * n_bins + 1)
    known = core.node("Add", [below, first], "known_bin")
    at_missing = core.constant("missing_bin", np.arange(d, dtype=np.int64) * n_bins)
    place = core.node("Where", [missing, at_missing, known], "bin")
    return core.node("Gather", [core.constant("bin_weights", spec.bin_weights.ravel()), place], "bin_values", axis=0)


def _id_place(core: Fragment, spec: LinearSpec) -> str:
    """(n, k) place of each hash: full hash modulo its table's size."""
    within = core.node("Mod", ["ids", core.constant("id_sizes", spec.id_sizes)], "id_within")
    return core.node("Add", [within, core.constant("id_offsets", spec.id_offsets)], "id_place")
