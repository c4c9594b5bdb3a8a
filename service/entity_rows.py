"""What is known about the entities of one request: the model's columns, and how far they can be trusted.

One shape for both sides. Users come from the online store, in one read for all views; ads from the item table in
process. Where a row is missing its defaults stand in and `found` says so; a row past its time-to-live is used, because
the last known value beats a default, and `stale` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_store.errors import CodecError
from feature_store.online.codec import decode_row, decode_rows
from feature_store.online.item_table import ItemTable
from feature_store.rows import Mask, Rows, Times
from feature_store.schema import FeatureView
from models.encoder import Block

_NEVER_MS = np.iinfo(np.int64).max
"""Later than any row: the event time of what is not there, when the oldest is looked for."""


@dataclass(frozen=True, slots=True)
class EntityRows:
    """Rows of V views for m entities; m is 1 where all candidates share the entity.

    block: (m, F) numbers and (m, K) hashes, in the order of the views.
    found: (m, V) False where defaults stand in.
    stale: (m, V) True where a found row has outlived its view's time-to-live.
    event_time_ms: (m, V), 0 where there is no row.
    """

    views: tuple[FeatureView, ...]
    block: Block
    found: Mask
    stale: Mask
    event_time_ms: Times

    def take(self, at: npt.NDArray[np.intp]) -> EntityRows:
        """The rows of these entities, in this order."""
        block = Block(self.block.floats[at], self.block.ids[at])
        return EntityRows(self.views, block, self.found[at], self.stale[at], self.event_time_ms[at])

    def age_ms(self, now_ms: int) -> list[int | None]:
        """Age of the oldest row of each view, None where there is no row."""
        oldest_ms = np.where(self.found, self.event_time_ms, _NEVER_MS).min(axis=0).tolist()
        return [None if time_ms == _NEVER_MS else now_ms - time_ms for time_ms in oldest_ms]


def unknown_entities(views: tuple[FeatureView, ...], m: int) -> EntityRows:
    """m entities of which nothing is known; with no views, m rows without columns."""
    return _joined(views, [Rows.missing(view, m) for view in views], m, now_ms=0)


def stored_rows(
    views: tuple[FeatureView, ...], values: Sequence[bytes | None], now_ms: int
) -> tuple[EntityRows, list[CodecError]]:
    """Rows of m entities from what the store answered.

    Args:
        values: (V * m,) for each view in turn its m values.
    Returns:
        The rows, and what was wrong with views that could not be decoded: their defaults stand in.
    """
    m = len(values) // len(views)
    rows: list[Rows] = []
    damaged: list[CodecError] = []
    for number, view in enumerate(views):
        of_view = values[number * m : (number + 1) * m]
        try:
            rows.append(decode_row(view, of_view[0]) if m == 1 else decode_rows(view, of_view))
        except CodecError as error:
            damaged.append(error)
            rows.append(Rows.missing(view, m))
    return _joined(views, rows, m, now_ms), damaged


def table_rows(table: ItemTable, ad_ids: Sequence[str], now_ms: int) -> EntityRows:
    """Rows of m ads from the item table; unknown ads get its row of defaults."""
    at = table.lookup(ad_ids)
    rows = table.take(at)
    return EntityRows(
        views=table.views,
        block=Block(rows.floats, rows.ids),
        found=rows.found,
        stale=table.stale(at, now_ms),
        event_time_ms=rows.event_time_ms,
    )


def _joined(views: tuple[FeatureView, ...], rows: Sequence[Rows], m: int, now_ms: int) -> EntityRows:
    """The rows of all views side by side."""
    if len(rows) == 1:
        block = Block(rows[0].floats, rows[0].ids)
        found, event_time_ms = rows[0].found[:, None], rows[0].event_time_ms[:, None]
    elif rows:
        block = Block(np.concatenate([r.floats for r in rows], axis=1), np.concatenate([r.ids for r in rows], axis=1))
        found = np.stack([r.found for r in rows], axis=1)
        event_time_ms = np.stack([r.event_time_ms for r in rows], axis=1)
    else:
        block = Block(np.empty((m, 0), np.float32), np.empty((m, 0), np.uint32))
        found, event_time_ms = np.empty((m, 0), np.bool_), np.empty((m, 0), np.int64)
    ttl_ms = np.array([view.ttl_ms for view in views], dtype=np.int64)
    return EntityRows(views, block, found, found & (event_time_ms <= now_ms - ttl_ms), event_time_ms)
