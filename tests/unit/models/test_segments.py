"""Segments of a calibrator: which a row is of, what their lines are fitted to, and that the graph knows them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from models.calibrator import CalibratorMap, p_click_of, sigmoid
from models.encoder import Columns, Layout
from models.errors import EncodingError, PlanError, TrainingError
from models.export.graph import calibrator_sha256, core_sha256, export_graph
from models.export.proof import prove
from models.fitting.calibrating_line import fit_line
from models.fitting.segments import LARGEST_SEGMENT, MIN_CLICKS_SEGMENT, fit_segments
from models.plans.factorised import factorised_plan
from models.plans.generic import GenericPlan
from models.plans.jumps import jump_rows
from models.plans.source import plan_source
from models.segments import SegmentLines, segment_column
from models.trainers import trainer_named
from tests.learning import made_impressions

LOG = made_impressions(3_000, seed=1)
MODEL = trainer_named("logistic").fit(LOG, 3, 1.0, seed=0)
BEND = CalibratorMap("piecewise", 0.1, np.array([-2.0, 0.0, 1.0]), np.array([0.5, 1.2, 0.3, 2.0]))
LINES = SegmentLines(1, np.array([1.0, 0.5, 2.0]), np.array([0.0, 0.7, -0.3]))
SEGMENTED = replace(BEND, segments=LINES)


def graph_of(calibrator: CalibratorMap) -> bytes:
    return export_graph(MODEL.spec, -0.5, calibrator, n_features=3, n_ids=2)


def layout(user: int, ad: int, context: int, pair: int) -> Layout:
    """So many numbers of each side, and two hashes of the user."""
    ends = np.cumsum([0, user, ad, context, pair]).tolist()
    return Layout(
        (
            Columns(ends[0], user, 0, 2),
            Columns(ends[1], ad, 2, 0),
            Columns(ends[2], context, 2, 0),
            Columns(ends[3], pair, 2, 0),
        )
    )


def test_what_is_no_known_segment_is_segment_0() -> None:
    """Serving meets new placements before training does; they get the promise made for everybody."""
    values = np.array([0, 1, 2, 3, -1, 0.5, 1.999, -0.0, 2.0**31, 2.0**63, 3e38, np.nan, np.inf], np.float32)

    assert LINES.numbers(values).tolist() == [0, 1, 2, *[0] * 10]


@pytest.mark.parametrize(
    ("scales", "shifts"),
    [([2.0], [0.0]), ([1.0], [0.1]), ([], []), ([1.0, 1.0], [0.0]), ([1.0, 0.0], [0.0, 0.0]), ([1.0, -1.0], [0.0] * 2),
     ([1.0, np.inf], [0.0] * 2), ([1.0, np.nan], [0.0] * 2), ([1.0, 1.0], [0.0, np.nan])],
)  # fmt: skip
def test_lines_that_do_not_rise_cannot_be_made(scales: list[float], shifts: list[float]) -> None:
    """And segment 0 is everybody: its line changes nothing."""
    with pytest.raises(TrainingError):
        SegmentLines(0, np.array(scales), np.array(shifts))


@pytest.mark.parametrize("name", ["context.calibrator_segment", "ad_profile.calibrator_segment"])
def test_the_column_is_found_by_its_name(name: str) -> None:
    """Whosever it is; nothing but the name says what it is for."""
    assert segment_column(("user.age", name, "context.calibrator_segments"), ("context.site",)) == 1
    assert segment_column(("user.age",), ("context.site",)) is None


@pytest.mark.parametrize(
    ("floats", "ids"),
    [
        (("a.calibrator_segment", "context.calibrator_segment"), ()),
        ((), ("context.calibrator_segment",)),
        (("a.calibrator_segment[0]", "a.calibrator_segment[1]"), ()),
        (("pair.calibrator_segment",), ()),
    ],
    ids=["two", "hash", "vector", "pair"],
)
def test_a_column_that_cannot_name_segments_is_refused(floats: tuple[str, ...], ids: tuple[str, ...]) -> None:
    """Silently calibrated for everybody it would be wrong for months."""
    with pytest.raises(EncodingError, match="declare 'calibrator_segment' once"):
        segment_column(floats, ids)


def drawn(shift: float, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds that promise too little by `shift`, and clicks."""
    random = np.random.default_rng(seed)
    log_odds = random.normal(-2.0, 0.8, size=n)
    return log_odds, random.random(n) < sigmoid(log_odds + shift)


