"""Results are written by hand, and read by any JSON parser as what they should be."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.results_json import COMPILED, results_json

IDS = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="{}"), min_size=1, max_size=16)
BOTH = pytest.mark.parametrize(
    "compiled", [pytest.param(True, marks=pytest.mark.skipif(not COMPILED, reason="no compiler was there")), False]
)


def written(ids: list[str], order: list[int], p_click: list[float], compiled: bool, **more: object) -> object:
    """What a caller's parser makes of the results."""
    scores = more.get("scores")
    raw = results_json(
        ids,
        np.array(order, dtype=np.int64),
        np.array(p_click, dtype=np.float64),
        None if scores is None else np.array(scores, dtype=np.float64),
        more.get("own_codes", {}),  # type: ignore[arg-type]
        compiled=compiled,
    )
    return json.loads(bytes(raw))


@BOTH
def test_results_come_in_order(compiled: bool) -> None:
    """Best first, as many as were asked for."""
    assert written(["a", "b", "c"], [2, 0], [0.25, 0.125, 0.5], compiled) == [
        {"ad_id": "c", "p_click": 0.5},
        {"ad_id": "a", "p_click": 0.25},
    ]


@BOTH
def test_what_was_not_scored_in_time_is_null(compiled: bool) -> None:
    """A number would be taken for one."""
    answer = written(["a", "b"], [0, 1], [0.5], compiled, scores=[2.5])

    assert answer == [
        {"ad_id": "a", "p_click": 0.5, "score": 2.5},
        {"ad_id": "b", "p_click": None, "score": None},
    ]


@BOTH
def test_a_ranking_of_nothing_is_empty(compiled: bool) -> None:
    """And still JSON."""
    assert written(["a"], [], [0.5], compiled) == []


@BOTH
@pytest.mark.parametrize("text", ['"', "\\", 'a"b\\"', "é", "日本", "😀", "~" * 64])
def test_ids_survive(text: str, compiled: bool) -> None:
    """Whatever may stand in an id."""
    assert written([text], [0], [0.5], compiled) == [{"ad_id": text, "p_click": 0.5}]


@BOTH
@given(number=st.floats(min_value=0, max_value=1), score=st.floats(min_value=0, allow_infinity=False))
def test_numbers_keep_twelve_digits(number: float, score: float, compiled: bool) -> None:
    """And are within [0, 1] where they were."""
    [result] = written(["a"], [0], [number], compiled, scores=[score])  # type: ignore[misc]

    assert math.isclose(result["p_click"], number, rel_tol=1e-11, abs_tol=0)
    assert math.isclose(result["score"], score, rel_tol=1e-11, abs_tol=0)
    assert 0 <= result["p_click"] <= 1


@pytest.mark.skipif(not COMPILED, reason="no compiler was there")
@given(ids=st.lists(IDS, min_size=1, max_size=5, unique=True), data=st.data())
def test_both_ways_agree(ids: list[str], data: st.DataObject) -> None:
    """The compiled one and its twin."""
    p_click = data.draw(st.lists(st.floats(0, 1), min_size=len(ids), max_size=len(ids)))
    order = data.draw(st.permutations(range(len(ids))))

    fast, slow = (written(ids, order, p_click, compiled) for compiled in (True, False))

    assert [r["ad_id"] for r in fast] == [r["ad_id"] for r in slow]  # type: ignore[attr-defined]
    np.testing.assert_allclose([r["p_click"] for r in fast], [r["p_click"] for r in slow], rtol=1e-11)  # type: ignore[attr-defined]


@BOTH
def test_codes_of_its_own_stand_beside_a_result(compiled: bool) -> None:
    """Only there."""
    own_codes = {0: ["ad_missing"], 2: ["user_stale", "ad_stale"]}

    answer = written(["a", "b", "c"], [1, 0, 2], [0.5, 0.75], compiled, own_codes=own_codes)

    assert answer == [
        {"ad_id": "b", "p_click": 0.75},
        {"ad_id": "a", "p_click": 0.5, "degraded": ["ad_missing"]},
        {"ad_id": "c", "p_click": None, "degraded": ["user_stale", "ad_stale"]},
    ]


@pytest.mark.skipif(not COMPILED, reason="no compiler was there")
@pytest.mark.parametrize("order", [[1], [-1], [2**40]])
def test_a_place_that_does_not_exist_is_refused(order: list[int]) -> None:
    """Never read."""
    with pytest.raises(ValueError, match="names an id that does not exist"):
        written(["a"], order, [0.5], True)
