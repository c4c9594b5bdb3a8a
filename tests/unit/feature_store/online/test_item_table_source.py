"""Following the store: by changes while they fit, by a new base when they do not, and one worker makes it for all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from feature_store.errors import StoreDown, TooManyItems
from feature_store.online.derived_arrays import Derivation
from feature_store.online.item_table import ItemTable
from feature_store.online.item_table_snapshot import SnapshotFolder
from feature_store.online.item_table_source import COMPACT_AFTER_MS, ItemLimits, ItemTableSource
from feature_store.online.memory_store import MemoryStore
from feature_store.online.store import CataloguePosition, CatalogueRows
from feature_store.rows import Floats, Ids
from feature_store.schema import FeatureView
from tests.stores import DAY_MS, Now, make_view, numbered

PROFILE = make_view("ad_profile", "ad", n_float=2, n_id=1)
CLICKS = make_view("ad_clicks", "ad", n_float=1, n_id=0, ttl_ms=DAY_MS // 2)
VIEWS = (PROFILE, CLICKS)
LIMITS = ItemLimits(delta_rows=4, derived_max_bytes=1_000, max_ads=20)


class CountingStore(MemoryStore):
    """A store that counts whole reads, and may be away or have a gap in its stream."""

    n_loads = 0
    is_away = False
    has_gap = False

    def load(self, view: FeatureView) -> CatalogueRows:
        self._check()
        self.n_loads += 1
        return super().load(view)

    def changes(self, view: FeatureView, since: CataloguePosition) -> CatalogueRows | None:
        self._check()
        return None if self.has_gap else super().changes(view, since)

    def _check(self) -> None:
        if self.is_away:
            raise StoreDown("the store is away")


class Machine:
    """One store, one snapshot folder, and as many workers as a test wants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Now()
        self.store = CountingStore("shop", self.clock)
        self.write({"a1": 1, "a2": 2})
        self.write({"a2": 20, "a3": 30}, CLICKS)

    def worker(self, limits: ItemLimits = LIMITS) -> ItemTableSource:
        return ItemTableSource(self.store, VIEWS, self.clock, self.folder, limits)

    def write(self, ads: dict[str, float], view: FeatureView = PROFILE) -> None:
        with self.store.session(view) as session:
            session.write(list(ads), *numbered(view, list(ads.values()), self.clock()))
            session.finish()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Three ads over two views."""
    return Machine(tmp_path)


def table_of(source: ItemTableSource) -> ItemTable:
    """Its newest table."""
    assert source.table is not None
    return source.table


def profiles(source: ItemTableSource, *ad_ids: str) -> list[float]:
    """The first number of each ad's profile, 0.5 where there is none."""
    table = table_of(source)
    return [float(number) for number in table.take(table.lookup(ad_ids)).floats[:, 0]]


def test_one_worker_reads_the_store_and_all_map_what_it_wrote(machine: Machine) -> None:
    """A million ads are read and kept once a machine, not once a worker."""
    first, second = machine.worker(), machine.worker()

    assert first.refresh()
    assert second.refresh()

    assert machine.store.n_loads == len(VIEWS)
    assert table_of(first).origin.folder == table_of(second).origin.folder is not None
    assert profiles(second, "a1", "a2", "a3") == [1.0, 2.0, 0.5]


def test_changes_that_no_longer_fit_are_compacted(machine: Machine) -> None:
    """Into a base that holds everything; the table before it stays as requests know it."""
    source = machine.worker()
    source.refresh()
    old = table_of(source)
    old_rows = old.lookup(["a1"])
    machine.write({"a1": 10, "new1": 11})
    source.refresh()

    machine.write({"a1": 100, "new2": 12, "new3": 13})
    source.refresh()

    new = table_of(source)
    assert new is not old
    assert (new.n_changed, len(new), len(new.base)) == (0, 6, 7)
    assert profiles(source, "a1", "a2", "a3", "new1", "new2", "new3") == [100.0, 2.0, 0.5, 11.0, 12.0, 13.0]
    assert old.take(old_rows).floats[0, 0] == 1.0
    assert machine.store.n_loads == len(VIEWS)


