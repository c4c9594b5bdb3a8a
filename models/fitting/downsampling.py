"""Negative downsampling: most non-clicks of a large log teach nothing new and cost all the time.

All clicks stay; of the non-clicks a share w stays, drawn by the seed. The learner then sees odds that are 1 / w too
high, so its log-odds are ln(1 / w) too high: adding ln(w) is exact. w is the share really kept, not the share asked
for, so the correction carries no luck of the draw.

Source: He et al. 2014, section 6.3, in log-odds.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from models.errors import TrainingError
from models.random_streams import random_stream

SMALL_LOG_ROWS = 100_000
"""Logs up to this size are learnt whole: training takes seconds anyway."""

NEGATIVES_PER_CLICK = 20.0
"""Sampling adds about clicks / kept non-clicks to the variance of what is learnt: 5 %."""


LEAST_NON_CLICKS = 500
"""Sampling leaves the level known to 1 / sqrt(kept non-clicks), 4.5 % here; at 3 of them NE was 1.2 and more."""


def automatic_rate(clicked: npt.NDArray[np.bool_]) -> float:
    """Share of the non-clicks worth keeping: all of a small log, 20 per click of a large one.

    Args:
        clicked: (n,) of the rows to learn from alone: what judges them takes part in no choice.
    """
    n, clicks = len(clicked), int(np.count_nonzero(clicked))
    if n <= SMALL_LOG_ROWS:
        return 1.0
    return min(1.0, max(NEGATIVES_PER_CLICK * clicks, LEAST_NON_CLICKS) / (n - clicks))


def refuse_few(clicked: npt.NDArray[np.bool_], rate: float) -> None:
    """Refuses a rate that leaves too few non-clicks to learn from; what is learnt whole is never refused.

    Args:
        clicked: (n,) of the rows to learn from.
    Raises:
        TrainingError: naming how many would be left, and the smallest rate that leaves enough.
    """
    negatives = len(clicked) - int(np.count_nonzero(clicked))
    left = round(rate * negatives)
    if left >= min(LEAST_NON_CLICKS, negatives):
        return
    smallest = min(1.0, math.ceil(1e6 * LEAST_NON_CLICKS / negatives) / 1e6)
    raise TrainingError(
        f"a share of {rate:g} leaves {left:,} of the {negatives:,} non-clicks to learn from; {LEAST_NON_CLICKS} are "
        f"needed (or all, where there are fewer); the smallest share for this log is {smallest:g}"
    )


def keep_rows(clicked: npt.NDArray[np.bool_], rate: float, seed: int) -> tuple[npt.NDArray[np.int64], float]:
    """Places of the rows to learn from, ascending, and the share of non-clicks among them that was kept.

    Raises:
        TrainingError: the rate is not in (0, 1].
    """
    if not 0.0 < rate <= 1.0:
        raise TrainingError(f"the share of non-clicks to keep must be above 0 and at most 1, got {rate}")
    negatives = np.flatnonzero(~clicked)
    if rate == 1.0 or len(negatives) == 0:
        return np.arange(len(clicked)), 1.0
    n_kept = max(1, round(rate * len(negatives)))
    kept = random_stream(seed, "non-clicks to keep").choice(negatives, n_kept, replace=False, shuffle=False)
    return np.sort(np.concatenate([kept, np.flatnonzero(clicked)])), n_kept / len(negatives)


def log_odds_correction(rate: float) -> float:
    """What the margin of a learner that saw this share of the non-clicks lacks: ln(rate), 0 or less."""
    return math.log(rate)
