"""Best first, and the same order for the same numbers every time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.ranking import ranked


def order(value: list[float], raw_logit: list[float], n: int | None = None, top_k: int | None = None) -> list[int]:
    """The order as a list; all candidates where nothing else is said."""
    count = len(value) if n is None else n
    answer: list[int] = ranked(np.array(value), np.array(raw_logit), count, count if top_k is None else top_k).tolist()
    return answer


def test_ties_go_by_the_margin_then_by_the_request() -> None:
    """A calibrator may map different margins to one probability."""
    assert order([0.2, 0.5, 0.5, 0.5], [9.0, 1.0, 2.0, 1.0]) == [2, 1, 3, 0]


def test_what_the_deadline_left_comes_last_in_request_order() -> None:
    """Two of five were scored; nobody knows anything about the rest."""
    assert order([0.1, 0.9], [0.0, 1.0], n=5) == [1, 0, 2, 3, 4]


def test_top_k_may_reach_into_the_unscored() -> None:
    """The caller asked for so many."""
    assert order([0.1, 0.9], [0.0, 1.0], n=5, top_k=3) == [1, 0, 2]


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.2]), st.sampled_from([-1.0, 0.0, 1.0])), min_size=1))
def test_the_order_is_what_sorting_by_the_rule_gives(rows: list[tuple[float, float]]) -> None:
    """Value, then margin, then place; against Python's own sort."""
    expected = sorted(range(len(rows)), key=lambda i: (-rows[i][0], -rows[i][1], i))

    assert order([value for value, _ in rows], [margin for _, margin in rows]) == expected
