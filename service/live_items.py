"""The item table of a model while it serves: loaded once, refreshed for ever, and on disk for the day without a store.

Reading and writing happen in a worker thread, one at a time; a request reads `table`, which is replaced whole and never
changed. One worker (the one that `keeps_snapshot`) also saves what it has read: after a start without the
store, all workers begin from there and answer `items_stale` until the store confirms or replaces the table.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from feature_store.clock import Clock
from feature_store.errors import CodecError, SnapshotError, StoreError
from feature_store.online.item_table import ItemTable
from feature_store.online.item_table_snapshot import load_snapshot, save_snapshot
from feature_store.online.item_table_source import ItemTableSource
from feature_store.online.store import CatalogueReader
from feature_store.schema import FeatureView
from service.telemetry import Telemetry

SNAPSHOT_EVERY_MS = 60_000
"""A table that changes every second is not written to disk every second."""

logger = logging.getLogger(__name__)


class LiveItems:
    """The newest item table that is known, for one set of ad views."""

    table: ItemTable
    """Never changed, only replaced; there after `load`."""

    def __init__(
        self,
        reader: CatalogueReader,
        views: Sequence[FeatureView],
        *,
        snapshot_dir: Path,
        keeps_snapshot: bool,
        stale_ms: float,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        """Tables of other views lie in other folders below `snapshot_dir`."""
        self._source = ItemTableSource(reader, views, clock)
        self._views = tuple(views)
        content = hashlib.sha256("".join(view.fingerprint for view in views).encode()).hexdigest()
        self._snapshot_dir = snapshot_dir / content[:16]
        self._keeps_snapshot = keeps_snapshot
        self._stale_ms = stale_ms
        self._clock = clock
        self._telemetry = telemetry
        self._confirmed_ms = 0
        self._saved: tuple[str, int] | None = None
        """Version and time of the last snapshot that was written."""
        self._store_is_away = False

    async def load(self) -> None:
        """Reads the table from the store, or from the last snapshot where the store is away.

        Raises:
            StoreError: the store is away or lacks a view, and no snapshot can stand in.
        """
        try:
            await self._read()
        except (StoreError, CodecError) as error:
            try:
                self.table = await asyncio.to_thread(load_snapshot, self._snapshot_dir, self._views)
            except SnapshotError as no_snapshot:
                raise type(error)(f"{error}; and {no_snapshot}") from error
            self._confirmed_ms = self.table.loaded_ms
            self._store_is_away = True
            logger.warning(
                "the item table comes from its last snapshot, because the store is away",
                extra={"error": str(error), "ads": len(self.table), "loaded_ms": self.table.loaded_ms},
            )

    async def refresh(self) -> None:
        """Follows the store; while it is away the last table stands."""
        try:
            await self._read()
        except (StoreError, CodecError) as error:
            self._telemetry.store_error("items")
            if not self._store_is_away:
                logger.warning("the item table cannot be refreshed, the last one stands", extra={"error": str(error)})
            self._store_is_away = True
            return
        if self._store_is_away:
            logger.info("the item table is up to date again", extra={"ads": len(self.table)})
        self._store_is_away = False

    def age_ms(self, now_ms: int) -> int:
        """Time since the store last confirmed the table."""
        return max(0, now_ms - self._confirmed_ms)

    def is_stale(self, now_ms: int) -> bool:
        """Whether the store has not confirmed the table for longer than is normal."""
        return self.age_ms(now_ms) > self._stale_ms

    async def _read(self) -> None:
        asked_ms = self._clock()
        table = await asyncio.to_thread(self._source.refresh)
        if table is not None:
            self.table = table
        self._confirmed_ms = asked_ms
        if self._keeps_snapshot:
            await self._save()

    async def _save(self) -> None:
        now_ms = self._clock()
        if self._saved is not None:
            version, saved_ms = self._saved
            if version == self.table.version or now_ms - saved_ms < SNAPSHOT_EVERY_MS:
                return
        try:
            await asyncio.to_thread(save_snapshot, self.table, self._snapshot_dir)
        except SnapshotError as error:
            self._telemetry.store_error("snapshot")
            logger.warning("no snapshot of the item table", extra={"error": str(error)})
        self._saved = (self.table.version, now_ms)