def test_a_compaction_forgets_deleted_and_expired_rows(machine: Machine) -> None:
    """Redis forgot them too, and training treats them as missing."""
    source = machine.worker()
    source.refresh()
    machine.store.delete_entity(PROFILE, "a1")
    machine.clock.ahead_ms += CLICKS.ttl_ms
    source.refresh()
    before = table_of(source)
    still_there = before.take(before.lookup(["a2", "a3"])).found.tolist()

    machine.write({f"new{i}": i for i in range(5)})
    source.refresh()

    after = table_of(source)
    rows = after.take(after.lookup(["a1", "a2", "a3"]))
    assert still_there == [[True, True], [False, True]]
    assert rows.found.tolist() == [[False, False], [True, False], [False, False]]
    assert rows.floats[:, 2].tolist() == [0.5, 0.5, 0.5]
    assert rows.event_time_ms[1, 1] == 0
    assert len(after) == 6


def test_changes_do_not_lie_in_the_delta_for_ever(machine: Machine) -> None:
    """A start without the store knows only what was compacted."""
    source = machine.worker()
    source.refresh()
    machine.write({"a1": 10})
    source.refresh()
    young = table_of(source)

    machine.clock.ahead_ms += COMPACT_AFTER_MS
    source.refresh()
    machine.store.is_away = True
    restarted = machine.worker()
    restarted.restore()

    assert young.n_changed == 1
    assert table_of(source).n_changed == 0
    assert profiles(restarted, "a1") == [10.0]


def test_the_others_take_over_a_base_that_one_has_made(machine: Machine) -> None:
    """With their own later changes, so that nothing that was visible disappears."""
    first, second = machine.worker(), machine.worker()
    first.refresh()
    second.refresh()
    machine.write({f"new{i}": i for i in range(5)})
    first.refresh()
    machine.write({"a1": 10})

    second.refresh()

    assert table_of(second).origin.folder == table_of(first).origin.folder
    assert profiles(second, "a1", "new4") == [10.0, 4.0]
    assert table_of(second).n_changed == 1


@pytest.mark.parametrize("change", ["more than fits", "a gap"])
def test_while_another_worker_makes_the_base_the_last_table_stands(machine: Machine, change: str) -> None:
    """Nobody waits, and nobody makes it a second time."""
    source = machine.worker()
    source.refresh()
    before = table_of(source)
    if change == "a gap":
        machine.store.has_gap = True
    else:
        machine.write({f"new{i}": i for i in range(5)})

    with SnapshotFolder(machine.folder, VIEWS).lock():
        is_followed = source.refresh()
        during = table_of(source)
    after = source.refresh()

    assert not is_followed
    assert during is before
    assert after
    assert table_of(source) is not before


def test_a_gap_in_the_stream_is_a_new_read(machine: Machine) -> None:
    """Only the whole catalogue can tell what was missed."""
    source = machine.worker()
    source.refresh()
    machine.store.has_gap = True
    machine.write({"a1": 10})

    source.refresh()

    assert machine.store.n_loads == 2 * len(VIEWS)
    assert profiles(source, "a1") == [10.0]
    assert table_of(source).n_changed == 0


def test_a_damaged_snapshot_is_made_again(machine: Machine) -> None:
    """The store is there; the disk's mistake costs one read."""
    machine.worker().refresh()
    folder = SnapshotFolder(machine.folder, VIEWS).current()
    assert folder is not None
    (folder / "floats.npy").write_bytes(b"damaged")

    source = machine.worker()
    source.refresh()

    assert profiles(source, "a1", "a2") == [1.0, 2.0]
    assert SnapshotFolder(machine.folder, VIEWS).current() != folder


def test_a_deleted_snapshot_is_written_again(machine: Machine) -> None:
    """Somebody tidied up: nobody notices, until a worker starts while the store is away."""
    source = machine.worker()
    source.refresh()
    shutil.rmtree(machine.folder)

    source.refresh()
    machine.store.is_away = True
    later = machine.worker()
    later.restore()

    assert profiles(source, "a1", "a2") == profiles(later, "a1", "a2") == [1.0, 2.0]
    assert machine.store.n_loads == len(VIEWS)