def test_each_segment_gets_the_line_its_clicks_ask_for() -> None:
    """Promised and seen clicks of a segment then agree to what the expectation, worth a few clicks, leaves."""
    parts = [drawn(shift, 40_000, seed) for seed, shift in enumerate((0.0, 0.8, -0.6))]
    log_odds, clicked = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    values = np.repeat(np.array([7, 3, 2], np.float32), 40_000)

    lines = fit_segments(log_odds, clicked, 5, values)

    assert (lines.column, len(lines)) == (5, 8)
    assert lines.fitted_on == (0, 0, 40_000, 40_000, 0, 0, 0, 40_000)
    assert lines.clicks[3] == np.count_nonzero(clicked[values == 3])
    for segment in (2, 3, 7):
        inside = values == segment
        promised = sigmoid(lines.scales[segment] * log_odds[inside] + lines.shifts[segment]).sum()
        assert promised == pytest.approx(np.count_nonzero(clicked[inside]), rel=2e-3)


def test_a_segment_of_few_clicks_follows_everybody() -> None:
    """A level known to 10 % is no better than the common one; what names no segment gets no line at all."""
    log_odds, clicked = drawn(1.0, 20_000)
    few = np.cumsum(clicked) < MIN_CLICKS_SEGMENT

    for value in (0, LARGEST_SEGMENT + 1, 2.5, np.nan):
        assert len(fit_segments(log_odds, clicked, 0, np.full(20_000, value, np.float32))) == 1
    assert len(fit_segments(log_odds, clicked, 0, np.where(few, 4, 0).astype(np.float32))) == 1
    assert len(fit_segments(log_odds, ~clicked, 0, np.where(few, 4, 0).astype(np.float32))) == 1
    assert len(fit_segments(log_odds, clicked, 0, np.full(20_000, LARGEST_SEGMENT, np.float32))) == 1_024


def test_segments_that_differ_by_chance_alone_stay_near_everybody() -> None:
    """Ten names for nothing: on average their lines move less than a third of what their own clicks ask for."""
    log_odds, clicked = drawn(0.0, 120_000)
    values = np.random.default_rng(8).integers(1, 11, 120_000).astype(np.float32)

    lines = fit_segments(log_odds, clicked, 0, values)
    alone = [fit_line(log_odds[values == s], clicked[values == s], pull=np.zeros(2)) for s in range(1, 11)]

    centre = log_odds.mean()
    moved, asked = (
        np.abs([scale * centre + shift - centre for scale, shift in pairs]).mean()
        for pairs in (zip(lines.scales[1:], lines.shifts[1:], strict=True), alone)
    )
    assert min(lines.clicks[1:]) >= MIN_CLICKS_SEGMENT
    assert moved < asked / 3


def test_few_clicks_are_believed_less() -> None:
    """The line of some hundred clicks lies between the common map and what these clicks say by themselves."""
    log_odds, clicked = drawn(1.0, 500)

    lines = fit_segments(log_odds, clicked, 0, np.ones(500, np.float32))
    alone = fit_line(log_odds, clicked, pull=np.zeros(2))

    centre = log_odds.mean()
    shrunk, free = (scale * centre + shift - centre for scale, shift in ((lines.scales[1], lines.shifts[1]), alone))
    assert MIN_CLICKS_SEGMENT <= lines.clicks[1] < 200
    assert 0.9 * free < shrunk < free
    assert abs(lines.scales[1] - 1) < abs(alone[0] - 1)


def test_the_graph_answers_each_row_by_its_segment() -> None:
    """Known, unknown, fractional and missing ones, in ONNX Runtime."""
    rows = jump_rows(LOG.encoded, MODEL.spec, np.random.default_rng(0), LINES)
    raw_logit = MODEL.raw_logit(rows)

    answered = GenericPlan(graph_of(SEGMENTED)).score(*rows).p_click

    segments = SEGMENTED.segments_of(rows.features)
    assert set(segments.tolist()) == {0, 1, 2}
    np.testing.assert_allclose(answered, p_click_of(raw_logit, -0.5, SEGMENTED, segments), rtol=1e-12)
    np.testing.assert_allclose(answered[segments == 0], p_click_of(raw_logit, -0.5, BEND)[segments == 0], rtol=1e-12)


