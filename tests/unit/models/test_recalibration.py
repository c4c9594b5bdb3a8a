"""Recalibrating: level from fresh clicks, order and core as they were."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calibrator import CalibratorChoice, CalibratorMap, Float64s, sigmoid
from models.errors import TrainingError
from models.evaluation.reference import Reference
from models.export.graph import calibrator_sha256, core_sha256, with_calibrator
from models.fitting.segments import kept_lines
from models.logs.frame import TrainingFrame, build_frame
from models.plans.generic import GenericPlan
from models.plans.source import calibrator_of
from models.publication import Provenance, publish
from models.recalibration import Recalibration, publish_recalibrated, recalibrate
from models.registry.artifact import ModelArtifact
from models.registry.gate import Gate
from models.registry.manifest import Label
from models.registry.predictor import Predictor
from models.registry.registry import Published, Registry
from models.segments import SegmentLines
from models.trainers import trainer_named
from models.training import TrainOptions, train, training_set
from tests.logs import shop_log

N = 24_000
START_MS = 1_700_000_000_000
TRAINED_SHARE = 0.5
CONTEXT = """
[context.price]
[context.calibrator_segment]
column = "market"
"""


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> TrainingFrame:
    """Two markets; in the second half of the log four of ten clicks no longer happen."""
    random = np.random.default_rng(0)
    price = random.normal(size=N)
    market = random.integers(1, 4, size=N)
    hit = random.random(N) < sigmoid(price + 0.5 * market - 3.0)
    hit &= (np.arange(N) < TRAINED_SHARE * N) | (random.random(N) < 0.6)
    at = START_MS + np.arange(N) * 1_000
    ids = {name: [f"{name}{i % 50}" for i in range(N)] for name in ("who", "what")}
    columns = ids | {"at": at, "hit": hit, "hit_at": at + 1, "price": price, "market": market}
    return build_frame(shop_log(tmp_path_factory.mktemp("shop"), CONTEXT, columns))


@pytest.fixture(scope="module")
def registry(frame: TrainingFrame, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The champion learnt from the first half."""
    registry = Registry(tmp_path_factory.mktemp("registry"))
    part = frame.part(0, TRAINED_SHARE)
    outcome = train(training_set(part), trainer_named("gbdt"), TrainOptions(), 0, lambda stage, share: None)
    provenance = Provenance("made", Label("click"), "none", created_ms=START_MS)
    publish(outcome, part.inputs, provenance, registry, Gate(), lambda stage, share: None)
    return registry


@pytest.fixture(scope="module")
def artifact(registry: Registry) -> ModelArtifact:
    return registry.get(registry.newest())


@pytest.fixture(scope="module")
def found(artifact: ModelArtifact, frame: TrainingFrame) -> Recalibration:
    return recalibrate(Predictor(artifact), artifact.graph, frame, "made", seed=0)


@pytest.fixture(scope="module")
def published(registry: Registry, artifact: ModelArtifact, found: Recalibration) -> Published:
    return publish_recalibrated(artifact, found, registry, Gate(), source="made", created_ms=START_MS, challenge=None)


def test_the_promise_comes_back_to_what_is_seen(found: Recalibration) -> None:
    """Judged on impressions that the calibrator in question was not fitted to."""
    before, after = found.before["calibration_ratio"], found.after["calibration_ratio"]

    assert before.low > 1.3
    assert after.low < 1.0 < after.high
    assert found.after["normalized_entropy"].value < found.before["normalized_entropy"].value
    assert found.p_click.sum() == pytest.approx(np.count_nonzero(found.fresh.clicked), rel=0.01)


def test_only_impressions_later_than_the_training_count(found: Recalibration, artifact: ModelArtifact) -> None:
    """Scores of the training's own impressions are too good, and would make the calibrator too sure."""
    assert len(found.fresh) == N * (1 - TRAINED_SHARE)
    assert found.fresh.time_ms[0] > artifact.manifest.trained_on.last_ms


def test_order_inside_a_segment_is_the_old_one(found: Recalibration) -> None:
    """Whoever was ahead of another ad at the same place stays ahead, ties included."""
    segments = found.calibrator.segments
    assert segments is not None
    market = segments.numbers(found.rows.features[:, segments.column])

    for number in np.unique(market):
        inside = market == number
        raw_logit, p_click = (values[-len(market) :][inside] for values in (found.raw_logit, found.p_click))
        order = np.argsort(raw_logit)
        rises = np.diff(raw_logit[order]) > 0
        assert np.array_equal(np.diff(p_click[order]) > 0, rises)


