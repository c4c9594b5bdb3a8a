"""Correction, calibrator and sigmoid as ONNX: from `raw_logit` (n,) to `p_click` (n,), all double.

The piecewise-linear map is written as one line plus a hinge per knot,

    y = offset + s0 * x + sum_j c_j * max(0, x - k_j),

c_j being the change of slope at knot j: one subtraction, one Relu and one matrix product, whatever the number of knots.
Where a column names segments, the line of each row's segment follows, looked up by its number.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from models.calibrator import CalibratorMap
from models.export.fragment import Fragment
from models.segments import SegmentLines


def calibrator_graph(calibrator: CalibratorMap, correction: float) -> Fragment:
    """Nodes of the part that can be replaced without touching the core."""
    part = Fragment("calibrator")
    corrected = part.node("Add", ["raw_logit", part.constant("correction", np.array(correction))], "corrected")
    sloped = part.node("Mul", [corrected, part.constant("slope", calibrator.slopes[0])], "sloped")
    log_odds = part.node("Add", [sloped, part.constant("offset", np.array(calibrator.offset))], "line")
    if len(calibrator.knots):
        last_axis = part.constant("last_axis", np.array([1], dtype=np.int64))
        column = part.node("Unsqueeze", [corrected, last_axis], "column")  # (n, 1)
        beyond = part.node("Sub", [column, part.constant("knots", calibrator.knots)], "beyond")  # (n, k)
        hinges = part.node("Relu", [beyond], "hinges")
        changes = part.constant("slope_changes", np.diff(calibrator.slopes))
        bent = part.node("MatMul", [hinges, changes], "bent")  # (n,)
        log_odds = part.node("Add", [log_odds, bent], "bent_line")
    if calibrator.segments is not None:
        log_odds = _line_of_segment(part, log_odds, calibrator.segments)
    part.rename_output(part.node("Sigmoid", [log_odds], "probability"), "p_click")
    return part


def _line_of_segment(part: Fragment, log_odds: str, segments: SegmentLines) -> str:
    """(n,) scale * log_odds + shift of each row's segment; `segment_numbers` says which that is."""
    at = part.constant("segment_column", np.array([segments.column], dtype=np.int64))
    axis = part.constant("segment_axis", np.array([1], dtype=np.int64))
    column = part.node("Gather", ["features", at], "segment_values", axis=1)  # (n, 1)
    value = part.node("Squeeze", [column, axis], "segment_value")  # (n,)
    zero, end = (
        part.constant(f"segment_{name}", np.array([value], np.float32))
        for name, value in (("zero", 0), ("end", len(segments)))
    )
    is_whole = part.node("Equal", [value, part.node("Floor", [value], "segment_floor")], "segment_is_whole")
    is_below = part.node("Less", [value, end], "segment_is_below_end")
    is_above = part.node("GreaterOrEqual", [value, zero], "segment_is_0_or_above")
    in_range = part.node("And", [is_below, is_above], "segment_is_in_range")
    is_known = part.node("And", [is_whole, in_range], "segment_is_known")  # false for NaN
    known = part.node("Where", [is_known, value, zero], "segment_known")
    number = part.node("Cast", [known], "segment_number", to=TensorProto.INT64)
    scale, shift = (
        part.node("Gather", [part.constant(f"segment_{name}s", table), number], f"segment_{name}", axis=0)
        for name, table in (("scale", segments.scales), ("shift", segments.shifts))
    )
    return part.node("Add", [part.node("Mul", [log_odds, scale], "segment_scaled"), shift], "segment_line")
