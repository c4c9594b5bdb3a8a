"""Rows of users as the store answered them: the model's columns, and how far they can be trusted.

Where a row is missing its defaults stand in; a row past its time-to-live is used, because the last known value beats a
default, and counts as stale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_store.errors import CodecError
from feature_store.online.codec import decode_row, decode_rows
from feature_store.rows import Mask, Rows, Times
from feature_store.schema import FeatureView
from models.encoder import Block
from service.knowledge import Known, ViewRows, known_rows


@dataclass(frozen=True, slots=True)
class EntityRows:
    """Rows of V views for m entities.

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

    def known(self, now_ms: int) -> Known:
        """How well the entities are known."""
        return known_rows(self.views, self.found, self.stale, self.event_time_ms, now_ms)


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
        try:
            rows.append(decode_rows(view, values[number * m : (number + 1) * m]))
        except CodecError as error:
            damaged.append(error)
            rows.append(Rows.missing(view, m))
    return _joined(views, rows, m, now_ms), damaged


def stored_row(
    views: tuple[FeatureView, ...], values: Sequence[bytes | None], now_ms: int
) -> tuple[Block, Known, list[CodecError]]:
    """The one user of a ranking, from what the store answered for each view; `stored_rows` without its set-up cost."""
    rows: list[Rows] = []
    known: list[ViewRows] = []
    damaged: list[CodecError] = []
    is_incomplete = is_stale = False
    for view, value in zip(views, values, strict=True):
        try:
            row = decode_row(view, value)
        except CodecError as error:
            damaged.append(error)
            row, value = Rows.missing(view, 1), None
        rows.append(row)
        if value is None:
            is_incomplete = True
            known.append(ViewRows(view.name, present=0, missing=1, stale=0, age_ms=None))
        else:
            age_ms = now_ms - row.event_time_ms.item()
            outlived = age_ms >= view.ttl_ms
            is_stale |= outlived
            known.append(ViewRows(view.name, present=int(not outlived), missing=0, stale=int(outlived), age_ms=age_ms))
    block = Block(rows[0].floats, rows[0].ids) if len(rows) == 1 else _side_by_side(rows)
    return block, Known(known, (0,) if is_incomplete else (), (0,) if is_stale else ()), damaged


def _joined(views: tuple[FeatureView, ...], rows: Sequence[Rows], m: int, now_ms: int) -> EntityRows:
    """The rows of all views side by side."""
    if rows:
        block = _side_by_side(rows)
        found = np.stack([r.found for r in rows], axis=1)
        event_time_ms = np.stack([r.event_time_ms for r in rows], axis=1)
    else:
        block = Block(np.empty((m, 0), np.float32), np.empty((m, 0), np.uint32))
        found, event_time_ms = np.empty((m, 0), np.bool_), np.empty((m, 0), np.int64)
    ttl_ms = np.array([view.ttl_ms for view in views], dtype=np.int64)
    return EntityRows(views, block, found, found & (event_time_ms <= now_ms - ttl_ms), event_time_ms)


def _side_by_side(rows: Sequence[Rows]) -> Block:
    return Block(np.concatenate([r.floats for r in rows], axis=1), np.concatenate([r.ids for r in rows], axis=1))