@pytest.mark.parametrize(
    ("given", "refused"),
    [("file", "file"), ("file/new", "file/new"), (".", "lock")],
    ids=["no folder", "no folder to be made", "no lock to be had"],
)
def test_a_disk_that_takes_nothing_leaves_each_worker_its_own(machine: Machine, given: str, refused: str) -> None:
    """Slower and larger, and still serving; whoever watches is told the cause, not what failed because of it."""
    (machine.folder / "file").write_text("in the way")
    (machine.folder / "lock").mkdir()
    cause = machine.folder / refused
    machine.folder /= given
    source = machine.worker()

    source.refresh()
    machine.write({f"new{i}": i for i in range(5)})
    source.refresh()

    assert str(source.disk_error).startswith(f"cannot write a snapshot of the item table to {machine.folder}: ")
    assert str(source.disk_error).endswith(f"'{cause}'")
    assert table_of(source).origin.folder is None
    assert profiles(source, "a1", "new4") == [1.0, 4.0]


@pytest.mark.parametrize("n_first", [21, 3], ids=["at the start", "while serving"])
def test_a_catalogue_beyond_the_limit_is_refused(machine: Machine, n_first: int) -> None:
    """Memory is bounded by a setting, not by the machine's end."""
    source = machine.worker()
    machine.write({f"first{i}": i for i in range(n_first)})

    def serve() -> None:
        source.refresh()
        machine.write({f"more{i}": i for i in range(18)})
        source.refresh()

    with pytest.raises(TooManyItems, match=r"holds \d+ ads or more, items.max_ads allows 20; raise it"):
        serve()


def first_number(floats: Floats, ids: Ids) -> Floats:
    """Something to derive."""
    return np.ascontiguousarray(floats[:, :1])


def derived_numbers(source: ItemTableSource, *ad_ids: str) -> list[float]:
    """What is derived from each ad."""
    table = table_of(source)
    derived = table.derived("first")
    assert derived is not None
    both = np.concatenate([derived.base, derived.delta])
    return [float(number) for number in both[table.lookup(ad_ids), 0]]


FIRST = Derivation("first", 1, np.dtype(np.float32), first_number)


def _compact(machine: Machine) -> None:
    machine.write({f"new{i}": i for i in range(5)})


def _break_stream(machine: Machine) -> None:
    machine.store.has_gap = True


@pytest.mark.parametrize("renew", [_compact, _break_stream])
def test_what_is_derived_is_there_for_every_table_to_come(machine: Machine, renew: Callable[[Machine], None]) -> None:
    """Made by the worker that makes the base; the others find it."""
    first, second = machine.worker(), machine.worker()
    for source in (first, second):
        source.refresh()
        source.derive(FIRST)
    machine.write({"a1": 10})
    renew(machine)
    first.refresh()
    machine.store.has_gap = False
    second.refresh()

    assert derived_numbers(first, "a1", "a2", "a3") == [10.0, 2.0, 0.5]
    assert derived_numbers(second, "a1", "a2", "a3") == [10.0, 2.0, 0.5]
    folder = table_of(second).origin.folder
    assert folder is not None
    assert (folder / "derived-first.npy").exists()


def test_what_nobody_derives_any_more_goes_with_the_next_base(machine: Machine) -> None:
    """A model that was replaced must not cost disk and memory for ever."""
    source = machine.worker()
    source.refresh()
    source.derive(FIRST)

    source.forget("first")
    _compact(machine)
    source.refresh()

    folder = table_of(source).origin.folder
    assert folder is not None
    assert list(folder.glob("derived-*.npy")) == []
    assert table_of(source).derived("first") is None


def test_what_would_be_too_large_is_not_derived(machine: Machine) -> None:
    """The plan computes it per request then."""
    source = machine.worker()
    source.refresh()
    wide = Derivation("first", 100, np.dtype(np.float32), first_number)

    source.derive(wide)
    _compact(machine)
    source.refresh()

    assert wide.size_bytes(table_of(source).origin) > LIMITS.derived_max_bytes
    assert table_of(source).derived("first") is None
