"""The same rows in other company: whether a graph answers each row by itself.

A service is asked about one ad, about a hundred, and about the same ads in another order. A graph that works along its
first axis (a mean of the batch, a normalisation in training mode, a running sum) would give an ad another probability
each time, and no comparison on the same batches sees it. So some rows are answered alone, in reversed order, and
shuffled in small uneven batches; every proof holds that against the answers to all rows at once.

Rounding alone moves an answer by about 1e-7 from batch to batch, because matrix products add up in another order.
Cost: about 90 calls, some 10 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from models.encoder import Encoded
from models.specs import Float64s, Int64s

TOGETHER = 512
ALONE = 64
"""Of those, also answered one by one."""
UNEVEN = 23
"""Rows in a shuffled batch: no multiple of what a vectorised kernel takes at once."""


class Regrouped(NamedTuple):
    """Rows answered in several groupings, most of them more than once.

    places: (m,) which row.
    batch_sizes: (m,) how many rows were asked about with it, itself included.
    p_click: (m,) what was answered.
    """

    places: Int64s
    batch_sizes: Int64s
    p_click: Float64s


def regrouped(answer: Callable[[Encoded], Float64s], rows: Encoded, random: np.random.Generator) -> Regrouped:
    """Answers some rows in several groupings.

    Args:
        answer: (b,) answers to the b rows of a batch.
        rows: at least one.
    """
    n = len(rows.features)
    drawn = random.choice(n, min(n, TOGETHER), replace=False)
    shuffled = random.permutation(drawn)
    batches = [
        *drawn[:ALONE, None],
        drawn[::-1],
        *(shuffled[start : start + UNEVEN] for start in range(0, len(drawn), UNEVEN)),
    ]
    answers = [answer(Encoded(rows.features[batch], rows.ids[batch])) for batch in batches]
    sizes = [np.full(len(batch), len(batch)) for batch in batches]
    return Regrouped(np.concatenate(batches), np.concatenate(sizes), np.concatenate(answers))