@pytest.mark.parametrize("opset", [17, 18, 19, 20, 21])
def test_segments_need_no_newer_operators(opset: int) -> None:
    """Whoever serves the graph elsewhere may have an older runtime."""
    model = onnx.ModelProto.FromString(graph_of(SEGMENTED))
    model.opset_import[0].version = opset

    answered = GenericPlan(model.SerializeToString()).score(*LOG.encoded).p_click

    np.testing.assert_array_equal(answered, GenericPlan(graph_of(SEGMENTED)).score(*LOG.encoded).p_click)


def test_segments_belong_to_the_calibrator_and_not_to_the_core() -> None:
    """Plans and tables are keyed by the core: recalibrating a segment must not rebuild them."""
    plain, segmented = graph_of(BEND), graph_of(SEGMENTED)
    other = graph_of(replace(BEND, segments=replace(LINES, shifts=np.array([0.0, 0.7, -0.2]))))

    assert core_sha256(plain) == core_sha256(segmented) == core_sha256(other)
    assert len({calibrator_sha256(graph) for graph in (plain, segmented, other)}) == 3


def test_one_wrong_line_is_found_by_the_proof() -> None:
    """Every segment has rows of its own in the proof, however rare it is in the log."""
    rare = replace(BEND, segments=SegmentLines(1, np.ones(40), np.r_[np.zeros(39), 0.01]))
    without_it = replace(BEND, segments=SegmentLines(1, np.ones(40), np.zeros(40)))

    honest, wrong = (prove(graph_of(rare), MODEL, -0.5, meant, LOG.encoded, seed=0) for meant in (rare, without_it))

    assert honest.holds
    assert not wrong.holds


def test_a_plan_reads_the_lines_back() -> None:
    """Column, scales and shifts, as they were written."""
    read = plan_source(graph_of(SEGMENTED)).calibrator.segments

    assert read is not None
    assert read.column == LINES.column
    np.testing.assert_array_equal(read.scales, LINES.scales)
    np.testing.assert_array_equal(read.shifts, LINES.shifts)


def test_a_segment_named_by_the_pair_is_left_to_onnx_runtime() -> None:
    """A foreign graph may do so; a plan would have to work pairs out before it knows their segment."""
    source = plan_source(graph_of(SEGMENTED))

    assert factorised_plan(source, layout(1, 1, 1, 0), "numpy").segment_side is not None
    with pytest.raises(PlanError, match="none of a user, an ad or the context"):
        factorised_plan(source, layout(1, 0, 0, 2), "numpy")


def changed(name: str, value: np.ndarray) -> bytes:
    """The graph with one constant of its segments exchanged."""
    model = onnx.ModelProto.FromString(graph_of(SEGMENTED))
    for tensor in model.graph.initializer:
        if tensor.name == f"calibrator/segment_{name}":
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("column", np.array([3]), "column"),
        ("column", np.array([-1]), "column"),
        ("column", np.array([0, 1]), "column"),
        ("column", np.array([0.0]), "column"),
        ("scales", np.array([1.0, 0.0, 2.0]), "must rise"),
        ("scales", np.ones(3, np.float32), "expects doubles"),
        ("scales", np.ones((3, 1)), "cannot be used"),
        ("shifts", np.array([0.0, 0.1]), "cannot be used"),
        ("shifts", np.array([0.1, 0.1, 0.1]), "cannot be used"),
    ],
)
def test_lines_that_make_no_sense_are_left_to_onnx_runtime(name: str, value: np.ndarray, message: str) -> None:
    """A plan says why it does not understand a graph."""
    with pytest.raises(PlanError, match=message):
        plan_source(changed(name, value))


def test_another_way_to_find_the_segment_is_left_to_onnx_runtime() -> None:
    """Only what is known to the letter is taken for what it seems."""
    model = onnx.ModelProto.FromString(graph_of(SEGMENTED))
    next(node for node in model.graph.node if node.op_type == "Floor").op_type = "Ceil"

    with pytest.raises(PlanError, match="no plan knows"):
        plan_source(model.SerializeToString())
