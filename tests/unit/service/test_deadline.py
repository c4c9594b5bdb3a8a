"""A request's time can only be shortened by its caller."""

from __future__ import annotations

import pytest

from service.deadline import Deadline, deadline_of
from service.errors import InvalidRequest
from service.settings import DeadlineSettings

SETTINGS = DeadlineSettings(total_ms=30.0, features_ms=10.0)


@pytest.mark.parametrize(("header", "total_ms"), [(None, 30.0), (b"5", 5.0), (b"0.25", 0.25), (b"1000", 30.0)])
def test_the_shorter_of_both_holds(header: bytes | None, total_ms: float) -> None:
    """The operator knows when answers become worthless, the caller when its own caller gives up."""
    assert deadline_of(header, 0.0, SETTINGS, lambda: 0.0).total_ms == total_ms


@pytest.mark.parametrize("header", [b"0", b"-1", b"nan", b"inf", b"1e3", b"1_0", b" 5", b"", b"9" * 400])
def test_what_is_no_time_is_refused(header: bytes) -> None:
    """Guessing what a caller meant would surprise it later."""
    with pytest.raises(InvalidRequest) as caught:
        deadline_of(header, 0.0, SETTINGS, lambda: 0.0)

    assert str(caught.value).startswith("X-Deadline-Ms: expected a positive number of milliseconds, got '")


def test_time_counts_from_the_request_and_not_from_the_question() -> None:
    """Waiting at the door is part of it."""
    now_s = [5.020]

    deadline = Deadline(5.0, 30.0, lambda: now_s[0])

    assert deadline.remaining_ms() == pytest.approx(10.0)
    assert not deadline.passed()
    now_s[0] = 5.030
    assert deadline.passed()
