"""Intervals: they hold their figure, cover the truth about as often as they say, and widen where they must."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibrator import sigmoid
from models.errors import MetricError
from models.evaluation import metrics
from models.evaluation.intervals import all_metrics, calibration_interval, ratio_interval, user_codes
from models.evaluation.roc_interval import auc_interval


def sample(n: int, seed: int, level: float = -3.0) -> tuple[np.ndarray, np.ndarray]:
    """Exact probabilities, and clicks drawn from them."""
    random = np.random.default_rng(seed)
    p_click = sigmoid(random.normal(level, 1.0, size=n))
    return random.random(n) < p_click, p_click


def test_every_figure_lies_in_its_interval_and_names_its_sample() -> None:
    """A figure without sample and interval is not a metric."""
    clicked, p_click = sample(5_000, seed=0)

    figures = all_metrics(clicked, p_click)

    for name, figure in figures.items():
        assert figure.low <= figure.value <= figure.high, name
        assert (figure.n, figure.clicks) == (5_000, clicked.sum())


def test_intervals_cover_the_value_of_a_much_larger_sample() -> None:
    """Over 40 seeds a 95 % interval misses about twice; eight misses or more have a chance of 0.1 %."""
    truth = all_metrics(*sample(400_000, seed=999))

    figures = [all_metrics(*sample(4_000, seed)) for seed in range(40)]

    for name in ("auc", "normalized_entropy", "log_loss", "pr_auc", "f1", "lift_5", "lift_10"):
        covered = sum(figure[name].low <= truth[name].value <= figure[name].high for figure in figures)
        assert covered >= 33, name


@pytest.mark.parametrize("level", [-4.5, 0.0])
def test_the_calibration_ratio_of_exact_probabilities_covers_one(level: float) -> None:
    """At rare clicks and at frequent ones, where a Poisson interval would be far too wide."""
    covered = 0

    for seed in range(400):
        clicked, p = sample(3_000, seed, level)
        low, high = calibration_interval(clicked.sum(), p.sum(), (p * p).sum())
        covered += low <= 1.0 <= high

    assert 0.92 <= covered / 400 <= 0.98


def test_the_calibration_ratio_allows_for_users_who_click_again_and_again() -> None:
    """Promises are exact on average and users differ sevenfold: by rows it covers 1 far too seldom."""
    by_user, by_row = 0, 0

    for seed in range(200):
        random = np.random.default_rng(seed)
        user, taste = random.integers(300, size=6_000), random.choice([0.25, 1.75], size=300)
        p_click = sigmoid(random.normal(-2.5, 0.5, size=6_000))
        clicked = random.random(6_000) < p_click * taste[user]
        (low, high), (row_low, row_high) = (ratio_interval(clicked, p_click, whose) for whose in (user, None))
        by_user, by_row = by_user + (low <= 1 <= high), by_row + (row_low <= 1 <= row_high)

    assert 180 <= by_user <= 198
    assert by_row < 180


def test_few_clicks_make_a_wide_ratio() -> None:
    """Four clicks say next to nothing."""
    low, high = calibration_interval(clicks=4, promised=4.0, promised_squares=0.04)

    assert low < 0.45
    assert high > 2.4


def test_whole_users_are_drawn_where_users_are_known() -> None:
    """A hundred impressions of one user are not a hundred observations: repeated rows must not narrow the interval."""
    clicked, p_click = sample(500, seed=3)
    repeated, repeated_p, user = clicked.repeat(20), p_click.repeat(20), np.arange(500).repeat(20)

    alone = all_metrics(clicked, p_click)
    as_rows = all_metrics(repeated, repeated_p)
    as_users = all_metrics(repeated, repeated_p, user)

    for name in ("auc", "normalized_entropy", "pr_auc"):
        once, rows, users = (f[name].high - f[name].low for f in (alone, as_rows, as_users))
        assert rows < 0.4 * once, name
        assert users == pytest.approx(once, rel=0.35), name


def test_the_area_of_dependent_impressions_is_covered() -> None:
    """Users differ in level and in score: by users it covers in 200 samples as it says, by rows it would not."""

    def of_users(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        random = np.random.default_rng(seed)
        user = random.integers(100, size=2_000)
        level, score = random.normal(-1.0, 1.0, size=100)[user], 0.7 * random.normal(size=100)[user]
        score += random.normal(size=2_000)
        return random.random(2_000) < sigmoid(level + 0.5 * score), sigmoid(score), user

    truth = np.mean([metrics.auc(*of_users(seed)[:2]) for seed in range(5_000, 5_300)])
    by_user, by_row = 0, 0

    for seed in range(200):
        clicked, p_click, user = of_users(seed)
        (low, high), (row_low, row_high) = (auc_interval(clicked, p_click, whose) for whose in (user, None))
        by_user, by_row = by_user + (low <= truth <= high), by_row + (row_low <= truth <= row_high)

    assert 180 <= by_user <= 198
    assert by_row < 180


def test_the_same_seed_gives_the_same_interval() -> None:
    """A gate that decides by chance decides nothing."""
    clicked, p_click = sample(2_000, seed=1)

    assert all_metrics(clicked, p_click, seed=5) == all_metrics(clicked, p_click, seed=5)


def test_a_perfect_order_does_not_claim_certainty() -> None:
    """Two clicks on top of two others are no proof of an AUC of 1."""
    figure = all_metrics(np.array([True, True, False, False]), np.array([0.9, 0.8, 0.2, 0.1]))["auc"]

    assert (figure.value, figure.high) == (1.0, 1.0)
    assert figure.low == pytest.approx(0.025**0.5)


def test_a_perfect_order_of_many_is_nearly_certain() -> None:
    """Two hundred independent pairs, all right; of four users only four are independent, however much they clicked."""
    clicked = np.arange(400) % 2 == 0
    p_click = np.where(clicked, 0.9, 0.1)

    by_row = all_metrics(clicked, p_click)["auc"]
    by_user = all_metrics(clicked, p_click, np.arange(400) // 100)["auc"]

    assert 0.98 < by_row.low < by_row.high == 1.0
    assert by_user.low == pytest.approx(0.025**0.25)


def test_constant_scores_have_intervals_too() -> None:
    """The base-rate model must be judged like any other."""
    clicked, _ = sample(2_000, seed=1)

    figures = all_metrics(clicked, np.full(2_000, clicked.mean()))

    assert figures["auc"].value == 0.5
    assert figures["normalized_entropy"].value == pytest.approx(1.0)


def test_one_kind_of_label_is_refused() -> None:
    """Not answered with a bootstrap of nothing."""
    with pytest.raises(MetricError, match="same label"):
        all_metrics(np.zeros(10, dtype=np.bool_), np.full(10, 0.1))


def test_strangers_are_users_of_their_own() -> None:
    """Otherwise all impressions without a user would be drawn as one giant user."""
    codes = user_codes(np.array([0, -1, 0, -1]))

    assert codes is not None
    assert codes[0] == codes[2]
    assert len(set(codes.tolist())) == 3
    assert user_codes(np.array([-1, -1])) is None
