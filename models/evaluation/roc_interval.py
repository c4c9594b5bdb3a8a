"""The 95 % interval of an AUC, without a bootstrap.

DeLong's variance as a sum of what each impression adds to the estimate; what one user's impressions add is summed
before it is squared, because they are not independent. On the log-odds scale, so that the interval stays inside
(0, 1). A perfect order has no variance: there the interval is that of as many independent pairs as the rarer label
allows, all of them right.

Cost: four sorts.
Sources: DeLong et al. 1988 with Sun & Xu 2014 for the ranks; Obuchowski 1997 for clustered impressions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.evaluation import metrics
from models.evaluation.metrics import Z_95, Array, Float64s


def auc_interval(
    clicked: npt.NDArray[np.bool_], p_click: Array, user_codes: npt.NDArray[np.integer] | None
) -> tuple[float, float]:
    """Ends of the interval of the AUC; the whole of [0, 1] where the sample cannot say.

    Args:
        clicked, p_click: (n,) outcome and score; both labels.
        user_codes: (n,) whose impression it was; None takes impressions as independent.
    """
    area = metrics.auc(clicked, p_click)
    if area in (0.0, 1.0):
        return _perfect_order(clicked, area, user_codes)
    error = _error(_additions(clicked, p_click, area), clicked, user_codes)
    if error is None:
        return 0.0, 1.0
    log_odds, step = np.log(area / (1.0 - area)), Z_95 * error / (area * (1.0 - area))
    low, high = 1.0 / (1.0 + np.exp(-(log_odds - step))), 1.0 / (1.0 + np.exp(-(log_odds + step)))
    return float(low), float(high)


def auc_difference(
    clicked: npt.NDArray[np.bool_], p_new: Array, p_old: Array, user_codes: npt.NDArray[np.integer] | None
) -> tuple[float, float, float]:
    """AUC of the new score minus that of the old one on the same impressions, and the ends of its interval.

    Paired: what an impression adds to both areas cancels. [-1, 1] where the sample cannot say.
    """
    new, old = metrics.auc(clicked, p_new), metrics.auc(clicked, p_old)
    error = _error(_additions(clicked, p_new, new) - _additions(clicked, p_old, old), clicked, user_codes)
    if error is None:
        return new - old, -1.0, 1.0
    return new - old, new - old - Z_95 * error, new - old + Z_95 * error


def _additions(clicked: npt.NDArray[np.bool_], p_click: Array, area: float) -> Float64s:
    """(n,) what each impression adds to (estimate - area): a click by its share of non-clicks below it, and so on."""
    of_click, of_other = p_click[clicked], p_click[~clicked]
    ranks = metrics.mid_ranks(p_click)
    adds = np.empty(len(clicked))
    adds[clicked] = (ranks[clicked] - metrics.mid_ranks(of_click)) / len(of_other) - area
    adds[~clicked] = 1.0 - (ranks[~clicked] - metrics.mid_ranks(of_other)) / len(of_click) - area
    return adds


def _error(adds: Float64s, clicked: npt.NDArray[np.bool_], user_codes: npt.NDArray[np.integer] | None) -> float | None:
    """Standard error of the sum of the users' additions; None where fewer than two clicks, others or users are left."""
    clicks, others = int(np.count_nonzero(clicked)), int(np.count_nonzero(~clicked))
    if min(clicks, others) < 2:
        return None
    weighted = np.where(clicked, adds / np.sqrt(clicks * (clicks - 1.0)), adds / np.sqrt(others * (others - 1.0)))
    if user_codes is not None:
        users, code = np.unique(user_codes, return_inverse=True)
        if len(users) < 2:
            return None
        weighted = np.bincount(code, weighted, minlength=len(users))
    return float(np.sqrt(weighted @ weighted))


def _perfect_order(
    clicked: npt.NDArray[np.bool_], area: float, user_codes: npt.NDArray[np.integer] | None
) -> tuple[float, float]:
    """Ends of the interval of an AUC of 0 or 1, where nothing varies.

    Pairs of a click and a non-click that share nobody are independent; this is Clopper and Pearson's interval where
    all of them are ordered alike.
    """
    whose = np.arange(len(clicked)) if user_codes is None else user_codes
    pairs = min(len(np.unique(whose[clicked])), len(np.unique(whose[~clicked])))
    surest = 0.025 ** (1.0 / pairs)
    return (surest, 1.0) if area == 1.0 else (0.0, 1.0 - surest)
