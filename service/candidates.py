"""The ads of one request: row numbers of the item table, and rows that were read for this request alone.

An ad that the table does not hold (it is new, or the table is behind) may have a row in the store all the same; the
request's one read asks for it. Columns are copied only where a plan needs them: a factorised plan takes what it has
kept of each row (`parts`), and the rows themselves are never touched. Where no table is kept at all, every ad is read
with its request (`StoredAds`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feature_store.online.id_index import Indices
from feature_store.online.item_survey import LATEST, survey
from feature_store.online.item_table import ItemTable
from feature_store.online.store import CataloguePosition
from feature_store.rows import Times
from feature_store.schema import FeatureView
from models.encoder import Block
from models.plans.parts import AdParts
from service.entity_rows import EntityRows, unknown_entities
from service.knowledge import Known, ViewRows, known_rows


class Candidates:
    """n ads. The table is the one of the moment of the look-up, whatever takes its place later."""

    __slots__ = ("_plan_key", "_survey", "ad_ids", "now_ms", "read", "read_at", "rows", "table")

    def __init__(self, table: ItemTable, ad_ids: Sequence[str], plan_key: str, now_ms: int) -> None:
        """Looks the ads up. `plan_key` names what the plan keeps of each ad."""
        self.table = table
        self.ad_ids = ad_ids
        self.now_ms = now_ms
        self.rows: Indices = table.lookup(ad_ids)
        self.read: EntityRows | None = None
        """Rows of the ads at the places `read_at`, which the table does not hold."""
        self.read_at: Indices | None = None
        self._plan_key = plan_key
        self._survey: list[list[int]] = survey(table, self.rows, now_ms).tolist()

    def __len__(self) -> int:
        return len(self.rows)

    def unlisted(self) -> Sequence[int]:
        """Places of the ads that the table does not hold."""
        if not self._survey or min(self._survey)[0] == 0:  # some view has a row of every ad
            return ()
        places: list[int] = np.flatnonzero(self.rows == self.table.unknown_row).tolist()
        return places

    def add_read(self, places: Sequence[int], rows: EntityRows) -> None:
        """Rows from the store for ads that the table does not hold; what it had no row of is left out."""
        there = rows.found.any(axis=1)
        if there.any():
            self.read_at = np.array(places, dtype=np.int64)[there]
            self.read = rows.take(np.flatnonzero(there))

    def part(self, at: slice) -> Candidates:
        """Some of the ads, for a plan that scores a few at a time."""
        some = object.__new__(Candidates)
        some.table, some.ad_ids, some.now_ms, some._plan_key = self.table, self.ad_ids[at], self.now_ms, self._plan_key
        some.rows, some._survey = self.rows[at], self._survey
        some.read = some.read_at = None
        if self.read is not None and self.read_at is not None:
            inside = np.flatnonzero((self.read_at >= at.start) & (self.read_at < at.stop))
            some.read_at, some.read = self.read_at[inside] - at.start, self.read.take(inside)
        return some

    def block(self) -> Block:
        """See `AdColumns.block`."""
        taken = self.table.take(self.rows)
        if self.read is not None:
            taken.floats[self.read_at] = self.read.block.floats
            taken.ids[self.read_at] = self.read.block.ids
        return Block(taken.floats, taken.ids)

    def event_times(self) -> Times:
        """(n, V) since when each row holds; 0 where there is none."""
        times = self.table.take(self.rows).event_time_ms
        if self.read is not None:
            times[self.read_at] = self.read.event_time_ms
        return times

    def positions(self) -> tuple[CataloguePosition, ...]:
        """How far the item table has followed the catalogue of each view."""
        return self.table.positions

    def parts(self) -> AdParts | None:
        """See `AdColumns.parts`."""
        derived = self.table.derived(self._plan_key)
        return None if derived is None else AdParts(derived.base, derived.delta, self.table.split, self.rows)

    def unlisted_rows(self) -> tuple[Indices, Block] | None:
        """See `AdColumns.unlisted_rows`."""
        return None if self.read is None or self.read_at is None else (self.read_at, self.read.block)

    def known(self) -> Known:
        """How well the ads are known."""
        if self.read is None and not any(missing or stale for missing, stale, _ in self._survey):
            return Known(
                [
                    ViewRows(view.name, len(self.rows), 0, 0, None if oldest_ms == LATEST else self.now_ms - oldest_ms)
                    for view, (_, _, oldest_ms) in zip(self.table.views, self._survey, strict=True)
                ]
            )
        taken = self.table.take(self.rows)
        stale = taken.found & (taken.event_time_ms <= self.now_ms - self.table.ttl_ms)
        if self.read is not None:
            taken.found[self.read_at] = self.read.found
            taken.event_time_ms[self.read_at] = self.read.event_time_ms
            stale[self.read_at] = self.read.stale
        return known_rows(self.table.views, taken.found, stale, taken.event_time_ms, self.now_ms)


class StoredAds:
    """n ads of which no table is kept: their rows come from the store with the request, or count as missing."""

    __slots__ = ("_n", "_read", "_views", "now_ms")

    def __init__(self, views: tuple[FeatureView, ...], n: int, now_ms: int) -> None:
        self.now_ms = now_ms
        self._views = views
        self._n = n
        self._read: EntityRows | None = None

    def __len__(self) -> int:
        return self._n

    def unlisted(self) -> Sequence[int]:
        """All of them."""
        return range(self._n)

    def add_read(self, _places: Sequence[int], rows: EntityRows) -> None:
        """Rows of all ads, as the store answered them."""
        self._read = rows

    def part(self, at: slice) -> StoredAds:
        """Some of them."""
        places = np.arange(self._n)[at]
        some = StoredAds(self._views, len(places), self.now_ms)
        some._read = self._rows().take(places)
        return some

    def block(self) -> Block:
        """See `AdColumns.block`."""
        return self._rows().block

    def event_times(self) -> Times:
        """(n, V) since when each row holds; 0 where there is none."""
        return self._rows().event_time_ms

    def positions(self) -> tuple[CataloguePosition, ...]:
        """None: there is no table."""
        return ()

    def parts(self) -> None:
        """See `AdColumns.parts`."""

    def unlisted_rows(self) -> None:
        """See `AdColumns.unlisted_rows`."""

    def known(self) -> Known:
        """How well the ads are known."""
        return self._rows().known(self.now_ms)

    def _rows(self) -> EntityRows:
        if self._read is None:
            self._read = unknown_entities(self._views, self._n)
        return self._read


class GivenAds:
    """n ads whose columns are at hand, or that have none: a model without features of ads, and made-up rows."""

    __slots__ = ("_block",)

    def __init__(self, block: Block) -> None:
        self._block = block

    @classmethod
    def without_columns(cls, n: int) -> GivenAds:
        """n ads of which the model wants to know nothing."""
        return cls(Block(np.empty((n, 0), dtype=np.float32), np.empty((n, 0), dtype=np.uint32)))

    def __len__(self) -> int:
        return len(self._block)

    def unlisted(self) -> Sequence[int]:
        """None: there is no table."""
        return ()

    def part(self, at: slice) -> GivenAds:
        """Some of them."""
        return GivenAds(Block(self._block.floats[at], self._block.ids[at]))

    def block(self) -> Block:
        """See `AdColumns.block`."""
        return self._block

    def event_times(self) -> Times:
        """(n, 0): there are no rows."""
        return np.zeros((len(self), 0), dtype=np.int64)

    def positions(self) -> tuple[CataloguePosition, ...]:
        """None: there is no table."""
        return ()

    def parts(self) -> None:
        """See `AdColumns.parts`."""

    def unlisted_rows(self) -> None:
        """See `AdColumns.unlisted_rows`."""

    def known(self) -> Known:
        """Nothing: no rows were asked for."""
        return Known(())
