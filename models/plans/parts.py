"""What a factorised model keeps of each entity: one row of numbers, computed apart from all other entities.

Parts of ads lie in two arrays, as the item table does: a base that is mapped from disk and a delta of recent changes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from feature_store.rows import Floats, Ids
from models.specs import Int64s

Part = npt.NDArray[Any]
"""(m, w) words of masks, or float64 sums."""


class AdParts(NamedTuple):
    """Parts of n ads. Row r is base[r] below `split`, else delta[r - split]. base: (b, w); delta: (d, w)."""

    base: Part
    delta: Part
    split: int
    rows: Int64s
    """(n,)"""

    @classmethod
    def of(cls, parts: Part) -> AdParts:
        """n ads whose parts were computed just now, (n, w)."""
        return cls(parts, parts[:0], len(parts), np.arange(len(parts)))

    def copied(self) -> Part:
        """(n, w) a copy of the rows."""
        return gathered(*self)


def check_rows(floats: Floats, ids: Ids, out: Part) -> None:
    """Raises ValueError unless all three have m rows: NumPy would broadcast one row, or work on the first row alone."""
    if not len(floats) == len(ids) == len(out):
        raise ValueError(f"partial: {len(floats)} rows of floats, {len(ids)} of ids and {len(out)} of parts")


def gathered(base: Part, delta: Part, split: int, rows: Int64s) -> Part:
    """(n, w) a copy of the rows: base[r] below `split`, delta[r - split] from there."""
    in_base = rows < split
    if in_base.all():
        copied: Part = base[rows]
        return copied
    chosen = np.empty((len(rows), delta.shape[1]), dtype=delta.dtype)
    chosen[in_base] = base[rows[in_base]]
    chosen[~in_base] = delta[rows[~in_base] - split]
    return chosen
