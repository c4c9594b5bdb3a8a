"""The item table follows the store, survives it, and never stops serving."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from feature_store.errors import StoreDown
from feature_store.online.catalogue import RedisCatalogue
from feature_store.online.memory_store import MemoryStore
from feature_store.online.store import CataloguePosition, CatalogueReader, CatalogueRows
from feature_store.rows import Floats, Ids
from feature_store.schema import FeatureView
from service.live_items import LiveItems
from service.telemetry import Telemetry
from tests.redis_servers.server import free_port
from tests.stores import Now, make_view, numbered

VIEW = make_view("ad_profile", "ad")


class Flaky(MemoryStore):
    """A store inside the process that may be away."""

    is_away = False
    waits_for: threading.Event | None = None

    def load(self, view: FeatureView) -> CatalogueRows:
        self._check()
        return super().load(view)

    def changes(self, view: FeatureView, since: CataloguePosition) -> CatalogueRows | None:
        self._check()
        return super().changes(view, since)

    def _check(self) -> None:
        if self.waits_for is not None:
            self.waits_for.wait(timeout=30)
        if self.is_away:
            raise StoreDown("the store is away")


@pytest.fixture
def clock() -> Now:
    """A clock to turn."""
    return Now()


@pytest.fixture
def store(clock: Now) -> Flaky:
    """A store with two ads."""
    store = Flaky("p", clock)
    write(store, clock, {"a1": 1.0, "a2": 2.0})
    return store


def write(store: MemoryStore, clock: Now, values: dict[str, float]) -> None:
    """Writes and publishes a row for each ad."""
    times, floats, ids = numbered(VIEW, list(values.values()), clock())
    with store.session(VIEW) as session:
        session.write(list(values), times, floats, ids)
        session.finish()


def items_of(store: CatalogueReader, folder: Path, clock: Now) -> LiveItems:
    """A live table that counts as stale after a second."""
    return LiveItems(
        store,
        [VIEW],
        snapshot_dir=folder,
        stale_ms=1_000,
        clock=clock,
        telemetry=Telemetry(),
    )


def first_numbers(items: LiveItems, *ad_ids: str) -> list[float]:
    """The first number of each ad."""
    return [float(number) for number in items.table.take(items.table.lookup(ad_ids)).floats[:, 0]]


async def test_a_refresh_brings_new_ads_and_new_values(store: Flaky, clock: Now, tmp_path: Path) -> None:
    """Within one rhythm, without a restart."""
    items = items_of(store, tmp_path, clock)
    await items.load()

    write(store, clock, {"a2": 5.0, "a3": 3.0})
    await items.refresh()

    assert first_numbers(items, "a1", "a2", "a3") == [1.0, 5.0, 3.0]


async def test_nothing_new_keeps_the_table_and_confirms_it(store: Flaky, clock: Now, tmp_path: Path) -> None:
    """A quiet catalogue is not a stale one."""
    items = items_of(store, tmp_path, clock)
    await items.load()
    before = items.table

    clock.ahead_ms = 5_000
    stale_before = items.is_stale(clock())
    await items.refresh()

    assert stale_before
    assert items.table is before
    assert not items.is_stale(clock())


async def test_without_the_store_the_last_table_stands_and_ages(store: Flaky, clock: Now, tmp_path: Path) -> None:
    """Until the store is back."""
    items = items_of(store, tmp_path, clock)
    await items.load()

    store.is_away = True
    clock.ahead_ms = 5_000
    await items.refresh()
    while_away = first_numbers(items, "a1", "a2"), items.is_stale(clock())
    store.is_away = False
    await items.refresh()

    assert while_away == ([1.0, 2.0], True)
    assert not items.is_stale(clock())


async def test_a_start_without_the_store_uses_the_snapshot(store: Flaky, clock: Now, tmp_path: Path) -> None:
    """With its age, and only until the store answers."""
    await items_of(store, tmp_path, clock).load()
    store.is_away = True
    clock.ahead_ms = 5_000

    items = items_of(store, tmp_path, clock)
    await items.load()
    from_snapshot = first_numbers(items, "a1", "a2"), items.is_stale(clock())
    store.is_away = False
    await items.refresh()

    assert from_snapshot == ([1.0, 2.0], True)
    assert not items.is_stale(clock())


@pytest.mark.parametrize("other", ["another Redis", "another project"])
async def test_a_start_without_the_store_takes_no_snapshot_of_another(
    store: Flaky, clock: Now, tmp_path: Path, other: str
) -> None:
    """The views are the same, and the folder; but whose rows these are, nobody could see in the answers."""
    await items_of(store, tmp_path, clock).load()
    away: CatalogueReader = RedisCatalogue(f"redis://127.0.0.1:{free_port()}", "p")
    if other == "another project":
        away = Flaky("q", clock)
        away.is_away = True

    with pytest.raises(StoreDown, match="no whole snapshot of the item table"):
        await items_of(away, tmp_path, clock).load()


async def test_two_stores_may_keep_their_tables_in_one_folder(store: Flaky, clock: Now, tmp_path: Path) -> None:
    """Neither maps what the other saved last."""
    other = Flaky("q", clock)
    write(other, clock, {"a1": 7.0})
    await items_of(store, tmp_path, clock).load()
    await items_of(other, tmp_path, clock).load()
    store.is_away = other.is_away = True

    ours, theirs = items_of(store, tmp_path, clock), items_of(other, tmp_path, clock)
    await ours.load()
    await theirs.load()

    assert (first_numbers(ours, "a1", "a2"), first_numbers(theirs, "a1")) == ([1.0, 2.0], [7.0])


async def test_a_start_does_not_wait_for_a_store_that_hangs(store: Flaky, clock: Now, tmp_path: Path) -> None:
    """It took the connection and says nothing: the snapshot is as good as when the store is away."""
    await items_of(store, tmp_path, clock).load()
    answers = threading.Event()
    store.waits_for = answers

    items = items_of(store, tmp_path, clock)
    await items.load(patience_s=0.01)
    from_snapshot = first_numbers(items, "a1", "a2")
    answers.set()
    await items.refresh()

    assert from_snapshot == [1.0, 2.0]
    assert not items.is_stale(clock())


async def test_without_store_and_snapshot_there_is_nothing_to_start_from(
    store: Flaky, clock: Now, tmp_path: Path
) -> None:
    """The error says both."""
    store.is_away = True

    with pytest.raises(StoreDown, match="the store is away; and no whole snapshot"):
        await items_of(store, tmp_path, clock).load()


async def test_a_start_from_the_snapshot_knows_what_changed_since(store: Flaky, clock: Now, tmp_path: Path) -> None:
    """The snapshot may be minutes old; the change stream tells the rest."""
    await items_of(store, tmp_path, clock).load()
    write(store, clock, {"a2": 5.0})

    items = items_of(store, tmp_path, clock)
    await items.load()

    assert first_numbers(items, "a1", "a2") == [1.0, 5.0]
    assert items.table.n_changed == 1
    assert not items.is_stale(clock())


async def test_what_a_model_derives_is_there_for_every_table(store: Flaky, clock: Now, tmp_path: Path) -> None:
    """From the moment the model asks until it says that it is done."""

    def double(floats: Floats, ids: Ids) -> Floats:
        return 2 * floats

    items = items_of(store, tmp_path, clock)
    await items.load()

    await items.derive("double", 2, np.float32, double)
    write(store, clock, {"a2": 5.0})
    await items.refresh()
    derived = items.table.derived("double")
    items.forget("double")

    assert derived is not None
    assert sorted(derived.base[:-1, 0].tolist()) == [2.0, 4.0]
    assert derived.delta[0].tolist() == [10.0, 10.0]
    assert items.table.derived("double") is None


async def test_a_disk_that_takes_no_snapshot_stops_nothing(store: Flaky, clock: Now, tmp_path: Path) -> None:
    """The snapshot is for a bad day; today is not lost over it."""
    not_a_folder = tmp_path / "file"
    not_a_folder.write_text("in the way")

    items = items_of(store, not_a_folder, clock)
    await items.load()

    assert first_numbers(items, "a1", "a2") == [1.0, 2.0]
