"""What `clickserve explain` says: numbers that multiply to the whole change, and sentences that can be read aloud."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calibrator import CalibratorMap, p_click_of
from service.commands.explain import change_in_words, odds_changes, percent, sentence
from tests.ensembles import CALIBRATORS


@given(
    st.lists(st.floats(-3, 3).filter(lambda c: abs(c) > 1e-3), max_size=8),
    st.sampled_from(CALIBRATORS),
    st.sampled_from([0.0, -1.6]),
)
def test_the_changes_multiply_to_the_way_from_the_usual_rate_to_the_answer(
    contributions: list[float], calibrator: CalibratorMap, correction: float
) -> None:
    """However the calibrator bends the log-odds in between; each change keeps its direction."""
    raw_logit = -1.0 + math.fsum(contributions)
    usual, p_click = p_click_of(np.array([-1.0, raw_logit]), correction, calibrator).tolist()
    entries = [{"contribution": c} for c in contributions]
    explanation = {
        "baseline": -1.0, "baseline_p_click": usual, "raw_logit": raw_logit, "contributions": entries,
    }  # fmt: skip

    changes = odds_changes(p_click, explanation)

    assert [change > 0 for change in changes] == [c > 0 for c in contributions]
    if abs(raw_logit + 1.0) > 1e-3 and p_click < 1 - 1e-9:  # nearer to 1 a probability has no digits left for its odds
        whole = (p_click / (1 - p_click)) / (usual / (1 - usual))
        assert math.prod(1 + change for change in changes) == pytest.approx(whole, rel=1e-6)


def test_the_sentence_names_what_matters_most() -> None:
    """Two features a direction; a hash would tell a reader nothing, and what is missing says so."""
    contributions = [
        {"feature": "ad.ctr_7d", "value": 0.04125, "contribution": 1.2},
        {"feature": "user.country", "value": "#9c2a71ff", "contribution": 0.5},
        {"feature": "user.age", "value": None, "contribution": -0.4},
        {"feature": "context.device", "value": "phone", "contribution": 0.3},
    ]

    both = sentence({"user_id": "u1", "ad_id": "a7"}, 0.0213, 0.0101, contributions)
    nothing = sentence({"ad_id": "a7"}, 0.01, 0.01, [])

    assert both == (
        "User u1 clicks ad a7 with 2.1 %; with nothing unusual known it would be 1 %. "
        "What raises it most: ad.ctr_7d (0.04125) and user.country. What lowers it most: user.age (missing)."
    )
    assert nothing == "Ad a7 is clicked with 1 %; with nothing unusual known it would be 1 %."


@pytest.mark.parametrize(
    ("share", "said"), [(0.0213, "2.1 %"), (0.000123, "0.012 %"), (0.5, "50.0 %"), (3.2, "320.0 %"), (0.0, "0 %")]
)
def test_shares_have_two_digits_that_mean_something(share: float, said: str) -> None:
    """Click rates lie between a thousandth and a tenth; changes of odds may be anything."""
    assert percent(share) == said


def test_a_change_says_its_direction() -> None:
    """Nobody has to look for a minus."""
    assert change_in_words(0.45) == "raises the odds by 45.0 %"
    assert change_in_words(-0.02) == "lowers the odds by 2 %"
