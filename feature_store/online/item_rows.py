"""Rows of ads over all views of a model, side by side: one matrix of numbers, one of hashes, and what is known of each.

The joint width of V views is F numbers and K hashes, in the order of the views. Where a view has no row of an ad its
defaults stand in and `found` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from feature_store.online.id_index import Indices
from feature_store.rows import Floats, Ids, Mask, Times
from feature_store.schema import FeatureView


@dataclass(frozen=True, slots=True)
class ItemRows:
    """m rows of ads.

    floats: (m, F) float32.
    ids: (m, K) uint32.
    event_time_ms: (m, V) int64; 0 where the view has no row of the ad.
    found: (m, V) bool; False where defaults stand in.
    """

    floats: Floats
    ids: Ids
    event_time_ms: Times
    found: Mask

    @classmethod
    def of_defaults(cls, views: Sequence[FeatureView], m: int) -> ItemRows:
        """m rows of ads that no view knows, to be written to."""
        rows = cls.zeros(views, m)
        for number, view in enumerate(views):
            float_columns, id_columns = columns_of(views, number)
            rows.floats[:, float_columns] = view.default_floats
            rows.ids[:, id_columns] = view.default_ids
        return rows

    @classmethod
    def zeros(cls, views: Sequence[FeatureView], m: int) -> ItemRows:
        """Room for m rows; takes no memory before it is written to."""
        return cls(
            floats=np.zeros((m, sum(view.n_float for view in views)), dtype=np.float32),
            ids=np.zeros((m, sum(view.n_id for view in views)), dtype=np.uint32),
            event_time_ms=np.zeros((m, len(views)), dtype=np.int64),
            found=np.zeros((m, len(views)), dtype=np.bool_),
        )

    def take(self, rows: Indices) -> ItemRows:
        """These rows, copied."""
        return ItemRows(self.floats[rows], self.ids[rows], self.event_time_ms[rows], self.found[rows])

    def put(self, at: Indices | slice, rows: ItemRows) -> None:
        """Writes rows over those at the given places."""
        self.floats[at] = rows.floats
        self.ids[at] = rows.ids
        self.event_time_ms[at] = rows.event_time_ms
        self.found[at] = rows.found

    def part(self, rows: slice) -> ItemRows:
        """These rows, not copied."""
        return ItemRows(self.floats[rows], self.ids[rows], self.event_time_ms[rows], self.found[rows])

    def freeze(self) -> ItemRows:
        """The same rows; from now on they refuse to be written to."""
        for array in (self.floats, self.ids, self.event_time_ms, self.found):
            array.flags.writeable = False
        return self

    def __len__(self) -> int:
        return len(self.found)


def columns_of(views: Sequence[FeatureView], number: int) -> tuple[slice, slice]:
    """Where the numbers and the hashes of one view lie."""
    first_float = sum(view.n_float for view in views[:number])
    first_id = sum(view.n_id for view in views[:number])
    view = views[number]
    return slice(first_float, first_float + view.n_float), slice(first_id, first_id + view.n_id)
