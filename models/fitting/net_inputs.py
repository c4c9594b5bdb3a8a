"""Which columns a net may read: those that training rows have in more than one way.

The weights behind a column that never varied would stay as they were drawn, and speak up when it varies for the first
time, in serving.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from models.encoder import Encoded, Layout, Side
from models.specs import NetInputs


def net_inputs(encoded: Encoded, rank: int, layout: Layout | None = None, sides: Iterable[Side] = ()) -> NetInputs:
    """The columns to read of n rows; those of some sides only, where a layout tells them apart.

    Args:
        encoded: the rows to learn from.
        rank: length of a hash's vector.
    """
    features, ids = encoded
    numbers, missing = [], []
    for column in _columns(features.shape[1], layout, sides, numbers=True):
        values = features[:, column]
        absent = np.isnan(values)
        known = values[~absent]
        if len(known) and known.min() < known.max():
            numbers.append(column)
        if absent.any() and len(known):
            missing.append(column)
    columns = _columns(ids.shape[1], layout, sides, numbers=False)
    hashes = [column for column in columns if (ids[:, column] != ids[:1, column]).any()]
    read = [np.array(columns, dtype=np.int64) for columns in (numbers, missing, hashes)]
    return NetInputs(read[0], read[1], read[2], rank)


def _columns(width: int, layout: Layout | None, sides: Iterable[Side], *, numbers: bool) -> list[int]:
    if layout is None:
        return list(range(width))
    found: list[int] = []
    for side in sides:
        at = layout[side]
        first, n = (at.first_float, at.n_floats) if numbers else (at.first_id, at.n_ids)
        found += range(first, first + n)
    return found
