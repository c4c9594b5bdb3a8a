"""A new model against the champion: on impressions later than the champion's own training, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.calibrator import Float64s
from models.challenge import challenge
from models.logs.frame import TrainingFrame, build_frame
from models.publication import Provenance, publish
from models.registry.gate import Gate
from models.registry.manifest import Challenge, Label
from models.registry.registry import Registry
from models.trainers import trainer_named
from models.training import TrainOptions, TrainOutcome, train, training_set
from tests.logs import shop_log

N = 6_000
START_MS = 1_700_000_000_000
CONTEXT = "[context.price]\n"


def shop_frame(folder: Path, context: str = CONTEXT) -> TrainingFrame:
    """Impressions a second apart, whose clicks depend on the price."""
    folder.mkdir()
    random = np.random.default_rng(0)
    price = random.normal(size=N)
    hit = random.random(N) < 1.0 / (1.0 + np.exp(2.0 - price))
    at = START_MS + np.arange(N) * 1_000
    ids = {name: [f"{name}{i % 50}" for i in range(N)] for name in ("who", "what")}
    return build_frame(shop_log(folder, context, ids | {"at": at, "hit": hit, "hit_at": at + 1, "price": price}))


def trained(frame: TrainingFrame) -> TrainOutcome:
    return train(training_set(frame), trainer_named("logistic"), TrainOptions(), 0, lambda stage, share: None)


def judged(outcome: TrainOutcome) -> tuple[Float64s, int]:
    return outcome.held_out_p, outcome.seed


def champion_of(frame: TrainingFrame, registry: Registry, label: str = "click") -> str:
    provenance = Provenance("made", Label(label), "none", created_ms=START_MS)
    published = publish(trained(frame), frame.inputs, provenance, registry, Gate(), lambda stage, share: None)
    assert published.is_champion
    return published.version


@pytest.fixture
def frame(tmp_path: Path) -> TrainingFrame:
    return shop_frame(tmp_path / "log")


def test_both_are_measured_on_what_the_champion_has_not_seen(frame: TrainingFrame, tmp_path: Path) -> None:
    """Trained up to 85 % of the log, the champion has seen a part of the newcomer's tail: only the rest counts."""
    registry = Registry(tmp_path / "registry")
    version = champion_of(frame.part(0, 0.85), registry)

    found = challenge(registry, version, frame, *judged(trained(frame)))

    assert found.entropy_difference is not None
    assert found.entropy_difference.n == N * 0.15
    assert found.entropy_difference.low <= 0.0 <= found.entropy_difference.high
    assert abs(found.entropy_difference.value) < 0.01


def why_not(found: Challenge) -> str:
    assert found.entropy_difference is None
    return found.why_not


def test_a_champion_that_has_seen_the_tail_is_not_compared(frame: TrainingFrame, tmp_path: Path) -> None:
    """It knows those clicks by heart and would win unfairly."""
    registry = Registry(tmp_path / "registry")

    found = challenge(registry, champion_of(frame, registry), frame, *judged(trained(frame)))

    assert "only 0 held-out impressions with 0 clicks are later than its training" in why_not(found)


def test_a_champion_of_another_kind_is_not_compared(frame: TrainingFrame, tmp_path: Path) -> None:
    """Other columns, another label or a damaged file: said in words, and the newcomer is published all the same."""
    registry, others = Registry(tmp_path / "registry"), Registry(tmp_path / "registry", name="others")
    elsewhere = shop_frame(tmp_path / "elsewhere", "[context.price]\n[context.at]\n")
    outcome, early = trained(frame), frame.part(0, 0.5)

    other_label = challenge(others, champion_of(early, others, label="purchase"), frame, *judged(outcome))
    version = champion_of(early, registry)
    other_columns = challenge(registry, version, elsewhere, *judged(outcome))
    (registry.get(version).path / "model.onnx").write_bytes(b"")
    damaged = challenge(registry, version, frame, *judged(outcome))

    assert why_not(other_label) == "it predicts another label"
    assert "context.at" in why_not(other_columns)
    assert "model.onnx is not the file" in why_not(damaged)
