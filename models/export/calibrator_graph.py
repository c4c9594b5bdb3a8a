"""Correction, calibrator and sigmoid as ONNX: from `raw_logit` (n,) to `p_click` (n,), all double.

The piecewise-linear map is written as one line plus a hinge per knot,

    y = offset + s0 * x + sum_j c_j * max(0, x - k_j),

c_j being the change of slope at knot j: one subtraction, one Relu and one matrix product, whatever the number of knots.
"""

from __future__ import annotations

import numpy as np

from models.calibrator import CalibratorMap
from models.export.fragment import Fragment


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
    part.rename_output(part.node("Sigmoid", [log_odds], "probability"), "p_click")
    return part
