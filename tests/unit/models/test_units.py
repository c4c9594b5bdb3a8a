"""Few users make no interval: rows are redrawn where users cannot be, it says so, and noise never passes for skill."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.calibrator import sigmoid
from models.evaluation.breakdown import breakdown
from models.evaluation.comparison import comparison, entropy_difference
from models.evaluation.groups import Groups
from models.evaluation.intervals import all_metrics
from models.evaluation.thresholds import at_thresholds
from models.evaluation.units import LEAST_USERS, Units
from models.registry.manifest import Interval

N = 500


def noise(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.random.Generator]:
    """Clicks that depend on nothing, and two scores that know nothing, of about the right level."""
    random = np.random.default_rng(seed)
    clicked = random.random(N) < 0.1
    first, second = (sigmoid(random.normal(-2.2, 0.1, size=N)) for _ in range(2))
    return clicked, first, second, random


@pytest.mark.parametrize("n_users", [1, 2, 3, 10, 500])
def test_noise_hardly_ever_beats_the_base_rate_or_another_model(n_users: int) -> None:
    """Of 40 samples a 95 % interval lies wholly on the better side once; five or more have a chance of 0.3 %."""
    passed = {"base rate": 0, "champion": 0, "segment": 0}

    for seed in range(40):
        clicked, first, second, random = noise(seed)
        users = random.integers(n_users, size=N)
        passed["base rate"] += all_metrics(clicked, first, users, seed)["normalized_entropy"].high < 1.0
        passed["champion"] += entropy_difference(clicked, first, second, users, seed).high < 0.0
        (segment,) = breakdown(Groups("g", np.zeros(N, dtype=np.int64), ("all",)), clicked, first, users, seed).segments
        assert segment.normalized_entropy is not None
        passed["segment"] += segment.normalized_entropy.high < 1.0

    assert max(passed.values()) <= 4, passed


def test_one_user_has_the_intervals_of_rows() -> None:
    """A constant user id is no user: redrawing it repeats the estimate, or draws nobody."""
    clicked, first, second, _ = noise(0)
    anon = np.zeros(N, dtype=np.int64)

    figures, by_row = all_metrics(clicked, first, anon), all_metrics(clicked, first)
    found, rows = (comparison("v1", clicked, first, second, whose) for whose in (anon, None))
    (at,), (at_rows,) = (at_thresholds(clicked, first, [0.1], whose) for whose in (anon, None))

    for name, figure in by_row.items():
        assert (figures[name].low, figures[name].high) == (figure.low, figure.high), name
    for name in ("normalized_entropy", "log_loss", "auc"):
        assert getattr(found, name).low == getattr(rows, name).low
    assert at.precision is not None
    assert at_rows.precision is not None
    assert at.precision.low == pytest.approx(at_rows.precision.low, abs=0.01)
    assert figures["log_loss"].low > 0.2
    assert figures["log_loss"].by_row() == "by row, because one user has all clicks"


@pytest.mark.parametrize("n_users", [2, 3, 10])
def test_few_users_never_narrow_what_rows_say(n_users: int) -> None:
    """And where they differ, their spread widens it."""
    random = np.random.default_rng(4)
    user = random.integers(n_users, size=N)
    clicked = random.random(N) < np.linspace(0.02, 0.4, n_users)[user]
    p_click = sigmoid(random.normal(-1.5, 0.5, size=N))

    figures, by_row = (all_metrics(clicked, p_click, whose) for whose in (user, None))

    for name in by_row.keys() - {"relative_calibration_floor", "relative_calibration_error"}:
        assert figures[name].low <= by_row[name].low, name
        assert figures[name].high >= by_row[name].high, name
    assert figures["calibration_ratio"].high > 1.2 * by_row["calibration_ratio"].high
    assert figures["auc"].why_rows == f"{n_users} users have all clicks"


def test_the_unit_is_told() -> None:
    """Users where there are enough of them; otherwise rows, and why."""
    clicked = np.arange(N) % 5 == 4
    placeholder = np.where(np.arange(N) % 10 < 9, 0, np.arange(N))

    units = [Units.of(clicked, whose) for whose in (np.arange(N) % 101, placeholder, None)]

    assert [each.why_rows for each in units] == ["", "of 51 users with clicks one has 50 %", "no user is known"]
    assert all_metrics(clicked, np.full(N, 0.2), np.arange(N) % 101)["auc"].unit == "users"
    assert all_metrics(clicked, np.full(N, 0.2))["auc"].unit == "rows"


@pytest.mark.parametrize("n_users", [int(LEAST_USERS) - 1, int(LEAST_USERS)])
def test_equal_users_count_as_many_as_they_are(n_users: int) -> None:
    """The bound is in effective users; the rarer label decides."""
    user = np.arange(20 * n_users) % n_users

    for clicked in (user >= 0) & (np.arange(len(user)) < n_users), ~(np.arange(len(user)) < n_users):
        assert (Units.of(clicked, user).why_rows == "") == (n_users >= LEAST_USERS)


def test_a_segment_of_two_clicks_has_no_entropy() -> None:
    """One redraw in seven holds no click at all: such redraws are no figures, and what is left says nothing."""
    clicked, p_click = np.arange(50) < 2, np.linspace(0.2, 0.01, 50)
    groups = Groups("reader", np.zeros(50, dtype=np.int64), ("r155",))

    (segment,) = breakdown(groups, clicked, p_click, np.zeros(50, dtype=np.int64)).segments

    assert segment.normalized_entropy is None
    assert segment.calibration_ratio is not None
    assert segment.calibration_ratio.by_row() == "by row, because one user has all clicks"


def test_the_interval_of_a_segment_ends_above_nothing() -> None:
    """A redraw without anybody counted as a log loss of 0."""
    clicked, p_click, _, _ = noise(1)
    groups = Groups("reader", np.zeros(N, dtype=np.int64), ("r155",))

    (segment,) = breakdown(groups, clicked, p_click, np.zeros(N, dtype=np.int64)).segments

    assert segment.normalized_entropy is not None
    assert 0.9 < segment.normalized_entropy.low < segment.normalized_entropy.value < segment.normalized_entropy.high


def test_figures_of_before_can_still_be_read() -> None:
    """Manifests that are published never change; theirs do not say what was redrawn."""
    old = b'{"value":0.9,"low":0.8,"high":1.0,"n":10,"clicks":2}'

    assert msgspec.json.decode(old, type=Interval).unit == ""
