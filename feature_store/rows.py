"""Rows of one view for many entities, as contiguous arrays: what every read of the feature store answers.

Row i belongs to the i-th entity asked for: a miss keeps its place and holds the view's defaults, so that one ad is
never handed the features of its neighbour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_store.schema import FeatureView

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.uint32]
Times = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rows:
    """n rows of one view.

    floats: (n, n_float) float32, NaN where a number is missing and has no default.
    ids: (n, n_id) uint32, 0 where a hash is missing and has no default.
    event_time_ms: (n,) int64, since when the row's values hold; 0 where there is no row.
    found: (n,) bool, False where there is no row and the defaults stand in.
    """

    floats: Floats
    ids: Ids
    event_time_ms: Times
    found: Mask

    @classmethod
    def missing(cls, view: FeatureView, n: int) -> Rows:
        """n rows of nothing but defaults."""
        return cls(
            floats=np.tile(view.default_floats, (n, 1)),
            ids=np.tile(view.default_ids, (n, 1)),
            event_time_ms=np.zeros(n, dtype=np.int64),
            found=np.zeros(n, dtype=np.bool_),
        )

    def __len__(self) -> int:
        return len(self.found)
