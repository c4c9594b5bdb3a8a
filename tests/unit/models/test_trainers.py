"""Learners behind their contract: what must be true of each of them, and what is special to one."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibrator import sigmoid
from models.encoder import Encoded
from models.errors import TrainingError
from models.evaluation.metrics import auc, log_loss_of_logit
from models.trainers import trainer_named
from models.trainers.base_rate import BaseRateTrainer
from models.trainers.gbdt import GbdtTrainer
from models.trainers.logistic import LogisticTrainer
from models.trainers.smoothed_ctr import SmoothedCtrTrainer, prior_strength
from models.trainers.trainer import Trainer, TrainingSet
from tests.learning import ABLE_LEARNERS, EVERY_LEARNER, made_impressions

LOG = made_impressions(3_000, seed=1)
LATER = made_impressions(2_000, seed=2)


@pytest.fixture(params=EVERY_LEARNER)
def trainer(request: pytest.FixtureRequest) -> Trainer:
    return trainer_named(request.param)


@pytest.fixture(params=ABLE_LEARNERS)
def able_trainer(request: pytest.FixtureRequest) -> Trainer:
    return trainer_named(request.param)


def middle_step(trainer: Trainer) -> int:
    return 30 if trainer.name in ("gbdt", "xgboost") else 3


def test_a_model_orders_clicks_it_has_not_seen(able_trainer: Trainer) -> None:
    """The made log has signal in numbers, bent and straight, and in a hash: a learner that misses one stays below."""
    model = able_trainer.fit(LOG, middle_step(able_trainer), 1.0, seed=0)

    assert auc(LATER.clicked, sigmoid(model.raw_logit(LATER.encoded))) > 0.74


def test_the_same_seed_gives_the_same_model(trainer: Trainer) -> None:
    """A figure that nobody can make again is not a measurement."""
    first, second = (trainer.fit(LOG, middle_step(trainer), 1.0, seed=3) for _ in range(2))

    np.testing.assert_array_equal(first.raw_logit(LATER.encoded), second.raw_logit(LATER.encoded))


def test_the_paths_loss_is_the_loss_of_its_margins(trainer: Trainer) -> None:
    """The step is chosen by these losses, so they must speak of the models that are then used."""
    path = trainer.fit_path(LOG, LATER, seed=0)

    step = int(np.argmin(path.held_out_loss))

    assert log_loss_of_logit(LATER.clicked, path.raw_logit(step, LATER.encoded)) == pytest.approx(
        path.held_out_loss[step], rel=1e-6
    )


def test_a_path_leads_away_from_its_simplest_model(able_trainer: Trainer) -> None:
    """A dial whose first position is the best was made for other logs."""
    path = able_trainer.fit_path(LOG, LATER, seed=0)

    assert path.held_out_loss.min() < path.held_out_loss[0]


def test_promises_add_up_to_the_training_clicks(trainer: Trainer) -> None:
    """The intercept is free, so the level is right before anything is calibrated."""
    model = trainer.fit(LOG, middle_step(trainer), 1.0, seed=0)

    promised = sigmoid(model.raw_logit(LOG.encoded)).sum()

    assert promised == pytest.approx(LOG.clicks, rel=0.02)


def test_missing_and_unseen_values_are_scored(trainer: Trainer) -> None:
    """Serving meets both every day."""
    model = trainer.fit(LOG, middle_step(trainer), 1.0, seed=0)
    nothing_known = Encoded(np.full((1, 3), np.nan, np.float32), np.array([[0, 0]]))
    never_seen = Encoded(np.zeros((1, 3), np.float32), np.array([[123_456_789, 987_654_321]]))

    assert np.isfinite(model.raw_logit(nothing_known)).all()
    assert np.isfinite(model.raw_logit(never_seen)).all()


def test_importance_names_the_columns_that_matter(able_trainer: Trainer) -> None:
    """The card shows it to people who know their features."""
    model = able_trainer.fit(LOG, middle_step(able_trainer), 1.0, seed=0)

    ranked = sorted(model.importance, key=lambda name: -model.importance[name])

    assert set(ranked[:3]) == {"context.price", "context.age", "context.site"}
    assert sum(model.importance.values()) == pytest.approx(1.0)


def test_a_learner_does_with_hashes_alone_or_numbers_alone(able_trainer: Trainer) -> None:
    """Logs without any number, or without any category, are real."""
    no_floats, no_ids = np.empty((len(LOG), 0), np.float32), np.empty((len(LOG), 0), np.int64)
    hashes = TrainingSet(Encoded(no_floats, LOG.encoded.ids), LOG.clicked, LOG.time_ms, (), LOG.id_names)
    numbers = TrainingSet(Encoded(LOG.encoded.features, no_ids), LOG.clicked, LOG.time_ms, LOG.float_names, ())

    for log in (hashes, numbers):
        model = able_trainer.fit(log, middle_step(able_trainer), 1.0, seed=0)
        assert auc(log.clicked, sigmoid(model.raw_logit(log.encoded))) > 0.6


def test_more_data_allow_more_trees() -> None:
    """The number of rounds was chosen on three quarters of the rows; the final model has more to learn from."""
    same, grown = (GbdtTrainer().fit(LOG, 15, growth, seed=0).parameters["rounds"] for growth in (1.0, 4.0))

    assert (same, grown) == (16, 32)


def test_zero_as_missing_cannot_be_asked_for() -> None:
    """It would train well, export silently, and answer wrong."""
    with pytest.raises(TrainingError, match="zero_as_missing"):
        GbdtTrainer(overrides={"zero_as_missing": True})


def test_a_penalty_path_ends_beyond_its_valley() -> None:
    """Weak penalties are the dearest to solve, and useless once the loss has risen."""
    path = LogisticTrainer().fit_path(LOG, LATER, seed=0)

    assert np.argmin(path.held_out_loss) >= len(path.held_out_loss) - 2


def test_an_unknown_learner_is_refused_by_name() -> None:
    """With the names there are."""
    with pytest.raises(TrainingError, match=r"'xgb'.*base-rate, .*gbdt"):
        trainer_named("xgb")


def test_the_base_rate_is_the_click_rate_of_its_rows() -> None:
    """For everybody, whatever is known of them."""
    model = BaseRateTrainer().fit(LOG, 0, 1.0, seed=0)

    assert sigmoid(model.raw_logit(LATER.encoded)) == pytest.approx(LOG.clicks / len(LOG), rel=1e-12)


def test_smoothed_rates_are_those_of_the_best_column() -> None:
    """Of the made log that is the price, by far."""
    path = SmoothedCtrTrainer().fit_path(LOG, LATER, seed=0)

    best = SmoothedCtrTrainer().fit(LOG, int(np.argmin(path.held_out_loss)), 1.0, seed=0)

    assert best.parameters["column"] == "context.price"
    assert best.importance == {"context.price": 1.0}


def test_the_prior_of_rates_is_found_from_how_much_cells_differ() -> None:
    """Cells drawn from a beta distribution of a + b = 200: the moments give it back; cells that are alike, no end."""
    random = np.random.default_rng(0)
    seen = random.integers(200, 20_000, size=2_000).astype(np.float64)
    different, alike = random.beta(2.0, 198.0, size=2_000), np.full(2_000, 0.01)

    found, endless = (prior_strength(seen, random.binomial(seen.astype(int), p)) for p in (different, alike))

    assert found == pytest.approx(200, rel=0.1)
    assert endless > 50_000


def test_a_cell_without_clicks_is_not_believed_and_an_unseen_one_is_average() -> None:
    """Three impressions of a new ad say nothing yet, and that it was never clicked is not a rate of 0."""
    n_ads = 50
    random = np.random.default_rng(1)
    ads, rates = np.arange(1, n_ads + 1), random.beta(4.0, 36.0, size=n_ads)
    shown = np.r_[random.integers(0, n_ads - 1, size=20_000), np.full(3, n_ads - 1)]
    clicked = np.r_[random.random(20_000) < rates[shown[:-3]], np.zeros(3, dtype=np.bool_)]
    encoded = Encoded(np.empty((len(shown), 0), np.float32), ads[shown].reshape(-1, 1))
    log = TrainingSet(encoded, clicked, np.arange(len(shown)), (), ("ad",))

    model = SmoothedCtrTrainer().fit(log, 0, 1.0, seed=0)
    asked = Encoded(np.empty((3, 0), np.float32), np.array([[ads[-1]], [77_777], [ads[0]]]))
    new, unseen, old = sigmoid(model.raw_logit(asked))

    base = log.clicks / len(log)
    assert unseen == pytest.approx(base, rel=1e-9)
    assert 0.7 * base < new < base
    assert old == pytest.approx(clicked[shown == 0].mean(), rel=0.1)
