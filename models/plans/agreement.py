"""Whether two ways of scoring give the same answers: the bounds of every proof and certificate.

|p - p'| <= 1e-6, |logit - logit'| <= 2e-6 * max(1, |logit|), and no two scores that differ by more than 1e-6 change
places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.plans.plan import Scores
from models.specs import Float64s

P_BOUND = 1e-6
LOGIT_BOUND = 2e-6
"""Relative to max(1, |logit|)."""
CLEARLY_DIFFERENT = 1e-6


@dataclass(frozen=True, slots=True)
class Agreement:
    """The largest errors, and how many rows changed places."""

    max_p_error: float
    max_logit_error: float
    inversions: int

    @property
    def holds(self) -> bool:
        """Whether all three are within their bounds."""
        return self.max_p_error <= P_BOUND and self.max_logit_error <= LOGIT_BOUND and self.inversions == 0


def agreement(wanted: Scores, given: Scores) -> Agreement:
    """Compares (n,) answers with (n,) reference answers."""
    logit_error = np.abs(given.raw_logit - wanted.raw_logit) / np.maximum(1.0, np.abs(wanted.raw_logit))
    return Agreement(
        max_p_error=_largest(np.abs(given.p_click - wanted.p_click)),
        max_logit_error=_largest(logit_error),
        inversions=inversions(wanted.raw_logit, given.raw_logit) + inversions(wanted.p_click, given.p_click),
    )


def inversions(reference: Float64s, answered: Float64s) -> int:
    """Rows that the answer puts below another row, though the reference puts them clearly above it."""
    order = np.argsort(reference, kind="stable")
    ordered, seen = reference[order], answered[order]
    best_so_far = np.maximum.accumulate(seen)
    # For each row: how many rows are clearly below it.
    below = np.searchsorted(ordered, ordered - CLEARLY_DIFFERENT, side="left")
    compared = below > 0
    return int(np.count_nonzero(best_so_far[below[compared] - 1] > seen[compared]))


def _largest(errors: Float64s) -> float:
    """The largest error; a NaN anywhere counts as infinite, because it compares as within every bound."""
    return float("inf") if np.isnan(errors).any() else float(errors.max(initial=0.0))
