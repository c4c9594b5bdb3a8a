"""From base and delta to a new base: every ad's present row, without those that were deleted or have expired.

Works on parts of some thousand rows, so that it takes little memory beside the new base, and lets other threads run.
Cost: one copy of the table and one build of the id index.
"""

from __future__ import annotations

import numpy as np

from feature_store.online.id_index import build_id_index, index_of_blob
from feature_store.online.item_base import ItemBase
from feature_store.online.item_rows import ItemRows, columns_of
from feature_store.online.item_table import ItemTable
from feature_store.rows import Mask

PART_ROWS = 8_192


def compacted(table: ItemTable, now_ms: int) -> ItemBase:
    """The base that takes the table's place; the table itself stays as it is."""
    rows_of_base, new_ids, rows_of_new = table.present()
    rows = np.concatenate([rows_of_base, rows_of_new])
    live = np.concatenate([_live(table, rows[part], now_ms) for part in _parts(len(rows))])
    kept = np.flatnonzero(live.any(axis=1))
    held = ItemRows.of_defaults(table.views, len(kept) + 1)
    for part in _parts(len(kept)):
        taken = table.take(rows[kept[part]])
        _drop_expired(table, taken, live[kept[part]])
        held.put(part, taken)
    from_base = kept[kept < len(rows_of_base)]
    blob, sizes = table.origin.index.select(from_base)
    new = build_id_index([new_ids[at - len(rows_of_base)] for at in kept[len(from_base) :].tolist()])
    index = index_of_blob(np.concatenate([blob, new.blob]), np.concatenate([sizes, np.diff(new.offsets)]))
    return ItemBase(table.views, table.positions, held.freeze(), index, loaded_ms=now_ms)


def _live(table: ItemTable, rows: np.ndarray, now_ms: int) -> Mask:
    taken = table.take(rows)
    ttl_ms = np.array([view.ttl_ms for view in table.views], dtype=np.int64)
    return taken.found & (taken.event_time_ms > now_ms - ttl_ms)


def _drop_expired(table: ItemTable, rows: ItemRows, live: Mask) -> None:
    """Puts the view's defaults where a view's row is not live."""
    for number, view in enumerate(table.views):
        expired = np.flatnonzero(~live[:, number])
        float_columns, id_columns = columns_of(table.views, number)
        rows.floats[expired, float_columns] = view.default_floats
        rows.ids[expired, id_columns] = view.default_ids
        rows.event_time_ms[expired, number] = 0
        rows.found[expired, number] = False


def _parts(n: int) -> list[slice]:
    return [slice(start, min(start + PART_ROWS, n)) for start in range(0, max(n, 1), PART_ROWS)]
