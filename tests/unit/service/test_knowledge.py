"""An answer admits what it was made from: nothing less, and nothing about others."""

from __future__ import annotations

import numpy as np
import pytest

from models.encoder import Block
from service.entity_rows import EntityRows, stored_row, stored_rows, unknown_entities
from service.knowledge import CODES, in_order, knowledge_of
from service.wire import DegradedCode
from tests.stores import make_view

USERS = (make_view("user_profile"), make_view("user_history"))
ADS = (make_view("ad_profile", "ad"),)
NOW_MS = 1_000_000


def rows(
    views: tuple, found: list[list[bool]], age_ms: list[list[int]], stale: list[list[bool]] | None = None
) -> EntityRows:  # type: ignore[type-arg]
    """Rows with these flags and ages; what is not found has no event time."""
    flags = np.array(found)
    times = np.where(flags, NOW_MS - np.array(age_ms), 0)
    marks = np.zeros_like(flags) if stale is None else np.array(stale)
    nothing = Block(np.empty((len(flags), 0), np.float32), np.empty((len(flags), 0), np.uint32))
    return EntityRows(views, nothing, flags, marks, times)


def test_each_view_counts_its_own_rows() -> None:
    """A dead materialization job shows in one view and not in the others."""
    users = rows(USERS, [[True, False]], [[10, 0]])
    ads = rows(ADS, [[True], [True], [False]], [[5], [70], [0]], [[False], [True], [False]])

    knowledge = knowledge_of(users.known(NOW_MS), ads.known(NOW_MS), user_is_shared=True, store_code=None)

    counts = [(v.view, v.present, v.missing, v.stale, v.age_ms) for v in knowledge.views]
    assert counts == [
        ("user_profile", 1, 0, 0, 10),
        ("user_history", 0, 1, 0, None),
        ("ad_profile", 1, 1, 1, 70),
    ]
    assert (knowledge.missing, knowledge.stale, knowledge.age_ms_max) == (2, 1, 70)


def test_a_shared_user_is_nobodys_own() -> None:
    """In a ranking all candidates have the same user; only ads tell them apart."""
    users = rows(USERS[:1], [[False]], [[0]])
    ads = rows(ADS, [[True], [False]], [[1], [0]])

    knowledge = knowledge_of(users.known(NOW_MS), ads.known(NOW_MS), user_is_shared=True, store_code=None)

    assert knowledge.codes == {"user_missing", "ad_missing"}
    assert knowledge.own_codes == {1: ["ad_missing"]}


@pytest.mark.parametrize("store_code", ["store_down", "store_timeout"])
def test_users_we_could_not_ask_about_are_not_unknown(store_code: DegradedCode) -> None:
    """`user_missing` says that the user is new; that is not what happened."""
    users = unknown_entities(USERS, 2)
    ads = rows(ADS, [[True], [True]], [[1], [1]])

    knowledge = knowledge_of(users.known(NOW_MS), ads.known(NOW_MS), user_is_shared=False, store_code=store_code)

    assert knowledge.codes == {store_code}
    assert knowledge.own_codes == {0: [store_code], 1: [store_code]}
    assert knowledge.missing == 4


def test_codes_come_once_and_always_in_the_same_order() -> None:
    """Logs and dashboards group by the list."""
    assert in_order(["context_missing", "ad_missing", "user_missing", "ad_missing"]) == [
        "user_missing",
        "ad_missing",
        "context_missing",
    ]
    assert in_order(reversed(CODES)) == list(CODES)


def test_one_damaged_view_leaves_the_others_alone() -> None:
    """Each view has a writer of its own; one may be of another version."""
    view = USERS[0]
    header = b"CS\x01\x00" + bytes([2, 0, 1, 0]) + NOW_MS.to_bytes(8, "little") + bytes(16)
    good = header + np.array([1, 2], "<f4").tobytes() + np.array([3], "<u4").tobytes()

    answered, damaged = stored_rows((view, USERS[1]), [good, b"nonsense"], NOW_MS)

    assert [str(error).startswith("view 'user_history'") for error in damaged] == [True]
    np.testing.assert_array_equal(answered.found, [[True, False]])
    np.testing.assert_array_equal(answered.block.floats[0, :2], [1, 2])
    assert answered.block.floats.shape == (1, 4)


def test_one_user_is_told_as_many_are() -> None:
    """A ranking reads its user by a shorter way; what it says is the same."""
    view = USERS[0]
    header = b"CS\x01\x00" + bytes([2, 0, 1, 0])
    event_time_ms = NOW_MS - view.ttl_ms
    stale = header + event_time_ms.to_bytes(8, "little", signed=True) + bytes(16)
    stale += np.array([1, 2], "<f4").tobytes() + np.array([3], "<u4").tobytes()

    for values in ([stale, None], [None, b"nonsense"], [stale, stale]):
        block, known, damaged = stored_row(USERS, values, NOW_MS)
        many, damaged_of_many = stored_rows(USERS, values, NOW_MS)

        assert known == many.known(NOW_MS)
        assert list(map(str, damaged)) == list(map(str, damaged_of_many))
        np.testing.assert_array_equal(block.floats, many.block.floats)
        np.testing.assert_array_equal(block.ids, many.block.ids)