def test_the_core_is_published_again_to_the_bit(published: Published, artifact: ModelArtifact) -> None:
    """Tables of a running service are keyed by its hash, and stay."""
    again = Registry(published.path.parent.parent).get(published.version)
    rows = artifact.golden
    old, new = (GenericPlan(some.graph).score(rows.features, rows.ids) for some in (artifact, again))

    assert published.manifest.core_sha256 == core_sha256(again.graph) == artifact.manifest.core_sha256
    assert calibrator_sha256(again.graph) != artifact.manifest.calibrator_sha256
    assert np.array_equal(old.raw_logit, new.raw_logit)
    assert new.p_click.mean() < old.p_click.mean()
    assert published.manifest.proof.holds


def test_the_published_version_says_what_it_is(published: Published, artifact: ModelArtifact) -> None:
    """A person who reads the card must not take it for a new training."""
    fresh = published.manifest.recalibrated
    card = (published.path / "card.md").read_text()
    again = msgspec.json.decode((published.path / "reference.json").read_bytes(), type=Reference)
    trained = msgspec.json.decode(artifact.files["reference.json"], type=Reference)

    assert fresh is not None
    assert fresh.version == artifact.manifest.version
    assert published.manifest.trained_on == artifact.manifest.trained_on
    assert published.manifest.importance == artifact.manifest.importance != {}
    assert f"The core is that of version {fresh.version}, to the bit" in card
    assert (again.floats, again.ids) == (trained.floats, trained.ids)
    assert again.p_click != trained.p_click


def test_a_recalibrated_version_is_recalibrated_again(
    registry: Registry, published: Published, frame: TrainingFrame
) -> None:
    """Every hour, from the last version: its own fresh clicks do not count as training."""
    artifact = registry.get(published.version)

    again = recalibrate(Predictor(artifact), artifact.graph, frame, "made", seed=0)

    assert again.correction == pytest.approx(0.0)
    assert again.before["calibration_ratio"].value == pytest.approx(1.0, abs=0.1)


def test_a_log_without_anything_fresh_is_refused(artifact: ModelArtifact, frame: TrainingFrame) -> None:
    """It would look like success and change nothing but the trust in the figures."""
    with pytest.raises(TrainingError, match="recalibrating needs later ones"):
        recalibrate(Predictor(artifact), artifact.graph, frame.part(0, TRAINED_SHARE), "made", seed=0)


def test_too_few_fresh_clicks_are_refused_with_their_number(artifact: ModelArtifact, frame: TrainingFrame) -> None:
    """200 clicks carry a line; fewer would be luck."""
    with pytest.raises(
        TrainingError, match=r"of \d+ fresh impressions the first 80 % are to fit on: \d+ with \d+ clicks; 200 clicks"
    ):
        recalibrate(Predictor(artifact), artifact.graph, frame.part(0, TRAINED_SHARE + 0.02), "made", seed=0)


def test_what_fits_nothing_needs_no_clicks_to_fit_on(artifact: ModelArtifact, frame: TrainingFrame) -> None:
    """It only takes a calibrator away; a click to judge by is enough."""
    few = frame.part(0, TRAINED_SHARE + 0.02)

    found = recalibrate(Predictor(artifact), artifact.graph, few, "made", seed=0, choice="none")

    assert found.calibrator.kind == "identity"


