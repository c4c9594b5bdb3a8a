"""Keeps an item table up to date: a new one when the store has something new, otherwise nothing.

`refresh` blocks and belongs in a worker thread (`asyncio.to_thread`), one call at a time; the table it answers is
immutable and may be handed to the event loop as it is. When the store is away it raises and the last table stands.
Cost: one small read per view while nothing changes; a change of any size copies the table once.
"""

from __future__ import annotations

from collections.abc import Sequence

from feature_store.clock import Clock
from feature_store.online.item_table import ItemTable, build_item_table
from feature_store.online.store import CatalogueReader, CatalogueRows
from feature_store.rows import Rows
from feature_store.schema import FeatureView


class ItemTableSource:
    """Makes the item tables of one model's ad views."""

    def __init__(self, reader: CatalogueReader, views: Sequence[FeatureView], clock: Clock) -> None:
        self._reader = reader
        self._views = tuple(views)
        self._clock = clock
        self._table: ItemTable | None = None

    def refresh(self) -> ItemTable | None:
        """A new table, or None if the last one still holds.

        Rows that expire are a change too.
        Raises:
            ViewNotMaterialized: a view has no catalogue (any more).
            StoreDown, StoreTimeout: the server failed.
            CodecError: what is stored is damaged.
        """
        now_ms = self._clock()
        if self._table is None:
            catalogues = [self._reader.load(view) for view in self._views]
        else:
            moved = [self._moved(self._table, number) for number in range(len(self._views))]
            next_expiry_ms = self._table.next_expiry_ms()
            has_expired = next_expiry_ms is not None and next_expiry_ms <= now_ms
            if not has_expired and all(catalogue is None for catalogue in moved):
                return None
            catalogues = [
                self._table.rows_of(number) if catalogue is None else catalogue
                for number, catalogue in enumerate(moved)
            ]
        self._table = build_item_table(self._views, catalogues, now_ms)
        return self._table

    def _moved(self, table: ItemTable, number: int) -> CatalogueRows | None:
        """All rows of a view after what changed since the table, None if nothing did."""
        view = self._views[number]
        changed = self._reader.changes(view, table.positions[number])
        if changed is None:
            return self._reader.load(view)
        if changed.position == table.positions[number]:
            return None
        held = table.rows_of(number)
        rows = Rows.concatenate(view, [held.rows, changed.rows])
        return CatalogueRows(changed.position, held.entity_ids + changed.entity_ids, rows)
