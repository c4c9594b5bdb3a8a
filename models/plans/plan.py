"""The contract of a score plan: the model's matrices in, margins and probabilities out."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt


class Scores(NamedTuple):
    """Answers for n rows. raw_logit: (n,) float64, only orders; p_click: (n,) float64, may meet a bid."""

    raw_logit: npt.NDArray[np.float64]
    p_click: npt.NDArray[np.float64]


class ScorePlan(Protocol):
    """Scores rows with one model; safe to call from several threads."""

    def score(self, features: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]) -> Scores:
        """Scores n rows.

        Args:
            features: (n, d) float32, NaN for missing; infinities have been refused before.
            ids: (n, k) int64, 0 for missing.
        Raises:
            PlanError: the matrices are not the model's.
        """
        ...
