"""Rows of one view for many entities, as contiguous arrays: what every read of the feature store answers.

Row i belongs to the i-th entity asked for: a miss keeps its place and holds the view's defaults, so that one ad is
never handed the features of its neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from feature_store.schema import FeatureView

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.uint32]
Times = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Rows(msgspec.Struct, frozen=True):
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

    @classmethod
    def concatenate(cls, view: FeatureView, parts: Sequence[Rows]) -> Rows:
        """Rows of one view below each other; no parts give no rows."""
        parts = [cls.missing(view, 0), *parts]
        return cls(
            floats=np.concatenate([part.floats for part in parts]),
            ids=np.concatenate([part.ids for part in parts]),
            event_time_ms=np.concatenate([part.event_time_ms for part in parts]),
            found=np.concatenate([part.found for part in parts]),
        )

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> Rows:
        """The rows at these indices, copied."""
        return Rows(self.floats[rows], self.ids[rows], self.event_time_ms[rows], self.found[rows])

    def __len__(self) -> int:
        return len(self.found)
