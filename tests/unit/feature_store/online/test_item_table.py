"""The item table: joined over views, changed in place without a reader noticing, safe to index with unknown ads."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from feature_store.online.item_table import ItemTable
from feature_store.online.item_table_source import ItemTableSource
from feature_store.online.memory_store import MemoryStore
from feature_store.rows import Floats, Ids
from feature_store.schema import FeatureView
from tests.stores import DAY_MS, Now, make_view, numbered

PROFILE = make_view("ad_profile", "ad", n_float=2, n_id=1)
CLICKS = make_view("ad_clicks", "ad", n_float=1, n_id=0, ttl_ms=DAY_MS // 2)


class Shop:
    """A memory store with ads in it, and the source of its table."""

    def __init__(self, folder: Path) -> None:
        self.clock = Now()
        self.store = MemoryStore("shop", self.clock)
        self.source = ItemTableSource(self.store, [PROFILE, CLICKS], self.clock, folder)

    def write(self, view: FeatureView, ads: dict[str, float]) -> None:
        with self.store.session(view) as session:
            session.write(list(ads), *numbered(view, list(ads.values()), self.clock()))
            session.finish()

    def table(self) -> ItemTable:
        assert self.source.refresh()
        assert self.source.table is not None
        return self.source.table


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Ads a1 and a2 have a profile, a2 and a3 have clicks."""
    shop = Shop(tmp_path)
    shop.write(PROFILE, {"a1": 1, "a2": 2})
    shop.write(CLICKS, {"a2": 20, "a3": 30})
    return shop


def first_numbers(table: ItemTable, *ad_ids: str) -> list[float]:
    """The first number of each ad."""
    return [float(number) for number in table.take(table.lookup(ad_ids)).floats[:, 0]]


def test_an_ad_is_in_the_table_if_any_view_knows_it(shop: Shop) -> None:
    """A new ad has attributes before it has clicks; it must be ranked by what is known."""
    table = shop.table()

    rows = table.take(table.lookup(["a1", "a2", "a3"]))

    assert len(table) == 3
    assert rows.found.tolist() == [[True, False], [True, True], [False, True]]
    assert rows.floats[:, 0].tolist() == [1.0, 2.0, 0.5]
    assert rows.floats[:, 2].tolist() == [0.5, 20.0, 30.0]


def test_an_unknown_ad_picks_the_defaults(shop: Shop) -> None:
    """The hot path indexes without a branch."""
    table = shop.table()

    rows = table.lookup(["a1", "nobody"])

    assert rows[1] == table.unknown_row == len(table.base) - 1 == table.split - 1
    unknown = table.take(rows[1:])
    assert unknown.floats[0, 0] == 0.5
    assert math.isnan(unknown.floats[0, 1])
    assert unknown.ids[0].tolist() == PROFILE.default_ids.tolist()
    assert not unknown.found.any()
    assert unknown.event_time_ms.tolist() == [[0, 0]]


def test_looking_up_no_ads_is_no_rows(shop: Shop) -> None:
    """An index array of the wrong type would break the caller's arithmetic."""
    table = shop.table()

    rows = table.lookup([])

    assert rows.dtype == np.int64
    assert len(rows) == len(table.take(rows)) == 0


def test_columns_follow_the_order_of_views(shop: Shop) -> None:
    """The encoder names columns by view; the table must agree."""
    base = shop.table().base

    assert base.floats.shape == (4, 3)
    assert base.ids.shape == (4, 1)
    assert base.event_time_ms.shape == base.found.shape == (4, 2)


def test_the_base_cannot_be_written_to(shop: Shop) -> None:
    """Other processes read the same memory."""
    table = shop.table()

    with pytest.raises(ValueError, match="read-only"):
        table.base.floats[0, 0] = 9


def test_nothing_new_changes_nothing(shop: Shop) -> None:
    """Four times a second, for ever."""
    before = shop.table()

    after = shop.table()

    assert after is before
    assert after.n_changed == 0


