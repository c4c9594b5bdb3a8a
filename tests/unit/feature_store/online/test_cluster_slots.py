"""Slots of a Cluster: the same as redis-py's, and what nodes say about them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from feature_store.online.cluster_slots import N_SLOTS, Redirection, SlotMap, by_slot, slot_of
from feature_store.online.layout import ViewKeys
from tests.stores import make_view

ASKED = ("asked", 7000)


@given(st.binary(max_size=40) | st.text("a{}", max_size=12).map(str.encode))
def test_a_key_has_the_slot_that_redis_py_gives_it(key: bytes) -> None:
    """Braces in all their wrong orders included."""
    assert slot_of(key) == key_slot(key)


@given(st.text(st.characters(exclude_characters="{} ", exclude_categories=("Cc", "Cs")), min_size=1, max_size=16))
def test_all_views_of_an_entity_share_a_slot(entity_id: str) -> None:
    """One node answers an ordinary request."""
    keys = [ViewKeys("shop", make_view(name, "user", n_float=n)).row(entity_id) for n, name in enumerate("abc", 1)]

    assert len(by_slot(keys)) == 1


def test_a_map_says_who_serves_what() -> None:
    """Masters first, then replicas; slots that nobody serves are known as such."""
    slots = SlotMap.parse(
        [[0, 99, [b"a", 1, b"id"], [b"r", 2, b"id"]], [100, N_SLOTS - 2, [b"b", 3, b"id", [b"hostname", b"x"]]]], ASKED
    )

    assert (slots.owners[0], slots.owners[99], slots.owners[100]) == (("a", 1), ("a", 1), ("b", 3))
    assert slots.owners[-1] is None
    assert not slots.is_whole
    assert slots.nodes == (("a", 1), ("b", 3), ("r", 2))
    assert slots.masters == {("a", 1), ("b", 3)}


@pytest.mark.parametrize("unnamed", [b"", None, b"?"])
def test_a_node_that_does_not_know_its_name_is_where_we_asked(unnamed: bytes | None) -> None:
    """As one that was never met, or is told to announce host names and has none."""
    slots = SlotMap.parse([[0, N_SLOTS - 1, [unnamed, 7001, b"id"]]], ASKED)

    assert slots.masters == {("asked", 7001)}


@pytest.mark.parametrize("answer", [None, b"OK", 7, [[1]], [[0, 1, []]], [[b"x", 1, [b"a", 1]]]])
def test_what_is_no_map_is_refused(answer: object) -> None:
    """A proxy may answer anything."""
    with pytest.raises(ValueError, match="not an answer to CLUSTER SLOTS"):
        SlotMap.parse(answer, ASKED)


@pytest.mark.parametrize(
    ("error", "redirection"),
    [
        ("MOVED 3999 127.0.0.1:6381", Redirection("MOVED", 3999, ("127.0.0.1", 6381))),
        ("MOVED 3999 :6381", Redirection("MOVED", 3999, ("asked", 6381))),
        ("ASK 1 [::1]:6381", Redirection("ASK", 1, ("::1", 6381))),
        ("TRYAGAIN Multiple keys request during rehashing of slot", Redirection("TRYAGAIN")),
        ("CLUSTERDOWN The cluster is down", Redirection("CLUSTERDOWN")),
        ("MOVED 3999", None),
        ("MOVED x y:z", None),
        ("NOPERM User u has no permissions to run the 'mget' command", None),
        ("", None),
    ],
)
def test_an_error_says_whether_to_ask_elsewhere(error: str, redirection: Redirection | None) -> None:
    """All others are failures of the node."""
    assert Redirection.parse(error, ASKED) == redirection
