"""The alarm on figures too good to be true: it rings for a leak, names the column, and keeps quiet otherwise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from models.encoder import Encoded
from models.evaluation.suspicion import suspicion_of
from models.registry.gate import Gate
from models.registry.manifest import Interval
from models.trainers import trainer_named
from models.trainers.trainer import TrainingSet
from models.training import TrainOptions, TrainOutcome, train
from tests.learning import interval, made_impressions, made_manifest

LOG = made_impressions(2_000, seed=1)
CREDIBLE = {"auc": interval(0.8, 0.02), "normalized_entropy": interval(0.8, 0.05)}


def with_number(log: TrainingSet, values: np.ndarray) -> TrainingSet:
    """The log with its third number replaced."""
    features = log.encoded.features.copy()
    features[:, 2] = values
    return dataclasses.replace(log, encoded=Encoded(features, log.encoded.ids))


def trained(log: TrainingSet) -> TrainOutcome:
    return train(log, trainer_named("gbdt"), TrainOptions(), 0, lambda stage, share: None)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_column_made_from_the_outcome_rings_and_is_named(sign: float) -> None:
    """In either direction; the others stand behind it with the AUC that they have."""
    noise = np.random.default_rng(5).normal(scale=0.1, size=len(LOG))

    suspicion = trained(with_number(LOG, sign * LOG.clicked + noise)).suspicion

    assert suspicion is not None
    assert suspicion.columns[0].column == "context.noise"
    assert suspicion.columns[0].auc.low > 0.95
    assert suspicion.columns[1].auc.value < 0.9
    assert "context.noise (AUC 1.0000" in suspicion.described()


def test_being_missing_can_be_the_leak() -> None:
    """A conversion value that only clicked impressions have says nothing as a number."""
    suspicion = trained(with_number(LOG, np.where(LOG.clicked, 3.0, np.nan))).suspicion

    assert suspicion is not None
    assert suspicion.columns[0].column == "context.noise"


def test_an_id_column_can_leak_too() -> None:
    """A status column; its hashes have no order but a click rate."""
    ids = LOG.encoded.ids.copy()
    ids[:, 1] = np.where(LOG.clicked, 11, 12)
    leaky = dataclasses.replace(LOG, encoded=Encoded(LOG.encoded.features, ids))

    suspicion = trained(leaky).suspicion

    assert suspicion is not None
    assert suspicion.columns[0].column == "context.rare"
    assert suspicion.columns[0].auc.value == 1.0


def test_an_honest_model_rings_nothing() -> None:
    """An alarm that rings for good work is switched off."""
    assert trained(LOG).suspicion is None


@pytest.mark.parametrize(
    ("figures", "rings"),
    [
        ({"auc": Interval(0.99, 0.981, 1.0, 1_000, 100)}, True),
        ({"auc": Interval(1.0, 0.9, 1.0, 40, 4)}, False),
        ({"normalized_entropy": Interval(0.15, 0.1, 0.19, 1_000, 100)}, True),
        ({"normalized_entropy": Interval(0.15, 0.1, 0.3, 1_000, 100)}, False),
        ({}, False),
    ],
    ids=["AUC", "AUC by luck", "NE", "NE by luck", "credible"],
)
def test_only_the_end_of_an_interval_rings(figures: dict[str, Interval], rings: bool) -> None:
    """A short tail is often perfect by luck."""
    assert (suspicion_of(CREDIBLE | figures, LOG, LOG, seed=0) is not None) == rings


def test_the_gate_waits_for_a_person() -> None:
    """Better than everything before it is exactly how a leak looks."""
    suspicion = suspicion_of(CREDIBLE | {"auc": Interval(0.99, 0.985, 1.0, 1_000, 100)}, LOG, LOG, seed=0)
    candidate = made_manifest(suspicion=suspicion)

    refused, vouched_for = Gate().judge(candidate, None), Gate(accept_suspicious=True).judge(candidate, None)

    assert not refused.passed
    assert "AUC is at least 0.9850" in refused.reasons[0]
    assert "--accept-suspicious" in refused.reasons[0]
    assert vouched_for.passed
