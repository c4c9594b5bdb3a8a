"""The training pipeline: what it refuses, what it finds, and that its probabilities are true."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from models.calibrator import p_click_of
from models.encoder import Encoded
from models.errors import TrainingError
from models.trainers import LEARNERS, trainer_named
from models.trainers.logistic import LogisticTrainer
from models.trainers.trainer import TrainingSet
from models.training import TrainOptions, TrainOutcome, train
from tests.learning import EVERY_LEARNER, made_impressions, params


def trained(log: TrainingSet, learner: str = "logistic", seed: int = 0, **options: object) -> TrainOutcome:
    return train(log, trainer_named(learner), TrainOptions(**options), seed, lambda stage, share: None)  # type: ignore[arg-type]


def p_click(outcome: TrainOutcome, log: TrainingSet) -> np.ndarray:
    return p_click_of(outcome.model.raw_logit(log.encoded), outcome.correction, outcome.calibrator)


@pytest.mark.parametrize("learner", params(name for name in LEARNERS if name != "base-rate"))
def test_probabilities_are_true_on_later_impressions(learner: str) -> None:
    """Promised and seen clicks agree within what 4 000 later clicks can tell."""
    outcome = trained(made_impressions(12_000, seed=1), learner)
    later = made_impressions(20_000, seed=2)

    ratio = p_click(outcome, later).sum() / later.clicks

    assert ratio == pytest.approx(1.0, abs=0.06)
    assert outcome.better_than_base_rate


@pytest.mark.parametrize("learner", EVERY_LEARNER)
def test_no_signal_is_found_to_be_no_better_than_the_base_rate(learner: str) -> None:
    """A finding, not an error: the card says so and the gate keeps it from serving."""
    outcome = trained(made_impressions(4_000, seed=1, signal=0.0), learner)

    assert not outcome.better_than_base_rate
    assert outcome.metrics["normalized_entropy"].value == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("learner", EVERY_LEARNER)
def test_thinned_non_clicks_promise_what_all_of_them_do(learner: str) -> None:
    """With the calibrator off, 30 % of them give the same mean prediction; without the correction they do not."""
    log, later = made_impressions(20_000, seed=1, level=-3.0), made_impressions(10_000, seed=2, level=-3.0)
    whole, thinned = (trained(log, learner, calibrator="none", negative_rate=rate) for rate in (1.0, 0.3))
    uncorrected = dataclasses.replace(thinned, correction=0.0)

    means = {name: p_click(o, later).mean() for name, o in (("w", whole), ("t", thinned), ("u", uncorrected))}

    assert means["t"] / means["w"] == pytest.approx(1.0, abs=0.03)
    assert means["u"] / means["w"] > 2.0


def test_a_correction_that_is_switched_off_is_left_out_and_nothing_else() -> None:
    """The same model, as if nothing had been thinned out."""
    log = made_impressions(8_000, seed=1, level=-3.0)

    corrected, off = (trained(log, calibrator="none", negative_rate=0.3, correct=correct) for correct in (True, False))

    assert (corrected.correction < -1.0, off.correction) == (True, 0.0)
    np.testing.assert_array_equal(off.model.raw_logit(log.encoded), corrected.model.raw_logit(log.encoded))


def test_the_calibrator_hides_a_missing_correction() -> None:
    """Which is why the test above turns it off: with it on, the mean is right and the fault invisible."""
    log, later = made_impressions(40_000, seed=1, level=-3.0), made_impressions(40_000, seed=2, level=-3.0)

    uncorrected = trained(log, negative_rate=0.1, correct=False)

    assert p_click(uncorrected, later).mean() / later.clicked.mean() == pytest.approx(1.0, abs=0.1)


def test_the_same_seed_gives_the_same_outcome() -> None:
    """Figures on a card can be made again."""
    log = made_impressions(3_000, seed=1)

    first, second = (trained(log, "gbdt", seed=4) for _ in range(2))

    assert first.metrics == second.metrics
    np.testing.assert_array_equal(p_click(first, log), p_click(second, log))


def test_the_tail_takes_part_in_no_choice() -> None:
    """Labels of the last 20 % turned round: the metrics change, the model that was measured does not."""
    log = made_impressions(3_000, seed=1)
    cut = 2_400
    turned = dataclasses.replace(log, clicked=np.r_[log.clicked[:cut], ~log.clicked[cut:]])

    honest, fooled = trained(log), trained(turned)

    promised = [o.metrics["calibration_ratio"].value * o.metrics["calibration_ratio"].clicks for o in (honest, fooled)]
    assert promised[0] == pytest.approx(promised[1], rel=1e-9)
    assert honest.metrics["auc"].value == pytest.approx(1.0 - fooled.metrics["auc"].value, abs=1e-9)


def test_progress_rises_to_one_and_names_its_stages() -> None:
    """A person waits better when told for what."""
    told: list[tuple[str, float]] = []

    train(
        made_impressions(1_000), LogisticTrainer(), TrainOptions(), 0, lambda stage, share: told.append((stage, share))
    )

    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert (shares[0], told[-1]) == (0.0, ("trained", 1.0))
    assert len({stage for stage, _ in told}) == len(told)


def test_a_log_of_hashes_alone_can_be_learnt() -> None:
    """Some logs have no numbers at all."""
    log = made_impressions(8_000)
    hashes = TrainingSet(
        Encoded(np.empty((8_000, 0), np.float32), log.encoded.ids), log.clicked, log.time_ms, (), log.id_names
    )

    assert trained(hashes, "gbdt").metrics["auc"].value > 0.6


def every(clicked: bool) -> TrainingSet:
    log = made_impressions(1_000)
    return dataclasses.replace(log, clicked=np.full(1_000, clicked))


def clicks_only_at(part: slice) -> TrainingSet:
    log = made_impressions(1_000)
    clicked = np.zeros(1_000, dtype=np.bool_)
    clicked[part] = np.arange(1_000)[part] % 3 == 0
    return dataclasses.replace(log, clicked=clicked)


def with_infinity() -> TrainingSet:
    log = made_impressions(1_000)
    log.encoded.features[17, 1] = np.inf
    return log


def without_columns() -> TrainingSet:
    log = made_impressions(1_000)
    nothing = Encoded(np.empty((1_000, 0), np.float32), np.empty((1_000, 0), np.int64))
    return TrainingSet(nothing, log.clicked, log.time_ms, (), ())


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (made_impressions(0), "0 impressions with 0 clicks are too few"),
        (made_impressions(50), "50 impressions .* too few"),
        (every(False), "1000 impressions with 0 clicks are too few"),
        (every(True), "too few .* 20 non-clicks"),
        (clicks_only_at(slice(800, None)), "too uneven over time"),
        (clicks_only_at(slice(0, 200)), "too uneven over time"),
        (made_impressions(1_000).take(np.arange(1_000)[::-1]), "must be in time order"),
        (with_infinity(), r"\['context\.age'\] hold infinities"),
        (without_columns(), "no columns to learn from"),
    ],
    ids=[
        "none",
        "few",
        "no clicks",
        "only clicks",
        "clicks late",
        "clicks early",
        "disorder",
        "infinity",
        "no columns",
    ],
)
def test_what_cannot_be_learnt_from_is_refused_with_the_way_out(log: TrainingSet, message: str) -> None:
    """Before any learner sees it, in words that name the numbers."""
    with pytest.raises(TrainingError, match=message):
        trained(log)


@pytest.mark.parametrize("learner", EVERY_LEARNER)
def test_constant_columns_make_a_base_rate_model(learner: str) -> None:
    """Nothing to split on is not an error either."""
    log = made_impressions(1_000)
    constant = Encoded(np.ones((1_000, 3), np.float32), np.full((1_000, 2), 7))

    outcome = trained(dataclasses.replace(log, encoded=constant), learner)

    assert not outcome.better_than_base_rate
    assert p_click(outcome, log).mean() == pytest.approx(log.clicked.mean(), rel=0.05)


@pytest.mark.parametrize("calibrator", ["auto", "beta", "isotonic"])
def test_a_model_with_one_answer_gets_no_calibrator(calibrator: str) -> None:
    """Its blocks' answers differ by their own clicks alone; a map of those would be luck called a fit."""
    outcome = trained(made_impressions(12_000, seed=2), "base-rate", calibrator=calibrator)

    assert outcome.calibrator.kind == "identity"
    assert outcome.calibrator.clicks == 0


def test_a_negative_seed_is_refused() -> None:
    """Generators take none, and their own message would name no flag."""
    with pytest.raises(TrainingError, match="got -1"):
        trained(made_impressions(1_000), seed=-1)
