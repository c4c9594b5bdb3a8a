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
from models.registry.manifest import Interval

REPLICATES = 400


def share_of_attainable_gain(
    clicked: npt.NDArray[np.bool_],
    p_model: npt.NDArray[np.float64],
    p_oracle: npt.NDArray[np.float64],
    user_codes: npt.NDArray[np.integer],
    seed: int = 0,
) -> Interval:
    """The share with its 95 % interval.

    Args:
        clicked, p_model, p_oracle: (n,) outcome and the two promises of each impression.
        user_codes: (n,) whose impression it was.
    Raises:
        MetricError: no rows, or only one kind of label.
    """
    model_loss, oracle_loss = metrics.log_losses(clicked, p_model), metrics.log_losses(clicked, p_oracle)
    metrics.normalized_entropy(clicked, p_model)  # refuses what has no base rate to compare with
    users, code = np.unique(user_codes, return_inverse=True)
    sums = np.stack(
        [np.bincount(code, column, minlength=len(users)) for column in (None, clicked, model_loss, oracle_loss)]
    )  # (4, users)
    random = np.random.default_rng(seed)
    totals = np.array([sums @ random.poisson(1.0, len(users)) for _ in range(REPLICATES)])
    low, high = np.quantile(_share(totals), (0.025, 0.975))
    value = float(_share(sums.sum(axis=1)[None, :])[0])
    clicks = int(np.count_nonzero(clicked))
    return Interval(
        value=value, low=min(float(low), value), high=max(float(high), value), n=len(clicked), clicks=clicks
    )


def _share(totals: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(R,) shares from (R, 4) totals of impressions, clicks, the model's and the oracle's losses."""
    n, clicks, model, oracle = totals.T
    base = n * metrics.entropy(clicks / n)
    share: npt.NDArray[np.float64] = (base - model) / (base - oracle)
    return share
