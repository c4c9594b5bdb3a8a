"""Whatever happens to a catalogue, in whatever order: the item table says what a plain dictionary would say."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.online.derived_arrays import Derivation
from feature_store.online.item_table_source import COMPACT_AFTER_MS, ItemLimits, ItemTableSource
from feature_store.online.memory_store import MemoryStore
from feature_store.rows import Floats, Ids
from tests.stores import Now, make_view, numbered

VIEWS = (make_view("ad_profile", "ad"), make_view("ad_clicks", "ad", n_float=1, n_id=0))
AD_IDS = [f"a{i}" for i in range(7)]
DEFAULT = 0.5

views = st.sampled_from(range(len(VIEWS)))
puts = st.tuples(st.just("put"), views, st.dictionaries(st.sampled_from(AD_IDS), st.integers(1, 99), min_size=1))
deletes = st.tuples(st.just("delete"), views, st.sampled_from(AD_IDS))
follows = st.tuples(st.just("follow"), st.sampled_from(range(2)), st.none())
compactions = st.tuples(st.just("compact"), st.sampled_from(range(2)), st.none())
restarts = st.tuples(st.just("restart"), st.sampled_from(range(2)), st.none())
steps = st.lists(st.one_of(puts, puts, deletes, follows, compactions, restarts), max_size=25)


def first_number(floats: Floats, ids: Ids) -> Floats:
    """Something to derive."""
    return np.ascontiguousarray(floats[:, :1])


class World:
    """A store, two workers over it, and what a dictionary knows."""

    def __init__(self, folder: Path) -> None:
        self.clock = Now()
        self.store = MemoryStore("shop", self.clock)
        self.truth: list[dict[str, float]] = [{}, {}]
        self._folder = folder
        for view in VIEWS:
            with self.store.session(view) as session:
                session.finish()
        self.workers = [self._worker(), self._worker()]

    def _worker(self) -> ItemTableSource:
        worker = ItemTableSource(self.store, VIEWS, self.clock, self._folder, ItemLimits(delta_rows=5))
        worker.refresh()
        worker.derive(Derivation("first", 1, np.dtype(np.float32), first_number))
        return worker

    def put(self, number: int, ads: dict[str, float]) -> None:
        with self.store.session(VIEWS[number]) as session:
            session.write(list(ads), *numbered(VIEWS[number], list(ads.values()), self.clock()))
            session.finish()
        self.truth[number] |= ads

    def delete(self, number: int, ad_id: str) -> None:
        self.store.delete_entity(VIEWS[number], ad_id)
        self.truth[number].pop(ad_id, None)

    def follow(self, number: int, _: None) -> None:
        self.workers[number].refresh()

    def compact(self, number: int, _: None) -> None:
        self.clock.ahead_ms += COMPACT_AFTER_MS
        self.workers[number].refresh()

    def restart(self, number: int, _: None) -> None:
        self.workers[number] = self._worker()

    def check(self) -> None:
        known = set(self.truth[0]) | set(self.truth[1])
        for worker in self.workers:
            assert worker.refresh()
            table = worker.table
            assert table is not None
            at = table.lookup([*AD_IDS, "nobody"])
            rows = table.take(at)
            derived = table.derived("first")
            assert derived is not None
            for number, column in ((0, 0), (1, 2)):
                of_view = self.truth[number]
                assert rows.floats[:, column].tolist() == [of_view.get(ad_id, DEFAULT) for ad_id in [*AD_IDS, "nobody"]]
                assert rows.found[:, number].tolist() == [ad_id in of_view for ad_id in [*AD_IDS, "nobody"]]
            assert (at != table.unknown_row).tolist() == [ad_id in known for ad_id in [*AD_IDS, "nobody"]]
            assert len(table) == len(known)
            np.testing.assert_array_equal(np.concatenate([derived.base, derived.delta])[at, 0], rows.floats[:, 0])


@given(steps)
@settings(max_examples=80)
def test_a_table_agrees_with_a_dictionary_after_any_history(history: list[tuple[str, int, object]]) -> None:
    """Rows, what is known, how many ads there are and what is derived, in two workers that share their bases."""
    with TemporaryDirectory(prefix="cs-items-") as folder:
        world = World(Path(folder))
        for step, number, argument in history:
            getattr(world, step)(number, argument)

        world.check()


@given(
    st.lists(
        st.dictionaries(st.sampled_from(AD_IDS), st.integers(1, 99), min_size=1, max_size=3), min_size=1, max_size=9
    )
)
@settings(max_examples=50)
def test_rows_once_looked_up_never_change(batches: list[dict[str, float]]) -> None:
    """A request keeps its table and its row numbers across an await; what it reads there is what it looked up."""
    with TemporaryDirectory(prefix="cs-items-") as folder:
        world = World(Path(folder))
        kept = []

        for batch in batches:
            world.put(0, batch)
            world.follow(0, None)
            table = world.workers[0].table
            assert table is not None
            at = table.lookup(AD_IDS)
            kept.append((table, at, table.take(at).floats.copy()))

        for table, at, floats in kept:
            np.testing.assert_array_equal(table.take(at).floats, floats)
