"""Placements that are miscalibrated differently, from the log to the served probability.

Every click follows features of user, ad and context, and the placement, which learners do not see: it is named by
`calibrator_segment` alone, as a column of the context, of the ad or of the user.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from feature_store.schema import ContextFeature, EntityName, Feature, FeatureView, TableSource
from models.calibrator import sigmoid
from models.encoder import Block, Encoder, ModelInputs, Side
from models.evaluation.intervals import ratio_interval
from models.evaluation.metrics import calibration_ratio
from models.logs.frame import build_frame
from models.plans.choice import PlanChoice
from models.plans.kernel import compiled_kernels_trouble
from models.publication import Provenance, publish
from models.registry.artifact import ModelArtifact
from models.registry.gate import Gate
from models.registry.manifest import Interval, Label
from models.registry.predictor import Predictor
from models.registry.registry import Registry
from models.segments import segment_column
from models.trainers import trainer_named
from models.trainers.trainer import TrainingSet
from models.training import TrainOptions, TrainOutcome, train
from service.candidates import GivenAds
from tests.conftest import REPOSITORY
from tests.logs import random_columns, shop_log

N_TRAINING, N_LATER = 60_000, 24_000
SHIFTS = np.array([0.0, 0.9, -0.9, 0.3])
"""In log-odds, by placement; placement 0 stands for "no placement"."""
SIDES = (Side.USER, Side.AD, Side.CONTEXT)
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Impressions:
    """n impressions as blocks of n rows, the placement of each, and whether it was clicked."""

    user: Block
    ads: Block
    context: Block
    placement: npt.NDArray[np.int64]
    clicked: npt.NDArray[np.bool_]

    def training_set(self, inputs: ModelInputs) -> TrainingSet:
        encoder = Encoder(inputs)
        time_ms = np.arange(len(self.clicked), dtype=np.int64)
        encoded = encoder.encode(self.user, self.ads, self.context)
        return TrainingSet(encoded, self.clicked, time_ms, encoder.float_names, encoder.id_names)


def inputs_naming(side: Side) -> ModelInputs:
    """One feature of each side, and the segment beside that of `side`."""

    def view(entity: EntityName, name: str, *more: str) -> FeatureView:
        features = tuple(Feature(name=each) for each in (name, *more))
        source = TableSource(columns=tuple(feature.name for feature in features))
        return FeatureView(
            name=f"{entity}_profile", entity=entity, features=features, source=source, hash_seed=0, ttl_ms=DAY_MS
        )

    segment = {each: ("calibrator_segment",) if each is side else () for each in SIDES}
    return ModelInputs(
        project="placements",
        views=(view("user", "activity", *segment[Side.USER]), view("ad", "ctr_7d", *segment[Side.AD])),
        context=tuple(ContextFeature(name=name) for name in ("hour", *segment[Side.CONTEXT])),
        pairs=(),
        hash_seed=0,
    )


def made(n: int, side: Side, seed: int) -> Impressions:
    random = np.random.default_rng(seed)
    placement = random.integers(0, len(SHIFTS), size=n)
    values = random.normal(size=(3, n)).astype(np.float32)
    log_odds = -2.0 + values[0] + 0.8 * values[1] + 0.3 * values[2] + SHIFTS[placement]
    blocks = [
        Block(
            np.column_stack([column, placement] if each is side else [column]).astype(np.float32),
            np.empty((n, 0), np.uint32),
        )
        for each, column in zip(SIDES, values, strict=True)
    ]
    return Impressions(*blocks, placement, random.random(n) < sigmoid(log_odds))


@cache
def trained(side: Side, learner: str = "logistic", n: int = N_TRAINING) -> TrainOutcome:
    """Made once; nobody changes an outcome."""
    log = made(n, side, seed=1).training_set(inputs_naming(side))
    return train(log, trainer_named(learner), TrainOptions(), 0, lambda stage, share: None)


def published(folder: Path, outcome: TrainOutcome, side: Side) -> ModelArtifact:
    provenance = Provenance("made", Label("click"), "there are no positions", 1_763_690_000_000)
    registry = Registry(folder)
    version = publish(outcome, inputs_naming(side), provenance, registry, Gate(), lambda stage, share: None).version
    return registry.get(version)


def by_placement(predictor: Predictor, later: Impressions) -> list[Interval]:
    """Promised / seen clicks of each placement, with its 95 % interval, n and clicks."""
    p_click = predictor.score(later.user, later.ads, later.context).p_click
    return [
        calibration(later.clicked[inside], p_click[inside])
        for inside in (later.placement == placement for placement in range(1, len(SHIFTS)))
    ]


def calibration(clicked: npt.NDArray[np.bool_], p_click: npt.NDArray[np.float64]) -> Interval:
    """As a card tells it, without the figures beside it, whose intervals are drawn."""
    low, high = ratio_interval(clicked, p_click, None)
    return Interval(calibration_ratio(clicked, p_click), low, high, len(clicked), int(clicked.sum()))


def covers_1(ratio: Interval) -> bool:
    return ratio.low <= 1.0 <= ratio.high


@pytest.mark.parametrize("learner", ["gbdt", "logistic", "ftrl"])
def test_every_placement_gets_true_probabilities(tmp_path: Path, learner: str) -> None:
    """Four later logs, each placement of about 6 000 impressions and 500 to 1 900 clicks.

    Of twelve 95 % intervals of exact probabilities eleven hold 1 on average; without segments none does.
    """
    outcome = trained(Side.CONTEXT, learner)
    common = replace(outcome, calibrator=replace(outcome.calibrator, segments=None))
    later = [made(N_LATER, Side.CONTEXT, seed) for seed in (2, 3, 4, 5)]

    with_segments, without = (
        [ratio for log in later for ratio in by_placement(predictor, log)]
        for predictor in (
            Predictor(published(tmp_path / name, each, Side.CONTEXT))
            for name, each in (("with", outcome), ("without", common))
        )
    )

    assert all(ratio.n > 5_500 and ratio.clicks > 500 for ratio in with_segments)
    assert sum(map(covers_1, with_segments)) >= 10
    assert sum(map(covers_1, without)) == 0


@pytest.mark.parametrize("learner", ["gbdt", "logistic", "fm", "xgboost"])
def test_the_score_knows_nothing_of_segments(learner: str) -> None:
    """Another segment is another probability of the same margin: the column is for the calibrator alone."""
    outcome = trained(Side.CONTEXT, learner, n=15_000)
    rows = outcome.examples.features.copy()
    assert outcome.calibrator.segments is not None

    margins = []
    for value in (0.0, 2.0, 900.0, np.nan):
        rows[:, outcome.calibrator.segments.column] = value
        margins.append(outcome.model.raw_logit(outcome.examples._replace(features=rows)))

    assert "context.calibrator_segment" not in outcome.model.importance
    for known in margins[1:-1]:
        np.testing.assert_array_equal(known, margins[0])
    # A solver leaves a trace of weight on the bin that all training rows lie in, and a missing value has another bin.
    np.testing.assert_allclose(margins[-1], margins[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize("kernel", ["compiled", "numpy"])
@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.name.lower())
def test_a_request_is_calibrated_by_whoever_names_the_segment(tmp_path: Path, side: Side, kernel: str) -> None:
    """One segment for all candidates or one each: the plan answers as ONNX Runtime does on whole rows."""
    if kernel == "compiled" and compiled_kernels_trouble():
        pytest.skip("the compiled kernels were not built")
    artifact = published(tmp_path, trained(side), side)
    predictor = Predictor(artifact, PlanChoice(kernel=kernel))  # type: ignore[arg-type]
    generic = Predictor(artifact, PlanChoice("generic"))
    n, later = 30, made(30, side, seed=3)
    user, context = (Block(block.floats[:1].copy(), block.ids[:1]) for block in (later.user, later.context))
    naming = {Side.USER: user, Side.AD: later.ads, Side.CONTEXT: context}[side]

    for segment in (*range(len(SHIFTS)), 77.0, 0.5, -1.0, np.nan, None):
        if segment is not None:  # at last as they were made, of many placements
            naming.floats[: n if side is not Side.AD else 10, 1] = segment

        answered = predictor.score_ads(user, context, GivenAds(later.ads))

        wanted = generic.score_ads(user, context, GivenAds(later.ads))
        np.testing.assert_allclose(answered.p_click, wanted.p_click, rtol=1e-9)

    assert predictor.fallback is None
    assert predictor.factorised is not None
    assert predictor.factorised.segment_side is side


def test_many_users_and_contexts_have_a_segment_each(tmp_path: Path) -> None:
    """Predictions of n instances: user and context have n rows."""
    later = made(500, Side.USER, seed=3)
    artifact = published(tmp_path, trained(Side.USER), Side.USER)

    answered, wanted = (
        Predictor(artifact, PlanChoice(plan)).score_ads(later.user, later.context, GivenAds(later.ads)).p_click
        for plan in ("auto", "generic")
    )

    np.testing.assert_allclose(answered, wanted, rtol=1e-9)


def test_manifest_and_card_tell_of_segments(tmp_path: Path) -> None:
    """Whose clicks are behind which line."""
    artifact = published(tmp_path, trained(Side.CONTEXT), Side.CONTEXT)

    calibrator = artifact.manifest.calibrator

    assert calibrator.segment_column == "context.calibrator_segment"
    assert [segment.number for segment in calibrator.segments] == [1, 2, 3]
    assert [round(segment.shift, 1) for segment in calibrator.segments][:2] != [0.0, 0.0]
    assert sum(segment.fitted_on for segment in calibrator.segments) == pytest.approx(N_TRAINING * 3 / 4, rel=0.02)
    for name in ("card.md", "card.html"):
        assert f"3 ({calibrator.segments[2].clicks:,} clicks) calibrated by a line of their own" in (
            artifact.files[name].decode()
        )


@pytest.mark.parametrize("ad", ["a0", "a1", "a2"])
def test_new_and_known_ads_are_segments_by_the_documented_view(tmp_path: Path, ad: str) -> None:
    """The first 100 impressions of an ad are of segment 1, the first of all included; later ones of segment 2."""
    page = (REPOSITORY / "docs/features-toml.md").read_text()
    view = next(block for block in page.split("```") if "[views.ad_experience]" in block)
    columns = random_columns(0, 600, n_ads=3)
    frame = build_frame(shop_log(tmp_path, view[view.index("[views.") :], columns))
    encoder = Encoder(frame.inputs)
    column = segment_column(encoder.float_names, encoder.id_names)
    assert column is not None

    segment = frame.encode(encoder).features[:, column]

    shown = frame.ads.codes == frame.ads.values.index(ad)
    earlier, at = frame.earlier_of_ad[shown], frame.time_ms[shown]
    known_since = at[99]  # minutes are coarse: impressions of the same one are not yet after the 100th
    assert earlier.max() > 150
    assert segment[shown].tolist() == np.where(at > known_since, 2.0, 1.0).tolist()
    assert frame.warnings() == ()