@given(
    x=st.lists(st.floats(-20, 20), min_size=2, max_size=30, unique=True),
    knots=st.lists(st.floats(-5, 5), max_size=5, unique=True),
    slopes=st.lists(st.floats(0.1, 10), min_size=6, max_size=6),
    offset=st.floats(-5, 5),
    line=st.tuples(st.floats(0.1, 10), st.floats(-5, 5)),
)
def test_a_map_and_a_line_are_one_map(
    x: list[float], knots: list[float], slopes: list[float], offset: float, line: tuple[float, float]
) -> None:
    """So that a recalibrated calibrator needs no other graph and no other kernel."""
    bent = CalibratorMap("piecewise", offset, np.array(sorted(knots)), np.array(slopes[: len(knots) + 1]))
    scale, shift = line

    joined = bent.followed_by(CalibratorMap("platt", shift, np.empty(0), np.array([scale])))

    values: Float64s = np.array(x)
    assert joined(values) == pytest.approx(scale * bent(values) + shift, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("choice", ["platt", "beta", "piecewise", "isotonic"])
def test_a_kind_that_is_named_is_fitted_anew(
    registry: Registry, artifact: ModelArtifact, frame: TrainingFrame, choice: CalibratorChoice
) -> None:
    """However few the clicks; the published version says which, and its level, order and core hold as ever."""
    found = recalibrate(Predictor(artifact), artifact.graph, frame, "made", 0, choice)
    version = publish_recalibrated(
        artifact, found, registry, Gate(), source="made", created_ms=START_MS, challenge=None
    )

    assert version.manifest.calibrator.kind == choice
    assert f"(calibrator: {choice}, fitted on" in (version.path / "card.md").read_text()
    assert version.manifest.core_sha256 == artifact.manifest.core_sha256
    assert version.manifest.proof.holds
    assert found.after["calibration_ratio"].low < 1.0 < found.after["calibration_ratio"].high
    assert found.p_click.sum() == pytest.approx(np.count_nonzero(found.fresh.clicked), rel=0.01)
    assert found.calibrator.segments is not None
    market = found.calibrator.segments.numbers(found.rows.features[:, found.calibrator.segments.column])
    for number in np.unique(market):
        raw_logit, p_click = (values[market == number] for values in (found.raw_logit, found.p_click))
        order = np.argsort(raw_logit)
        assert np.array_equal(np.diff(p_click[order]) > 0, np.diff(raw_logit[order]) > 0)


def test_without_a_calibrator_scores_are_taken_at_their_word(artifact: ModelArtifact, frame: TrainingFrame) -> None:
    """The column that names segments stays named, so that the next recalibration finds it."""
    found = recalibrate(Predictor(artifact), artifact.graph, frame, "made", 0, "none")

    assert found.calibrator.kind == "identity"
    assert found.calibrator.segments is not None
    assert len(found.calibrator.segments) == 1
    assert found.p_click == pytest.approx(sigmoid(found.raw_logit + found.correction))


def test_a_line_behind_a_bent_map_leaves_its_kind(artifact: ModelArtifact, frame: TrainingFrame) -> None:
    """A graph does not know who put its knots where they are; the manifest does."""
    calibrator = msgspec.structs.replace(artifact.manifest.calibrator, kind="isotonic")
    predictor = Predictor(replace(artifact, manifest=msgspec.structs.replace(artifact.manifest, calibrator=calibrator)))
    bend = CalibratorMap("isotonic", 0.25, np.array([-2.0, 1.0]), np.array([0.5, 1.25, 2.0]))

    found = recalibrate(predictor, with_calibrator(artifact.graph, 0.0, bend), frame, "made", 0)

    assert found.calibrator.kind == "isotonic"
    assert found.calibrator.knots.tolist() == [-2.0, 1.0]


def test_only_a_plain_line_can_follow() -> None:
    """Two bent maps in a row are no bent map of the sum of their knots."""
    line, bend = CalibratorMap.identity(), CalibratorMap("piecewise", 0.0, np.zeros(1), np.array([1.0, 2.0]))
    segmented = replace(line, segments=SegmentLines(0, np.ones(1), np.zeros(1)))

    for first, then in ((line, bend), (line, segmented), (segmented, line)):
        with pytest.raises(TrainingError, match="only a straight line can follow"):
            first.followed_by(then)


def test_a_segment_without_fresh_clicks_keeps_its_line() -> None:
    """A market that was closed for a week is not made average."""
    old = SegmentLines(2, np.array([1.0, 1.5, 0.5]), np.array([0.0, 0.3, -0.2]))
    new = SegmentLines(2, np.array([1.0, 1.2]), np.array([0.0, 0.1]), (0, 5_000), (0, 300))

    kept = kept_lines(old, new)

    assert kept.scales.tolist() == [1.0, 1.2, 0.5]
    assert kept.shifts.tolist() == [0.0, 0.1, -0.2]
    assert kept.clicks == (0, 300, 0)


def test_a_graph_takes_any_other_calibrator(artifact: ModelArtifact) -> None:
    """And gives it back as it was put in."""
    bend = CalibratorMap("piecewise", 0.25, np.array([-2.0, 1.0]), np.array([0.5, 1.25, 2.0]))

    graph = with_calibrator(artifact.graph, -0.5, bend)

    correction, read = calibrator_of(graph)
    assert core_sha256(graph) == artifact.manifest.core_sha256
    assert (correction, read.offset) == (-0.5, 0.25)
    assert (read.knots.tolist(), read.slopes.tolist()) == (bend.knots.tolist(), bend.slopes.tolist())
