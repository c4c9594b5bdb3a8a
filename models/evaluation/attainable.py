"""How much of what can be known a model knows: its share of the attainable gain in normalized entropy.

    share = (1 - NE of the model) / (1 - NE of the oracle)

0 is the base rate, 1 is the oracle that knows what serving may see. Only a simulated log has one. Both are measured on
the same impressions, so the interval comes from a paired bootstrap: whole users are redrawn, and each replicate's loss
of the model, of the oracle and of the base rate comes from the same draw.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.evaluation import metrics
from models.evaluation.cells import percentiles
from models.evaluation.comparison import paired_totals
from models.evaluation.units import Units, widest
from models.registry.manifest import Interval


def share_of_attainable_gain(
    clicked: npt.NDArray[np.bool_],
    p_model: npt.NDArray[np.float64],
    p_oracle: npt.NDArray[np.float64],
    user_codes: npt.NDArray[np.integer] | None,
    seed: int = 0,
) -> Interval:
    """The share with its 95 % interval.

    Args:
        clicked, p_model, p_oracle: (n,) outcome and the two promises of each impression.
        user_codes: (n,) whose impression it was; None where nobody is known.
    Raises:
        MetricError: no rows, or only one kind of label.
    """
    metrics.normalized_entropy(clicked, p_model)  # refuses what has no base rate to compare with
    units = Units.of(clicked, user_codes)
    totals = [paired_totals(clicked, p_model, p_oracle, codes, seed) for codes in units.drawings]
    value = float(_share(totals[0][0][None, :])[0])
    # Of two clicks nobody can tell a share: the figure itself is all there is.
    ends = widest((percentiles(_share(redrawn)) for _, redrawn in totals), (value, value))
    return units.interval(value, ends, len(clicked), int(np.count_nonzero(clicked)))


def _share(totals: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(R,) shares from (R, 4) totals of impressions, clicks, the model's and the oracle's losses."""
    n, clicks, model, oracle = totals.T
    base = n * metrics.entropy(clicks / n)
    share: npt.NDArray[np.float64] = (base - model) / (base - oracle)
    return share
