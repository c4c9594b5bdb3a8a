"""gAUC: how well a model orders the impressions of one user, averaged over users.

AUC over all impressions is partly won by knowing who clicks often, which orders nothing inside a request. gAUC compares
impressions of the same user only: the AUC of each user who has both labels, weighted by the user's impressions. Users
without a click, or without a non-click, have no AUC and do not count; the figure says how many do.

Interval: Poisson bootstrap over the counting users, percentiles of 400 replicates; where those users are effectively
fewer than `units.LEAST_USERS`, Student's t of as many, because redrawing them shows too little spread. Where the users
leave no spread (all ordered perfectly) it is that of as many independent pairs, all right; a single user says nothing.
Cost: one sort of the impressions and 400 draws per counting user.
Source: Zhou et al. 2018, "Deep Interest Network for Click-Through Rate Prediction", section 6.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from models.evaluation.cells import REPLICATES
from models.evaluation.metrics import Array, Float64s
from models.evaluation.unit_weights import unit_weights
from models.evaluation.units import LEAST_USERS


@dataclass(frozen=True, slots=True)
class UserAucs:
    """The users who have both labels: (U,) AUC, impressions and clicks of each."""

    area: Float64s
    impressions: Float64s
    clicks: Float64s

    def __len__(self) -> int:
        return len(self.area)

    @property
    def mean(self) -> float:
        """gAUC, the impression-weighted mean. At least one user must count."""
        return float(self.area @ self.impressions / self.impressions.sum())


def user_aucs(clicked: npt.NDArray[np.bool_], p_click: Array, user_codes: npt.NDArray[np.int64]) -> UserAucs:
    """The AUC of each user, ties counted half.

    Args:
        clicked, p_click, user_codes: (n,) outcome, score and whose impression it was.
    """
    users, code = np.unique(user_codes, return_inverse=True)
    order = np.lexsort((p_click, code))
    user, score = code[order], p_click[order]
    new_user = np.r_[True, user[1:] != user[:-1]]
    first = np.flatnonzero(new_user | np.r_[True, score[1:] != score[:-1]])  # of each run of equal scores of a user
    size = np.diff(np.r_[first, len(user)])
    begin = np.flatnonzero(new_user)[user]  # where the row's user begins
    ranks = np.repeat(first + (size + 1) / 2.0, size) - begin
    impressions = np.bincount(user, minlength=len(users)).astype(np.float64)
    clicks: Float64s = np.bincount(user, clicked[order], minlength=len(users)).astype(np.float64)
    others = impressions - clicks
    of_clicks = np.bincount(user, np.where(clicked[order], ranks, 0.0), minlength=len(users))
    counts = (clicks > 0) & (others > 0)
    clicks, others, of_clicks = clicks[counts], others[counts], of_clicks[counts]
    return UserAucs((of_clicks - clicks * (clicks + 1.0) / 2.0) / (clicks * others), impressions[counts], clicks)


def interval_of_mean(users: UserAucs, random: np.random.Generator) -> tuple[float, float]:
    """Ends of the 95 % interval of gAUC."""
    if users.area.min() == 1.0:
        return _surest(len(users)), 1.0
    if users.area.max() == 0.0:
        return 0.0, 1.0 - _surest(len(users))
    if len(users) < 2:
        return 0.0, 1.0
    share = users.impressions / users.impressions.sum()
    effective = 1.0 / float(share @ share)
    if effective < LEAST_USERS:
        error = float(np.sqrt(((share * (users.area - users.mean)) ** 2).sum() * len(users) / (len(users) - 1)))
        half = error * float(stdtrit(max(effective - 1.0, 0.01), 0.975))
        return max(0.0, users.mean - half), min(1.0, users.mean + half)
    sums = np.stack([users.area * users.impressions, users.impressions])  # (2, U)
    drawn = np.array([sums @ unit_weights(len(users), random) for _ in range(REPLICATES)])
    drawn = drawn[drawn[:, 1] > 0]  # a handful of users may all be left out
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975))
    return float(low), float(high)


def n_counting(clicked: npt.NDArray[np.bool_], user_codes: npt.NDArray[np.int64] | None) -> int:
    """Users with both labels; 0 where no user is known."""
    if user_codes is None:
        return 0
    return len(np.intersect1d(user_codes[clicked], user_codes[~clicked]))


def _surest(pairs: int) -> float:
    """Clopper and Pearson's bound where all of some independent pairs are ordered alike; a bootstrap sees no spread."""
    return float(0.025 ** (1.0 / pairs))
