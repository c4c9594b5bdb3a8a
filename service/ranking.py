"""The order of an answer.

By score where bids were sent (bid x p_click, what a click is worth times how likely it is), else by `p_click`. Ties go
by `raw_logit`, which a calibrator may have rounded together, then by the order of the request. Candidates that the
deadline left without a score come after all scored ones, in the order of the request. Pure.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from service.telemetry import Reals


def ranked(value: Reals, raw_logit: Reals, n_candidates: int, top_k: int) -> npt.NDArray[np.intp]:
    """Indices of the candidates to answer, best first.

    Args:
        value: (m,) what to order by, for the first m of the candidates; finite.
        raw_logit: (m,) breaks ties.
        n_candidates: m or more.
        top_k: how many to answer, at most `n_candidates`.
    """
    order = np.lexsort((-raw_logit, -value))  # stable: equal pairs keep the order of the request
    if len(order) < n_candidates:
        order = np.concatenate([order, np.arange(len(order), n_candidates)])
    return order[:top_k]
