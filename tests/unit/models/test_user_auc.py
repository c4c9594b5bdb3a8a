"""gAUC against the definition written out, and its interval against a known truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from models.calibrator import sigmoid
from models.evaluation.intervals import all_metrics, user_codes
from models.evaluation.user_auc import interval_of_mean, n_counting, user_aucs


@st.composite
def samples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores with many ties, and few users in no order."""
    n = draw(st.integers(2, 60))
    clicked = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    score = draw(st.lists(st.integers(1, 9), min_size=n, max_size=n))
    user = draw(st.lists(st.integers(-3, 4), min_size=n, max_size=n))
    return np.array(clicked), np.array(score) / 10.0, np.array(user)


def written_out(clicked: np.ndarray, p_click: np.ndarray, user: np.ndarray) -> tuple[float, int, int]:
    """Zhou et al. 2018: user by user, with scikit-learn's AUC; and how many users and impressions count."""
    weighted, impressions, users = 0.0, 0, 0
    for code in set(user.tolist()):
        rows = user == code
        if 0 < clicked[rows].sum() < rows.sum():
            weighted += rows.sum() * roc_auc_score(clicked[rows], p_click[rows])
            impressions, users = impressions + int(rows.sum()), users + 1
    return weighted / max(1, impressions), impressions, users


@given(samples())
def test_gauc_is_the_definition_written_out(sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Ties, users without clicks and users out of order included."""
    clicked, p_click, user = sample

    aucs = user_aucs(clicked, p_click, user)

    expected, impressions, users = written_out(clicked, p_click, user)
    assert len(aucs) == n_counting(clicked, user) == users
    assert aucs.impressions.sum() == impressions
    if users:
        assert aucs.mean == pytest.approx(expected)


def population(seed: int, n: int = 2_000, users: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users who differ in how much they click and in how well the score orders what they click."""
    random = np.random.default_rng(seed)
    user = random.integers(users, size=n)
    level, skill = random.normal(-1.0, 0.7, size=users), random.normal(0.8, 0.5, size=users)
    score = random.normal(size=n)
    return random.random(n) < sigmoid(level[user] + skill[user] * score), sigmoid(score - 1.0), user


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Users are redrawn, because they differ; 200 samples of 2 000 impressions."""
    truth = float(np.mean([user_aucs(*population(seed)).mean for seed in range(5_000, 5_300)]))
    covered = 0

    for seed in range(200):
        low, high = interval_of_mean(user_aucs(*population(seed)), np.random.default_rng(seed))
        covered += low <= truth <= high

    assert 0.90 <= covered / 200 <= 0.99


def test_who_clicks_often_is_worth_nothing_within_users() -> None:
    """A score that knows the user alone has a high AUC and orders nothing that is ranked."""
    random = np.random.default_rng(0)
    user = random.integers(50, size=5_000)
    p_click = np.linspace(0.05, 0.95, 50)[user]
    clicked = random.random(5_000) < p_click

    figures = all_metrics(clicked, p_click, user)

    assert figures["auc"].value > 0.8
    assert figures["gauc"].value == 0.5


def test_without_known_users_there_is_no_gauc() -> None:
    """Strangers have one impression each, so none of them has both labels."""
    clicked, p_click = np.arange(10) % 2 == 0, np.linspace(0.1, 0.9, 10)

    assert "gauc" not in all_metrics(clicked, p_click)
    assert "gauc" not in all_metrics(clicked, p_click, user_codes(np.r_[0, np.full(9, -1)]))


def test_a_perfect_order_of_few_users_does_not_claim_certainty() -> None:
    """Three users ordered rightly are three pairs."""
    clicked, p_click, user = np.tile([True, False], 3), np.tile([0.9, 0.1], 3), np.arange(3).repeat(2)

    low, high = interval_of_mean(user_aucs(clicked, p_click, user), np.random.default_rng(0))

    assert (low, high) == (pytest.approx(0.025 ** (1 / 3)), 1.0)
