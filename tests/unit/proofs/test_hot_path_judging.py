"""Proofs are judged by rules of their own, and a rule that cannot say no proves nothing."""

from __future__ import annotations

import numpy as np
import pytest

from tests.proofs.claim import Outcome
from tests.proofs.hot_path_ad_changes import SomeAds
from tests.proofs.hot_path_steady import is_within
from tests.proofs.hot_path_visibility import WATCHED, Sight, Watched, explained

N_VERSIONS = 4
FIRST_MS, APART_MS = 1_000_000, 100


@pytest.fixture
def watched() -> Watched:
    """Version v of every ad has event time 1 000 000 + 100 v and is answered 0.1 (v + 1)."""
    others = SomeAds(n_ads=10, per_s=0, whole_every=0, random=np.random.default_rng(0))
    p_click = np.repeat(0.1 * np.arange(1, N_VERSIONS + 1)[:, None], len(WATCHED), axis=1)
    found = Watched(np.zeros((N_VERSIONS, len(WATCHED), 16), np.float32), p_click, others)
    for version in range(N_VERSIONS):
        found.event_time_ms.append(FIRST_MS + APART_MS * version)
        found.published_s.append(float(version))
    return found


def sight(row_version: int, p_click: float, answered_s: float) -> Sight:
    """Ad 0, asked when its row of that version was 5 s old."""
    now_ms = FIRST_MS + APART_MS * row_version + 5_000
    return Sight(0, now_ms - 1, now_ms + 1, answered_s, 5_000, p_click)


@pytest.mark.parametrize(
    ("pairs", "within"),
    [
        ([(1.0, 1.29)], True),  # 29 %, but less than 0.3 ms
        ([(5.0, 5.9)], True),  # 0.9 ms, but less than 20 %
        ([(2.0, 2.5)], False),  # 25 % and 0.5 ms
        ([(2.0, 9.0), (2.0, 2.1), (2.0, 2.1)], True),  # one bad pair of three
        ([(2.0, 1.0)], True),  # faster
        ([], False),  # refused
    ],
)
def test_within_means_a_fifth_or_a_third_of_a_millisecond(pairs: list[tuple[float, float]], within: bool) -> None:
    """The median of the pairs decides, by whichever bound is the wider."""
    assert is_within(pairs) is within


def test_a_mask_of_another_version_than_the_row_is_found(watched: Watched) -> None:
    """This is what the claim exists for: new row, old mask."""
    fine, torn = sight(1, 0.2, 1.5), sight(2, 0.2, 2.5)

    found = explained(watched, [fine, torn])

    assert (found.n_known, found.mixed) == (1, [torn])


def test_a_row_of_no_version_is_found_once_a_change_was_seen(watched: Watched) -> None:
    """Before the first change an ad has the row of its making; afterwards nothing may bring that back."""
    old = Sight(0, FIRST_MS, FIRST_MS + 2, 0.5, 5_000, 0.77)

    found = explained(watched, [old, sight(0, 0.1, 1.0), old])

    assert (found.n_known, found.mixed) == (1, [old])


def test_a_version_is_visible_when_a_later_one_is(watched: Watched) -> None:
    """Versions follow each other faster than tables are refreshed; a skipped one is not late."""
    found = explained(watched, [sight(0, 0.1, 0.2), sight(2, 0.3, 2.25)])

    assert found.visible_s[:, 0].tolist() == [0.2, 2.25, 2.25, np.inf]


def test_a_broken_claim_says_which_check_it_broke() -> None:
    """A verdict without a reason sends its reader into the code."""
    outcome = Outcome.judged("p99 3.00 ms", {"p99 ≤ 2 ms": False, "no errors": True}, {})

    assert (outcome.holds, outcome.value) == (False, "p99 3.00 ms; not so: p99 ≤ 2 ms")
