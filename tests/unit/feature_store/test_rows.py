"""Rows of one view."""

from __future__ import annotations

from feature_store.rows import Rows
from tests.stores import make_view

VIEW = make_view(n_float=2, n_id=1)


def test_missing_rows_hold_the_defaults() -> None:
    """A model reads columns, whether there was a row or not."""
    rows = Rows.missing(VIEW, 3)

    assert rows.floats[:, 0].tolist() == [0.5, 0.5, 0.5]
    assert rows.ids[:, 0].tolist() == [int(VIEW.default_ids[0])] * 3
    assert not rows.found.any()
    assert len(rows) == 3


def test_missing_rows_do_not_share_memory() -> None:
    """Whoever fills in one row must not fill in the view's defaults."""
    rows = Rows.missing(VIEW, 1)
    rows.floats[0, 0] = 9

    assert VIEW.default_floats[0] == 0.5


def test_rows_below_each_other_keep_their_order() -> None:
    """A catalogue is read in pieces."""
    first, second = Rows.missing(VIEW, 1), Rows.missing(VIEW, 2)
    second.floats[:, 0] = [1, 2]

    rows = Rows.concatenate(VIEW, [first, second])

    assert rows.floats[:, 0].tolist() == [0.5, 1.0, 2.0]


def test_no_parts_are_no_rows() -> None:
    """An empty catalogue still has columns."""
    rows = Rows.concatenate(VIEW, [])

    assert rows.floats.shape == (0, 2)


def test_taken_rows_come_in_the_order_asked_for() -> None:
    """The same row may be asked for twice."""
    rows = Rows.missing(VIEW, 3)
    rows.event_time_ms[:] = [10, 11, 12]

    assert rows.take([2, 0, 2]).event_time_ms.tolist() == [12, 10, 12]