def test_a_changed_ad_gets_a_new_row_and_keeps_its_old_one(shop: Shop) -> None:
    """A request that looked the old one up goes on with it, across any wait."""
    table = shop.table()
    old_rows = table.lookup(["a1", "a4"])
    old_version = table.version

    shop.write(PROFILE, {"a1": 100, "a4": 400})
    shop.table()

    assert first_numbers(table, "a1", "a4", "a2") == [100.0, 400.0, 2.0]
    assert table.take(old_rows).floats[:, 0].tolist() == [1.0, 0.5]
    assert (table.lookup(["a1", "a4"]) >= table.split).all()
    assert len(table) == 4
    assert table.version != old_version


def test_a_change_of_one_view_keeps_the_others(shop: Shop) -> None:
    """Clicks are counted every hour, a profile is written once."""
    shop.table()
    shop.write(CLICKS, {"a2": 21})
    shop.write(PROFILE, {"a3": 3})

    table = shop.table()

    assert table.take(table.lookup(["a2", "a3"])).floats[:, [0, 2]].tolist() == [[2.0, 21.0], [3.0, 30.0]]


def test_a_deleted_ad_is_unknown(shop: Shop) -> None:
    """A withdrawn ad must not be ranked by what it was; one that another view knows is ranked by that."""
    shop.table()
    shop.store.delete_entity(PROFILE, "a1")
    shop.store.delete_entity(PROFILE, "a2")

    table = shop.table()

    assert table.lookup(["a1"]).tolist() == [table.unknown_row]
    assert table.take(table.lookup(["a2"])).found.tolist() == [[False, True]]
    assert len(table) == 2


def test_an_ad_can_come_go_and_come_back(shop: Shop) -> None:
    """Both one of the base and one that arrived later."""
    shop.table()
    seen = []

    for value in (5, 6):
        shop.write(PROFILE, {"a1": value, "new": value})
        seen.append(first_numbers(shop.table(), "a1", "new"))
        shop.store.delete_entity(PROFILE, "a1")
        shop.store.delete_entity(PROFILE, "new")
        seen.append(first_numbers(shop.table(), "a1", "new"))

    assert seen == [[5.0, 5.0], [0.5, 0.5], [6.0, 6.0], [0.5, 0.5]]
    assert len(shop.table()) == 2


def test_a_row_past_its_time_to_live_is_stale(shop: Shop) -> None:
    """The table forgets only when it is made anew; until then answers must say how far to trust it."""
    table = shop.table()
    later_ms = shop.clock() + CLICKS.ttl_ms

    stale = table.stale(table.lookup(["a1", "a2", "nobody"]), later_ms)

    assert stale.tolist() == [[False, False], [False, True], [False, False]]


def test_equal_content_has_an_equal_version_in_every_process(shop: Shop, tmp_path: Path) -> None:
    """So that two workers can be compared."""
    other = ItemTableSource(shop.store, [PROFILE, CLICKS], shop.clock, tmp_path / "other")

    assert other.refresh()
    assert other.table is not None
    assert other.table.version == shop.table().version


def test_a_model_without_ad_views_has_an_empty_table(tmp_path: Path) -> None:
    """All context, as with Criteo's log: every ad is unknown and that is fine."""
    source = ItemTableSource(MemoryStore("criteo"), [], Now(), tmp_path)

    assert source.refresh()
    assert source.table is not None
    assert source.table.base.floats.shape == (1, 0)
    assert source.table.lookup(["a1"]).tolist() == [0]


def total(floats: Floats, ids: Ids) -> Floats:
    """Something to derive: (m, 1) sum of a row's numbers that are there."""
    return np.nansum(floats, axis=1, keepdims=True, dtype=np.float32)


def test_what_is_derived_follows_every_row(shop: Shop) -> None:
    """A changed ad with the masks of its old row would be scored as something that never existed."""
    table = shop.table()
    shop.write(PROFILE, {"a1": 100})
    shop.table()
    table.derive("total", total(table.base.floats, table.base.ids), total)
    shop.write(PROFILE, {"a2": 200, "a4": 400})
    shop.table()

    rows = table.lookup(["a1", "a2", "a3", "a4", "nobody"])
    derived = table.derived("total")

    assert derived is not None
    assert derived.delta.shape == (len(table.delta), 1)
    both = np.concatenate([derived.base, derived.delta])
    np.testing.assert_array_equal(both[rows], total(table.take(rows).floats, table.take(rows).ids))
    table.forget("total")
    assert table.derived("total") is None
