"""Workers leave connections to whoever holds fewer."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.connection_shares import ABSENT, ConnectionShares, make_file


def shares_of(path: Path, counts: list[int]) -> ConnectionShares:
    """What worker 0 sees where the workers hold `counts` connections."""
    shared = make_file(path, len(counts))
    shares = ConnectionShares.of_worker(path, 0)
    for slot, count in enumerate(counts):
        shared[slot] = count
    return shares


@pytest.mark.parametrize(
    ("counts", "is_ahead"),
    [([0, 0], False), ([1, 0], True), ([4, 5, 4], False), ([5, 9, 4], True), ([90, 80], False), ([91, 80], True)],
)
def test_a_worker_is_ahead_of_the_emptiest_by_more_than_an_eighth(
    tmp_path: Path, counts: list[int], is_ahead: bool
) -> None:
    """Few connections are shared evenly; in a storm nobody waits for perfect balance."""
    shares = shares_of(tmp_path / "connections", counts)

    assert shares.is_ahead is is_ahead


@pytest.mark.parametrize("counts", [[7], [7, ABSENT], [7, ABSENT, ABSENT]])
def test_a_worker_alone_is_never_ahead(tmp_path: Path, counts: list[int]) -> None:
    """A dead worker holds nothing for ever; waiting for it would slow every connection."""
    shares = shares_of(tmp_path / "connections", counts)

    assert not shares.is_ahead


def test_workers_see_what_the_others_take_and_give_back(tmp_path: Path) -> None:
    """One file, two processes, no lock: each writes its own number."""
    make_file(tmp_path / "connections", 2)
    first = ConnectionShares.of_worker(tmp_path / "connections", 0)
    second = ConnectionShares.of_worker(tmp_path / "connections", 1)

    first.took()
    before = second.is_ahead, first.is_ahead
    first.gave_back()
    after = second.is_ahead, first.is_ahead

    assert before == (False, True)
    assert after == (False, False)


def test_a_replacement_begins_with_no_connection(tmp_path: Path) -> None:
    """Those of the dead worker died with it."""
    shared = make_file(tmp_path / "connections", 2)
    shared[0] = 30

    replacement = ConnectionShares.of_worker(tmp_path / "connections", 0)

    assert not replacement.is_ahead
    assert shared[0] == 0
