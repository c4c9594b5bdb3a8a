"""Totals of a sample with whole users redrawn: what ratios and differences of sums are bootstrapped with.

Each user counts Poisson(1) times in each of 400 replicates, and all totals of a replicate come from the same draw. More
than 20 000 users are redrawn in as many groups: users are independent, so groups of them are, and the variance between
20 000 groups is as good. That bounds the cost: one pass over the rows and 400 draws per user or group.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.evaluation.cells import REPLICATES
from models.evaluation.metrics import Array, Float64s
from models.evaluation.unit_weights import unit_weights

MOST_UNITS = 20_000


def redrawn_totals(
    columns: Sequence[Array] | Array, user_codes: npt.NDArray[np.integer] | None, random: np.random.Generator
) -> tuple[Float64s, Float64s]:
    """Totals of k columns, (k,) of the sample itself and (R, k) with users redrawn.

    Args:
        columns: (n,) each.
        user_codes: (n,) whose impression it was; None draws impressions one by one.
    """
    if user_codes is None:
        code, units = np.arange(len(columns[0])), len(columns[0])
    else:
        users, code = np.unique(user_codes, return_inverse=True)
        units = len(users)
    if units > MOST_UNITS:
        code, units = code % MOST_UNITS, MOST_UNITS
    sums = np.stack([np.bincount(code, column, minlength=units) for column in columns])  # (k, units)
    redrawn = np.array([sums @ unit_weights(units, random) for _ in range(REPLICATES)])
    return sums.sum(axis=1), redrawn


def redrawn_losses(
    clicked: npt.NDArray[np.bool_],
    losses: Sequence[Float64s],
    user_codes: npt.NDArray[np.integer] | None,
    random: np.random.Generator,
) -> tuple[Float64s, Float64s]:
    """Impressions, clicks and k losses in nats: (2 + k,) of the sample itself and (R, 2 + k) with users redrawn.

    Replicates without a click, or without a non-click, have no base rate to compare with and are left out, so that R
    may be less than usual; `cells.percentiles` says whether enough are left.
    """
    exact, redrawn = redrawn_totals([np.ones(len(clicked)), clicked, *losses], user_codes, random)
    n, clicks = redrawn[:, 0], redrawn[:, 1]
    return exact, redrawn[(clicks > 0) & (clicks < n)]
