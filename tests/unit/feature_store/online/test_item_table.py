"""The item table: joined over views, kept up to date, safe to index with unknown ads."""

from __future__ import annotations

import math

import numpy as np
import pytest

from feature_store.online.item_table import ItemTable
from feature_store.online.item_table_source import ItemTableSource
from feature_store.online.memory_store import MemoryStore
from feature_store.schema import FeatureView
from tests.stores import DAY_MS, Now, make_view, numbered

PROFILE = make_view("ad_profile", "ad", n_float=2, n_id=1)
CLICKS = make_view("ad_clicks", "ad", n_float=1, n_id=0, ttl_ms=DAY_MS // 2)


class Shop:
    """A memory store with ads in it, and the source of its table."""

    def __init__(self) -> None:
        self.clock = Now()
        self.store = MemoryStore("shop", self.clock)
        self.source = ItemTableSource(self.store, [PROFILE, CLICKS], self.clock)

    def write(self, view: FeatureView, ads: dict[str, float]) -> None:
        with self.store.session(view) as session:
            session.write(list(ads), *numbered(view, list(ads.values()), self.clock()))
            session.finish()

    def table(self) -> ItemTable:
        table = self.source.refresh()
        assert table is not None
        return table


@pytest.fixture
def shop() -> Shop:
    """Ads a1 and a2 have a profile, a2 and a3 have clicks."""
    shop = Shop()
    shop.write(PROFILE, {"a1": 1, "a2": 2})
    shop.write(CLICKS, {"a2": 20, "a3": 30})
    return shop


def test_an_ad_is_in_the_table_if_any_view_knows_it(shop: Shop) -> None:
    """A new ad has attributes before it has clicks; it must be ranked by what is known."""
    table = shop.table()

    rows = table.lookup(["a1", "a2", "a3"])

    assert table.found[rows].tolist() == [[True, False], [True, True], [False, True]]
    assert table.floats[rows, 0].tolist() == [1.0, 2.0, 0.5]
    assert table.floats[rows, 2].tolist() == [0.5, 20.0, 30.0]


def test_an_unknown_ad_picks_the_defaults(shop: Shop) -> None:
    """The hot path indexes without a branch: -1 is the last row."""
    table = shop.table()

    rows = table.lookup(["a1", "nobody"])

    assert rows.tolist()[1] == -1
    assert table.floats[rows[1]][0] == 0.5
    assert math.isnan(table.floats[rows[1]][1])
    assert table.ids[rows[1]].tolist() == PROFILE.default_ids.tolist()
    assert not table.found[rows[1]].any()
    assert table.event_time_ms[rows[1]].tolist() == [0, 0]


def test_looking_up_no_ads_is_no_rows(shop: Shop) -> None:
    """An index array of the wrong type would break the caller's arithmetic."""
    rows = shop.table().lookup([])

    assert rows.dtype == np.int64
    assert len(rows) == 0


def test_columns_follow_the_order_of_views(shop: Shop) -> None:
    """The encoder names columns by view; the table must agree."""
    table = shop.table()

    assert table.floats.shape == (4, 3)
    assert table.ids.shape == (4, 1)
    assert table.event_time_ms.shape == table.found.shape == (4, 2)


def test_a_table_cannot_be_written_to(shop: Shop) -> None:
    """Requests read it while the next one is being made."""
    table = shop.table()

    with pytest.raises(ValueError, match="read-only"):
        table.floats[0, 0] = 9


def test_nothing_new_is_no_new_table(shop: Shop) -> None:
    """Masks are built per table version; a needless one costs seconds of a core."""
    shop.table()

    assert shop.source.refresh() is None


def test_a_changed_ad_makes_a_new_table(shop: Shop) -> None:
    """And leaves the old one as it was, for the requests that still read it."""
    old = shop.table()
    shop.write(PROFILE, {"a1": 100, "a4": 400})

    new = shop.table()

    assert new.floats[new.lookup(["a1", "a4", "a2"]), 0].tolist() == [100.0, 400.0, 2.0]
    assert new.floats[new.lookup(["a2"]), 2].tolist() == [20.0]
    assert old.floats[old.lookup(["a1", "a4"]), 0].tolist() == [1.0, 0.5]
    assert new.version != old.version


def test_a_deleted_ad_leaves_the_table(shop: Shop) -> None:
    """A withdrawn ad must not be ranked by what it was."""
    shop.table()
    shop.store.delete_entity(PROFILE, "a1")

    table = shop.table()

    assert table.lookup(["a1"]).tolist() == [-1]


def test_a_row_that_expires_leaves_the_table(shop: Shop) -> None:
    """Redis forgets it at that moment and training treats it as missing; the table must not know better."""
    old = shop.table()
    shop.clock.ahead_ms += CLICKS.ttl_ms

    new = shop.table()

    assert new.found[new.lookup(["a2"])].tolist() == [[True, False]]
    assert new.lookup(["a3"]).tolist() == [-1]
    assert new.version != old.version
    assert shop.source.refresh() is None


def test_an_old_table_says_which_rows_are_stale(shop: Shop) -> None:
    """While Redis is away the last table stands, and answers must say how far to trust it."""
    table = shop.table()
    later_ms = shop.clock() + CLICKS.ttl_ms

    stale = table.stale(table.lookup(["a1", "a2", "nobody"]), later_ms)

    assert stale.tolist() == [[False, False], [False, True], [False, False]]


def test_equal_content_has_an_equal_version_in_every_process(shop: Shop) -> None:
    """Workers share the masks of a version."""
    other = ItemTableSource(shop.store, [PROFILE, CLICKS], shop.clock).refresh()

    assert other is not None
    assert other.version == shop.table().version


def test_a_model_without_ad_views_has_an_empty_table() -> None:
    """All context, as with Criteo's log: every ad is unknown and that is fine."""
    table = ItemTableSource(MemoryStore("criteo"), [], Now()).refresh()

    assert table is not None
    assert table.floats.shape == (1, 0)
    assert table.lookup(["a1"]).tolist() == [-1]
