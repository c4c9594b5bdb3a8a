"""Off-policy estimates on a bandit whose every value is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import MetricError
from models.evaluation.off_policy import OffPolicy, off_policy

CTR = np.array([[0.02, 0.05, 0.10, 0.20], [0.20, 0.10, 0.05, 0.02]])
"""Of each of four ads, for two kinds of user: what is best for one is worst for the other."""
LOGGING = np.array([[0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25]])
JUDGED = np.array([[0.0, 0.1, 0.2, 0.7], [0.7, 0.2, 0.1, 0.0]])
VALUE = float((JUDGED * CTR).sum(axis=1).mean())


def rounds(seed: int, n: int = 2_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clicks, propensities and the judged policy's probabilities of the ads that the logging policy showed."""
    random = np.random.default_rng(seed)
    kind = random.integers(2, size=n)
    shown = (random.random(n)[:, None] > LOGGING[kind].cumsum(axis=1)).sum(axis=1)
    return random.random(n) < CTR[kind, shown], LOGGING[kind, shown], JUDGED[kind, shown]


def estimates(n: int) -> list[OffPolicy]:
    return [off_policy(*rounds(seed, n), seed=seed) for seed in range(200)]


def test_ips_is_unbiased_and_both_intervals_cover_the_value() -> None:
    """Over 200 logs of 2 000 rounds; the mean of 200 may miss the value by three of its standard errors."""
    found = estimates(2_000)

    values = np.array([each.ips.value for each in found])
    assert abs(values.mean() - VALUE) < 3 * values.std() / np.sqrt(200)
    assert abs(np.mean([each.mean_weight.value for each in found]) - 1) < 0.01
    for name in ("ips", "snips"):
        covered = sum(getattr(each, name).low <= VALUE <= getattr(each, name).high for each in found)
        assert 180 <= covered <= 198, name
    assert sum(each.credible for each in found) >= 198  # 99.9 % of all: no estimate that is right is called wrong


def test_rare_clicks_do_not_claim_certainty() -> None:
    """Half a percent of clicks, and a policy that the logging one follows once in two hundred rounds.

    Its few rounds of large weight have a click or none; redrawing none of them shows no spread, so that a bootstrap
    alone covers the value in fewer than half of the logs.
    """
    covered = 0

    for seed in range(50):
        random = np.random.default_rng(seed)
        clicked, followed = random.random(8_000) < 0.005, random.random(8_000) < 0.005
        found = off_policy(clicked, np.where(followed, 0.005, 0.995), np.where(followed, 0.99, 0.01), seed=seed)
        assert found.snips is not None
        covered += found.snips.low <= 0.005 <= found.snips.high

    assert covered >= 45


def test_the_logging_policy_has_the_click_rate_of_its_log() -> None:
    """Its own weights are 1: the sanity of all that follows."""
    clicked, propensity, _ = rounds(1)

    found = off_policy(clicked, propensity, propensity)

    assert found.snips is not None
    assert found.ips.value == found.snips.value == pytest.approx(clicked.mean())
    assert (found.mean_weight.low, found.mean_weight.high) == (pytest.approx(1.0), pytest.approx(1.0))
    assert found.effective_sample_size == pytest.approx(2_000)


def test_a_policy_over_other_ads_is_not_credible() -> None:
    """Probabilities over twice as many ads as there were to choose from: the mean weight is a half."""
    clicked, propensity, target = rounds(1)

    found = off_policy(clicked, propensity, target / 2)

    assert found.mean_weight.high < 0.6
    assert not found.credible


@given(st.integers(0, 10_000), st.one_of(st.none(), st.floats(0.1, 5.0)))
def test_estimates_are_their_definitions_written_out(seed: int, clip: float | None) -> None:
    """Round by round."""
    clicked, propensity, target = rounds(seed, n=50)

    found = off_policy(clicked, propensity, target, clip=clip)

    weights = [t / p if clip is None else min(t / p, clip) for t, p in zip(target, propensity, strict=True)]
    gained = sum(w for w, c in zip(weights, clicked, strict=True) if c)
    assert found.ips.value == pytest.approx(gained / 50)
    assert found.snips is not None
    assert found.snips.value == pytest.approx(gained / sum(weights))
    assert found.effective_sample_size == pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights))
    assert found.mean_weight.value == pytest.approx(np.mean(target / propensity))
    assert found.share_cut == pytest.approx(1 - sum(weights) / np.sum(target / propensity))
    assert found.clipped == sum(w != t / p for w, t, p in zip(weights, target, propensity, strict=True))


def test_rounds_of_one_user_are_redrawn_together() -> None:
    """Repeated twenty times they say what they say once."""
    clicked, propensity, target = rounds(2, n=500)

    once = off_policy(clicked, propensity, target)
    repeated = off_policy(*(column.repeat(20) for column in (clicked, propensity, target)), np.arange(500).repeat(20))

    assert repeated.ips.high - repeated.ips.low == pytest.approx(once.ips.high - once.ips.low, rel=0.25)


@pytest.mark.parametrize(
    ("propensity", "target", "clip", "expected"),
    [
        ([0.5, 0.0], [0.5, 0.5], None, "a propensity lies above 0"),
        ([0.5, np.nan], [0.5, 0.5], None, "a propensity lies above 0"),
        ([0.5, 0.5], [0.5, 1.5], None, "probabilities lie between 0 and 1"),
        ([0.5], [0.5, 0.5], None, "got 2, 1 and 2"),
        ([0.5, 0.5], [0.5, 0.5], 0.0, "clipped above 0"),
    ],
)
def test_what_is_no_probability_is_refused(
    propensity: list[float], target: list[float], clip: float | None, expected: str
) -> None:
    """One round with a propensity of 0 would decide everything."""
    with pytest.raises(MetricError, match=expected):
        off_policy(np.array([True, False]), np.array(propensity), np.array(target), clip=clip)
