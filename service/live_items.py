"""The item table of a model while it serves: loaded once, refreshed for ever, and on disk for the day without a store.

Reading and writing happen in worker threads; a request reads `table`. All workers of a machine share their snapshots:
after a start without the store they begin from the last one and answer `items_stale` until the store confirms it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from feature_store.clock import Clock
from feature_store.errors import CodecError, SnapshotError, StoreError, TooManyItems
from feature_store.online.derived_arrays import Derivation
from feature_store.online.item_table import Compute, ItemTable
from feature_store.online.item_table_source import ItemLimits, ItemTableSource
from feature_store.online.store import CatalogueReader
from feature_store.schema import FeatureView
from service.quiet_threads import Run, quietly
from service.telemetry import Telemetry

BUILDER_POLL_S = 0.05
"""How often a worker without any table asks whether the one that builds it is done."""

logger = logging.getLogger(__name__)


class LiveItems:
    """The newest item table that is known, for one set of ad views."""

    def __init__(
        self,
        reader: CatalogueReader,
        views: Sequence[FeatureView],
        *,
        snapshot_dir: Path,
        stale_ms: float,
        clock: Clock,
        telemetry: Telemetry,
        limits: ItemLimits | None = None,
    ) -> None:
        """Tables of other views, projects and stores lie in other folders below `snapshot_dir`: with Redis away, nobody
        could tell whose rows they are."""
        content = hashlib.sha256("\n".join([reader.origin, *(view.fingerprint for view in views)]).encode()).hexdigest()
        self._source = ItemTableSource(reader, views, clock, snapshot_dir / content[:16], limits)
        self._stale_ms = stale_ms
        self._clock = clock
        self._telemetry = telemetry
        self._confirmed_ms = 0
        self._store_is_away = False
        self._disk_error: SnapshotError | None = None
        """The last one that was told."""

    @property
    def table(self) -> ItemTable:
        """There after `load`. A request that keeps row numbers keeps the table too: another may take its place."""
        assert self._source.table is not None, "load() comes first"
        return self._source.table

    async def load(self, patience_s: float | None = None) -> None:
        """Maps the last snapshot and follows the store from there, or reads the table from the store.

        Args:
            patience_s: how long the store may take where there is a snapshot; the next refresh asks again.
        Raises:
            StoreError: the store is away or lacks a view, and no snapshot can stand in.
            TooManyItems: the catalogue is larger than the limit.
        """
        no_snapshot = await asyncio.to_thread(self._restore)
        try:
            async with asyncio.timeout(patience_s if no_snapshot is None else None):
                is_followed = await self._follow(asyncio.to_thread)
            while not is_followed and no_snapshot is not None:
                await asyncio.sleep(BUILDER_POLL_S)
                is_followed = await self._follow(asyncio.to_thread)
        except TimeoutError:
            self._begin_from_snapshot(f"it did not answer within {patience_s} s")
        except (StoreError, CodecError) as error:
            if no_snapshot is not None:
                raise type(error)(f"{error}; and {no_snapshot}") from error
            self._begin_from_snapshot(str(error))

    async def refresh(self) -> None:
        """Follows the store; while it is away the last table stands."""
        try:
            await self._follow(quietly)
        except (StoreError, CodecError, TooManyItems) as error:
            self._telemetry.store_error("items")
            if not self._store_is_away:
                logger.warning("the item table cannot be refreshed, the last one stands", extra={"error": str(error)})
            self._store_is_away = True
            return
        if self._store_is_away:
            logger.info("the item table is up to date again", extra={"ads": len(self.table)})
        self._store_is_away = False

    async def derive(self, key: str, width: int, dtype: npt.DTypeLike, compute: Compute) -> None:
        """Fills `table.derived(key)`, for this table and every one to come, and for every ad that changes.

        Args:
            key: names the computation and all it depends on; it becomes a file's name.
            compute: floats (m, F) float32 and ids (m, K) uint32 to (m, width) of `dtype`; runs in worker threads.
        """
        derivation = Derivation(key, width, np.dtype(dtype), compute)
        await quietly(lambda: self._source.derive(derivation))

    def forget(self, key: str) -> None:
        """Ends a derivation, when no model uses it any more."""
        self._source.forget(key)

    def age_ms(self, now_ms: int) -> int:
        """Time since the store last confirmed the table."""
        return max(0, now_ms - self._confirmed_ms)

    def is_stale(self, now_ms: int) -> bool:
        """Whether the store has not confirmed the table for longer than is normal."""
        return self.age_ms(now_ms) > self._stale_ms

    def _begin_from_snapshot(self, reason: str) -> None:
        self._store_is_away = True
        logger.warning(
            "the item table comes from its last snapshot, because the store is away",
            extra={"error": reason, "ads": len(self.table), "loaded_ms": self._confirmed_ms},
        )

    def _restore(self) -> SnapshotError | None:
        """Why there is no snapshot to start from; None where there is."""
        try:
            self._source.restore()
        except SnapshotError as error:
            return error
        self._confirmed_ms = self.table.origin.loaded_ms
        return None

    async def _follow(self, run: Run) -> bool:
        """Whether the table is now what the store held a moment ago; if not, another worker is making it."""
        asked_ms = self._clock()
        is_followed = await run(self._source.refresh)
        if is_followed:
            self._confirmed_ms = asked_ms
        error = self._source.disk_error
        if error is not None and error is not self._disk_error:
            self._telemetry.store_error("snapshot")
            logger.warning("the item table cannot be shared with other workers", extra={"error": str(error)})
        self._disk_error = error
        return is_followed
