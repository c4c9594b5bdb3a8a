"""Brings a published model to the level of the scores that its calibrator was fitted to.

A calibrator is fitted to scores of models that did not learn from the rows, and then follows another model, that of all
rows. Both saw the same clicks, yet what was thinned out, how categories were dealt into parts and which rows each tree
drew set their levels apart (`tests/unit/models/test_level.py` bounds by how much). Impressions that were thinned out
tell: neither model learnt from them, so on them both must promise the same in sum. No click is looked at a second time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from models.calibrator import CalibratorMap, Float64s, sigmoid
from models.fitting.calibrating_line import shift_to_sum
from models.random_streams import random_stream

LEAST_ROWS = 10_000
"""Below, the rows' own luck would cost what is gained: promises spread as wide as their mean, so a sum of so many is
known to 1 %, and the difference of two models' sums, which rise and fall together, to a third of that."""
MOST_ROWS = 200_000
"""Enough to know the difference to 0.1 %; more would only take time."""


def rows_to_level_by(n: int, kept: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Places of the rows that were thinned out, ascending: a draw of very many, none where too few could tell.

    Args:
        n: rows in all.
        kept: (m,) places of those that were learnt.
    """
    is_left_out = np.ones(n, dtype=np.bool_)
    is_left_out[kept] = False
    left_out = np.flatnonzero(is_left_out)
    if len(left_out) < LEAST_ROWS:
        return left_out[:0]
    if len(left_out) <= MOST_ROWS:
        return left_out
    return np.sort(random_stream(seed, "rows to level by").choice(left_out, MOST_ROWS, replace=False, shuffle=False))


def levelled(calibrator: CalibratorMap, log_odds: Float64s, out_of_sample: Float64s) -> CalibratorMap:
    """The calibrator, moved so that the published model promises in sum what the calibrated scores do.

    Args:
        log_odds: (n,) corrected log-odds of the published model, of rows that it did not learn from.
        out_of_sample: (n,) scores of the same rows, of the kind that the calibrator was fitted to.
    """
    everybody = replace(calibrator, segments=None)
    promised = float(sigmoid(everybody(out_of_sample)).sum())
    shift = shift_to_sum(everybody(log_odds), promised)
    return replace(calibrator, offset=calibrator.offset + shift)
