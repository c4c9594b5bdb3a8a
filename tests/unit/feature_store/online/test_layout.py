"""Keys of the online store."""

from __future__ import annotations

import fnmatch

import pytest
from redis.crc import key_slot

from feature_store.online.layout import ViewKeys, starting_with, views_key
from tests.stores import make_view

PROFILE = make_view("user_profile", "user")
CLICKS = make_view("user_clicks", "user", n_float=5)


def test_the_spelling_of_keys_never_changes() -> None:
    """`docs/redis-layout.md` promises it to other programs."""
    keys = ViewKeys("shop", PROFILE)
    prefix = b"cs:shop:user_profile:" + PROFILE.fingerprint[:8].encode()

    assert keys.row("u1") == prefix + b":{u1}"
    assert keys.meta == prefix + b":@meta"
    assert keys.lock == prefix + b":@lock"
    assert keys.catalogue == prefix + b":@catalogue"
    assert keys.changes == prefix + b":@changes"
    assert keys.pending == prefix + b":@pending"
    assert keys.chunk(1_790_000_000_000, 3) == prefix + b":@chunk:1790000000000:3"
    assert views_key("shop") == b"cs:shop:@views"


@pytest.mark.parametrize("entity_id", ["u1", "東京", "a:b", "@meta", "*"])
def test_all_views_of_an_entity_lie_in_one_cluster_slot(entity_id: str) -> None:
    """Then one MGET reads them all; keys in different slots are an error in Redis Cluster."""
    slots = {key_slot(ViewKeys("shop", view).row(entity_id)) for view in (PROFILE, CLICKS)}

    assert slots == {key_slot(entity_id.encode())}


def test_entities_spread_over_slots() -> None:
    """A hash tag that is the same for all would put the whole shop on one node."""
    keys = ViewKeys("shop", PROFILE)

    slots = {key_slot(keys.row(f"u{i}")) for i in range(1_000)}

    assert len(slots) > 900


def test_many_keys_are_the_keys_of_each() -> None:
    """Writers make keys in bulk, readers one by one."""
    keys = ViewKeys("shop", PROFILE)

    assert keys.rows(["u1", "ä"]) == [keys.row("u1"), keys.row("ä")]


def test_an_id_comes_back_out_of_its_key() -> None:
    """Mending a catalogue starts from the keys."""
    keys = ViewKeys("shop", PROFILE)

    assert keys.entity_id(keys.row("a:ä@*")) == "a:ä@*"


def test_a_pattern_means_the_prefix_literally() -> None:
    """A project named `*` must not prune everybody else's rows."""
    pattern = starting_with(b"cs:[a]*?:x:").decode()

    unescaped = pattern.replace("\\[", "[[]").replace("\\]", "]").replace("\\*", "[*]").replace("\\?", "[?]")
    assert fnmatch.fnmatchcase("cs:[a]*?:x:{u1}", unescaped)
    assert not fnmatch.fnmatchcase("cs:abc:x:{u1}", unescaped)
