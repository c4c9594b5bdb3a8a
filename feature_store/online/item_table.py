"""All ads of a model in one process: a shared base that never changes, and a private delta that only grows.

The idea of a log-structured merge tree. The base is mapped from disk and shared by all workers; an ad that changes gets
a new row in the delta, and what pointed to its old row is turned to the new one. Row numbers form one space:

    0 … n-1       ads of the base
    n             nothing but defaults: every ad that is unknown or was deleted
    n+1 …         rows of the delta (`split` is n + 1)

A row never changes once it is written, and it can be found only when it and all that is derived from it are written.
So a request may keep row numbers across an await, as long as it keeps this table: the one that takes its place after a
compaction numbers anew. One thread appends (`ItemTableSource`); the event loop reads without a lock.
Rows past their time-to-live stay and count as stale until the next compaction drops them: only it makes the table
forget, so a table that nobody changes costs nothing to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_store.online.array_files import release
from feature_store.online.id_index import Indices
from feature_store.online.item_base import ItemBase
from feature_store.online.item_rows import ItemRows, columns_of
from feature_store.online.store import CataloguePosition, CatalogueRows
from feature_store.rows import Floats, Ids, Mask

APPEND_ROWS = 1_024
"""Rows that are written, derived and published together: a fraction of a millisecond, and then others have a turn."""

Compute = Callable[[Floats, Ids], npt.NDArray[Any]]
"""What is derived from m rows: floats (m, F) and ids (m, K) in, (m, width) out."""


@dataclass(frozen=True, slots=True)
class Derived:
    """Values computed from every row ahead of time, of one dtype, C-contiguous."""

    base: npt.NDArray[Any]
    """(n + 1, width)"""
    delta: npt.NDArray[Any]
    """(capacity, width)"""


class ItemTable:
    """See the module."""

    def __init__(self, origin: ItemBase, capacity: int) -> None:
        """A table with room for `capacity` changed rows."""
        self.origin = origin
        self.views = origin.views
        self.base: ItemRows = origin.rows
        self.delta: ItemRows = ItemRows.zeros(origin.views, capacity)
        self.positions: tuple[CataloguePosition, ...] = origin.positions
        """Of each view: up to where the table has followed the catalogue."""
        self.unknown_row = len(origin)
        self.split = len(origin) + 1
        self.n_changed = 0
        """Rows of the delta that are in use."""
        self._moved_by = np.zeros(self.split, dtype=np.int32)
        """From a base row to the ad's present row. Zeros that nobody writes take no memory."""
        self._new_ads: dict[str, int] = {}
        """Rows of ads that the base does not know."""
        self._n_ads = len(origin)
        self._derived: dict[str, tuple[Compute, Derived]] = {}
        self.ttl_ms = np.array([view.ttl_ms for view in origin.views], dtype=np.int64)

    def __len__(self) -> int:
        """Ads that any view knows."""
        return self._n_ads

    @property
    def version(self) -> str:
        """Changes whenever the catalogues do; equal content read by another process has an equal version."""
        return version_text(self.positions)

    @property
    def free_rows(self) -> int:
        """Changes that still find room."""
        return len(self.delta) - self.n_changed

    def lookup(self, ad_ids: Sequence[str]) -> Indices:
        """(m,) row of each ad, `unknown_row` where it is not known."""
        rows = np.empty(len(ad_ids), dtype=np.int64)
        n_unknown = self.origin.index.lookup_into(ad_ids, self.unknown_row, rows)
        rows += self._moved_by[rows]
        if n_unknown and self._new_ads:
            new_row = self._new_ads.get
            for at in np.flatnonzero(rows == self.unknown_row).tolist():
                rows[at] = new_row(ad_ids[at], self.unknown_row)
        return rows

    def take(self, rows: Indices) -> ItemRows:
        """These rows, copied from base and delta."""
        changed = np.flatnonzero(rows >= self.split)
        if not len(changed):
            return self.base.take(rows)
        taken = self.base.take(np.minimum(rows, self.unknown_row))
        taken.put(changed, self.delta.take(rows[changed] - self.split))
        return taken

    def stale(self, rows: Indices, now_ms: int) -> Mask:
        """(m, V) True where a found row has outlived its view's time-to-live."""
        taken = self.take(rows)
        return taken.found & (taken.event_time_ms <= now_ms - self.ttl_ms)

    def derived(self, key: str) -> Derived | None:
        """What `derive` stored under that key; None where it was never asked for or is over its budget."""
        entry = self._derived.get(key)
        return None if entry is None else entry[1]

    def derive(self, key: str, base: npt.NDArray[Any], compute: Compute) -> None:
        """Keeps a derived array from now on.

        Args:
            base: (n + 1, width) `compute` of the base.
        """
        delta = np.zeros((len(self.delta), base.shape[1]), dtype=base.dtype)
        for start in range(0, self.n_changed, APPEND_ROWS):
            part = slice(start, min(start + APPEND_ROWS, self.n_changed))
            delta[part] = compute(self.delta.floats[part], self.delta.ids[part])
        self._derived[key] = (compute, Derived(base, delta))

    def forget(self, key: str) -> None:
        """Drops a derived array; the requests that hold it keep it."""
        self._derived.pop(key, None)

    def release(self) -> None:
        """Gives the memory of mapped arrays back, slowly; for the thread that replaced the table, when no request is
        left that reads it. The event loop would stand still while the last of them let go of it all at once."""
        for array in (*self.origin.arrays().values(), *(derived.base for _, derived in self._derived.values())):
            release(array)

    def apply(self, view_number: int, changes: CatalogueRows) -> None:
        """Follows the catalogue of one view; `free_rows` must be at least the number of changes.

        An ad of which no view has a row any more is unknown from now on.
        """
        float_columns, id_columns = columns_of(self.views, view_number)
        for start in range(0, len(changes.entity_ids), APPEND_ROWS):
            part = slice(start, start + APPEND_ROWS)
            ad_ids, changed = changes.entity_ids[part], changes.rows.take(np.arange(len(changes.rows))[part])
            rows = self.take(self.lookup(ad_ids))
            rows.floats[:, float_columns] = changed.floats
            rows.ids[:, id_columns] = changed.ids
            rows.event_time_ms[:, view_number] = changed.event_time_ms
            rows.found[:, view_number] = changed.found
            self._append(ad_ids, rows)
        at = list(self.positions)
        at[view_number] = changes.position
        self.positions = tuple(at)

    def grown(self, n_changes: int) -> ItemTable:
        """A copy with room for so many more changes and nothing derived: what a compaction starts from."""
        copy = ItemTable(self.origin, self.n_changed + n_changes)
        copy.positions, copy.n_changed, copy._n_ads = self.positions, self.n_changed, self._n_ads
        copy.delta.put(slice(0, self.n_changed), self.delta.part(slice(0, self.n_changed)))
        copy._moved_by[:] = self._moved_by
        copy._new_ads = dict(self._new_ads)
        return copy

    def present(self) -> tuple[Indices, list[str], Indices]:
        """The present row of each ad of the base (`unknown_row` if deleted), and the new ads with theirs."""
        of_base = np.arange(self.unknown_row) + self._moved_by[:-1]
        return of_base, list(self._new_ads), np.fromiter(self._new_ads.values(), np.int64, len(self._new_ads))

    def _append(self, ad_ids: Sequence[str], rows: ItemRows) -> None:
        """Writes the rows, then what is derived from them, and only then lets them be found."""
        known = np.flatnonzero(rows.found.any(axis=1))
        place = slice(self.n_changed, self.n_changed + len(known))
        rows_of = np.full(len(ad_ids), self.unknown_row, dtype=np.int64)
        rows_of[known] = self.split + np.arange(place.start, place.stop)
        kept = rows.take(known)
        self.delta.put(place, kept)
        for compute, derived in tuple(self._derived.values()):
            derived.delta[place] = compute(kept.floats, kept.ids)
        self.n_changed = place.stop
        self._publish(ad_ids, rows_of)

    def _publish(self, ad_ids: Sequence[str], rows_of: Indices) -> None:
        before = self.lookup(ad_ids)
        base_rows = self.origin.index.lookup(ad_ids, self.unknown_row)
        in_base = base_rows != self.unknown_row
        self._moved_by[base_rows[in_base]] = rows_of[in_base] - base_rows[in_base]
        for at in np.flatnonzero(~in_base).tolist():
            if rows_of[at] == self.unknown_row:
                self._new_ads.pop(ad_ids[at], None)
            else:
                self._new_ads[ad_ids[at]] = int(rows_of[at])
        is_known, was_known = rows_of != self.unknown_row, before != self.unknown_row
        self._n_ads += int(is_known.sum()) - int(was_known.sum())


def version_text(positions: Sequence[CataloguePosition]) -> str:
    """See `ItemTable.version`; empty where there is no table."""
    return ".".join(f"{at.version}-{at.sequence}" for at in positions)
