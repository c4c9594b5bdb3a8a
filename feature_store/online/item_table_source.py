"""Keeps an item table at what the store holds: by changes where that is possible, by a new base where it is not.

All calls block and belong in a worker thread; a request reads `table` whenever it likes. The workers of a machine share
bases through a snapshot folder: whoever needs a new one first takes the folder's lock and makes it, the others keep
what they have and find it at their next refresh. There is a new base
- when the catalogue has another version or its stream has a gap: read anew from the store;
- when changes no longer fit into the delta, or have lain there for a while, or somebody deleted the snapshot: compacted
  from base and delta.
When the store is away a refresh raises and the last table stands. Where the disk takes no snapshot, `disk_error` says
so and this process keeps a base of its own.
Cost of a refresh: one small read per view, and what has changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from feature_store.clock import Clock
from feature_store.errors import SnapshotError
from feature_store.online.derived_arrays import Derivation, derived_array
from feature_store.online.id_index import let_go
from feature_store.online.item_base import ItemBase, build_item_base, check_size
from feature_store.online.item_compaction import compacted
from feature_store.online.item_table import ItemTable
from feature_store.online.item_table_snapshot import SnapshotFolder
from feature_store.online.store import CatalogueReader, CatalogueRows
from feature_store.schema import FeatureView

COMPACT_AFTER_MS = 10 * 60_000
"""Changes lie no longer in the delta alone: a start without the store would not know them."""

RETIRED_MS = 30_000
"""No request is older than this."""


@dataclass(frozen=True, slots=True)
class ItemLimits:
    """How much memory tables may take."""

    delta_rows: int = 8_192
    """Changes that a table holds before it is compacted."""
    derived_max_bytes: int = 512 * 2**20
    """A derived array that would be larger is not made."""
    max_ads: int = 2_000_000
    """A larger catalogue is refused."""


class ItemTableSource:
    """Makes the item tables of one model's ad views, one after the other."""

    table: ItemTable | None = None
    """The newest; None before the first `restore` or `refresh`."""
    disk_error: SnapshotError | None = None
    """Why the last base could not be shared; None where it could."""

    def __init__(
        self,
        reader: CatalogueReader,
        views: Sequence[FeatureView],
        clock: Clock,
        snapshot_dir: Path,
        limits: ItemLimits | None = None,
    ) -> None:
        """Nothing is read yet. `snapshot_dir` is that of these views alone."""
        self._reader = reader
        self._views = tuple(views)
        self._clock = clock
        self._folder = SnapshotFolder(snapshot_dir, views)
        self._limits = limits or ItemLimits()
        self._derivations: dict[str, Derivation] = {}
        self._seen: Path | None = None
        """The snapshot that was current when we last looked."""
        self._retired: list[tuple[int, ItemTable]] = []
        """Tables that were replaced, and when."""
        self._turn = threading.Lock()
        """Refreshing and deriving come from different threads."""

    def restore(self) -> None:
        """Takes the current snapshot as it is, without asking the store.

        Raises:
            SnapshotError: there is none, or it is not usable.
        """
        with self._turn:
            self._seen = self._folder.current()
            self.table = self._table_of(self._folder.load(self._seen))

    def refresh(self) -> bool:
        """Follows the store. False where another process is making what is needed: ask again soon.

        Raises:
            ViewNotMaterialized: a view has no catalogue (any more).
            StoreDown, StoreTimeout: the server failed.
            CodecError: what is stored is damaged.
            TooManyItems: the catalogue is larger than the limit.
        """
        with self._turn:
            self._release_retired()
            table = self._shared_by_others() or self._followed(self.table) or self._rebuilt()
            if table is None:
                return False
            is_old = table.n_changed > 0 and self._clock() - table.origin.loaded_ms >= COMPACT_AFTER_MS
            if is_old or self._snapshot_is_lost():
                table = self._compacted(table) or table
            if self.table is not None and table is not self.table:
                self._retired.append((self._clock(), self.table))
            self.table = table
            return True

    def derive(self, derivation: Derivation) -> None:
        """Keeps `table.derived(key)` filled from now on, through every table to come, unless it is over the limit."""
        self._derivations[derivation.key] = derivation
        while (table := self.table) is not None and table.derived(derivation.key) is None:
            if derivation.size_bytes(table.origin) > self._limits.derived_max_bytes:
                return
            array = derived_array(table.origin, derivation)  # long, so refreshing goes on meanwhile
            with self._turn:
                if table is self.table:
                    table.derive(derivation.key, array, derivation.compute)

    def forget(self, key: str) -> None:
        """Ends a derivation; its file goes with the next base."""
        self._derivations.pop(key, None)
        if self.table is not None:
            self.table.forget(key)

    def _release_retired(self) -> None:
        """Lets go of tables that were replaced so long ago that no request reads them."""
        while self._retired and self._clock() - self._retired[0][0] >= RETIRED_MS:
            self._retired.pop(0)[1].release()

    def _snapshot_is_lost(self) -> bool:
        """Whether somebody deleted what the next start needs."""
        return self.disk_error is None and self._folder.current() is None

    def _shared_by_others(self) -> ItemTable | None:
        """A table over a base that another process has made, brought up to date; None where there is nothing new."""
        current = self._folder.current()
        if current is None or current == self._seen:
            return None
        self._seen = current
        try:
            base = self._folder.load(current)
        except SnapshotError:
            return None
        return self._followed(self._table_of(base))

    def _followed(self, table: ItemTable | None) -> ItemTable | None:
        """The table with all changes since; None where a new base is needed, or one that another process makes."""
        if table is None:
            return None
        changes: list[CatalogueRows] = []
        for view, position in zip(self._views, table.positions, strict=True):
            of_view = self._reader.changes(view, position)
            if of_view is None:
                return None
            changes.append(of_view)
        n_changes = sum(len(of_view.entity_ids) for of_view in changes)
        roomy = table if n_changes <= table.free_rows else table.grown(n_changes)
        for number, of_view in enumerate(changes):
            roomy.apply(number, of_view)
        check_size(len(roomy), self._limits.max_ads)  # after the fact: a delta is too small to matter
        return table if roomy is table else self._compacted(roomy)

    def _compacted(self, table: ItemTable) -> ItemTable | None:
        """None where another process has the turn."""
        with self._turn_to_build() as finished:
            return self._table_of(finished(compacted(table, self._clock()))) if finished else None

    def _rebuilt(self) -> ItemTable | None:
        """A table read anew from the store; None where another process has the turn."""
        with self._turn_to_build() as finished:
            if finished is None:
                return None
            table = self._shared_by_others()  # made between our look and our turn
            if table is not None:
                return table
            now_ms = self._clock()
            catalogues = [self._reader.load(view) for view in self._views]
            base = build_item_base(self._views, catalogues, now_ms, max_ads=self._limits.max_ads)
            for catalogue in catalogues:
                let_go(catalogue.entity_ids)
            return self._table_of(finished(base))

    @contextmanager
    def _turn_to_build(self) -> Iterator[Callable[[ItemBase], ItemBase] | None]:
        """What to do with a base that is built inside; None where another process has the turn.

        Where there is no folder to lock, everybody makes their own and saves none: two at once would clear each other's
        away.
        """
        with ExitStack() as turn:
            try:
                is_mine = turn.enter_context(self._folder.lock())
            except SnapshotError as error:
                self.disk_error = error
                yield _unshared
            else:
                yield self._shared if is_mine else None

    def _shared(self, base: ItemBase) -> ItemBase:
        """The same base, mapped from a snapshot that others find, with all that is derived; else as it is."""
        try:
            folder = self._folder.save(base)
            mapped = self._folder.load(folder)
            for derivation in self._affordable(mapped):
                derived_array(mapped, derivation)
            self._folder.make_current(folder)
        except SnapshotError as error:
            self.disk_error = error
            return base
        self._seen = folder
        self.disk_error = None
        return mapped

    def _table_of(self, base: ItemBase) -> ItemTable:
        table = ItemTable(base, self._limits.delta_rows)
        for derivation in self._affordable(base):
            table.derive(derivation.key, derived_array(base, derivation), derivation.compute)
        return table

    def _affordable(self, base: ItemBase) -> list[Derivation]:
        limit_bytes = self._limits.derived_max_bytes
        return [d for d in tuple(self._derivations.values()) if d.size_bytes(base) <= limit_bytes]


def _unshared(base: ItemBase) -> ItemBase:
    return base
