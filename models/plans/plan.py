"""The contract of a score plan: the model's matrices in, margins and probabilities out."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from models.errors import PlanError


class Scores(NamedTuple):
    """Answers for n rows. raw_logit: (n,) float64, only orders; p_click: (n,) float64, may meet a bid."""

    raw_logit: npt.NDArray[np.float64]
    p_click: npt.NDArray[np.float64]


class ScorePlan(Protocol):
    """Scores rows with one model; safe to call from several threads."""

    @property
    def name(self) -> str:
        """Kind and implementation, as metrics and `doctor` show it: `trees, compiled`, `generic, onnxruntime`.

        Trees whose tables would be too large name their stride, too: `trees, compiled, stride 32`.
        """
        ...

    def score(self, features: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]) -> Scores:
        """Scores n rows.

        Args:
            features: (n, d) float32, NaN for missing; infinities have been refused before.
            ids: (n, k) int64, 0 for missing.
        Raises:
            PlanError: the matrices are not the model's.
        """
        ...


def check_matrices(features: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], n_features: int, n_ids: int) -> None:
    """Raises PlanError unless the matrices are those of a model that reads so many numbers and hashes."""
    wanted = ((n_features, np.dtype(np.float32)), (n_ids, np.dtype(np.int64)))
    given = tuple((matrix.shape[1] if matrix.ndim == 2 else -1, matrix.dtype) for matrix in (features, ids))
    if given != wanted or len(features) != len(ids):
        raise PlanError(
            f"the model reads features float32 (n, {n_features}) and ids int64 (n, {n_ids}), "
            f"got {features.dtype} {features.shape} and {ids.dtype} {ids.shape}"
        )
