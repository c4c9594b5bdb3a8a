"""A published model with a new calibrator, fitted to labels that came after its training; nothing else is learnt.

When the world's click rate moves, order survives longer than level. The core keeps its bytes and its hash, so whatever
was computed from it (plans, tables of every ad) serves on, and the order of scores within a segment cannot change.

    |---------- trained on ----------|-- fresh: fit, first 80 % --|-- judged, 20 % --|

1. Impressions of the training are left out: their scores are too good.
2. A calibrator of the fit part is judged on the later part, beside the old one: those are the new version's metrics.
3. The published calibrator is fitted to all fresh impressions.

With few clicks the old map keeps its shape and only a line is put behind it, which 200 clicks can carry; segments too
small for a line of their own keep the one they had. From `MIN_CLICKS_SHAPE` clicks on, and where a kind is asked for
by name, the shape is learnt anew.
Cost: one scoring of the fresh impressions and some passes over their scores; 250 000 take about two seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

import msgspec
import numpy as np
import numpy.typing as npt

from models.calibrator import CalibratorChoice, CalibratorKind, CalibratorMap, Float64s, p_click_of
from models.encoder import Encoded, Encoder
from models.errors import TrainingError
from models.evaluation.calibration import ReliabilityBin, reliability
from models.evaluation.card import CardFacts, render_card
from models.evaluation.evaluate import CHUNK_ROWS, check_columns, score_frame
from models.evaluation.intervals import all_metrics, user_codes
from models.evaluation.reference import Reference, histogram, reference_of
from models.export.graph import calibrator_sha256, core_sha256, with_calibrator
from models.fitting.calibrating_line import Bools
from models.fitting.calibration import MIN_CLICKS_PLATT, fit_calibrator
from models.fitting.segments import fit_segments, kept_lines
from models.logs.frame import TrainingFrame
from models.plans.agreement import agreement
from models.plans.generic import GenericPlan
from models.plans.plan import Scores
from models.plans.source import calibrator_of
from models.publication import described_calibrator
from models.registry.artifact import GOLDEN, GRAPH, LEARNER_STATE, Golden, ModelArtifact
from models.registry.gate import Gate
from models.registry.manifest import Challenge, Interval, Manifest, Proof, Recalibrated
from models.registry.predictor import Predictor
from models.registry.registry import Published, Registry
from models.segments import NO_SEGMENT, Int32s, SegmentLines
from models.training import FIT_SHARE

Float32s = npt.NDArray[np.float32]

MIN_CLICKS_SHAPE = 5_000
REFERENCE = "reference.json"
PROOF_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Recalibration:
    """A calibrator for a published core, and what is known of it."""

    correction: float
    calibrator: CalibratorMap
    before: dict[str, Interval]
    after: dict[str, Interval]
    """With the old calibrator and with one of the fit part, both on the judged part."""
    base_rate_entropy: Interval
    """NE on the judged part of always guessing the fit part's click rate."""
    reliability: tuple[ReliabilityBin, ...]
    held_out_p: Float64s
    """(m,) what the calibrator of the fit part promised for the last m fresh impressions."""
    fresh: TrainingFrame
    rows: Encoded
    """Of the fresh impressions, the newest `PROOF_ROWS`."""
    raw_logit: Float64s
    p_click: Float64s
    """(n,) of all fresh impressions, with the published calibrator."""


def recalibrate(
    predictor: Predictor,
    graph: bytes,
    frame: TrainingFrame,
    source: str,
    seed: int,
    choice: CalibratorChoice = "auto",
) -> Recalibration:
    """Fits and judges a calibrator for a model's scores on the impressions of a log that it was not trained on.

    Args:
        graph: the model's own.
        source: the log, as `KIND:PATH`.
        choice: a kind to fit anew; `auto` keeps the old shape where clicks are few.
    Raises:
        EncodingError: the log's columns are not the model's.
        PlanError: the graph's calibrator is not of the kind that can be replaced.
        TrainingError: too few fresh clicks.
    """
    check_columns(predictor.manifest.inputs, frame.inputs)
    correction, read = calibrator_of(graph)
    old = replace(read, kind=_kind(predictor.manifest))  # a graph knows lines and knots, and not who put them there
    fresh = _fresh(predictor.manifest, frame, source)
    cut = int(len(fresh) * FIT_SHARE)
    _check(fresh, cut, choice)
    raw_logit = score_frame(predictor, fresh, slice(0, len(fresh))).raw_logit
    log_odds, segment_values = raw_logit + correction, _segment_values(old, predictor.encoder, fresh)

    judged = _fitted(old, log_odds[:cut], fresh.clicked[:cut], segment_values[:cut], choice)
    tail, users = fresh.clicked[cut:], user_codes(fresh.users.codes[cut:])
    p_old, p_new = (
        p_click_of(raw_logit[cut:], correction, calibrator, _numbers(calibrator, segment_values[cut:]))
        for calibrator in (old, judged)
    )
    guess = np.full(len(tail), fresh.clicked[:cut].mean())
    calibrator = _fitted(old, log_odds, fresh.clicked, segment_values, choice)
    return Recalibration(
        correction=correction,
        calibrator=calibrator,
        before=all_metrics(tail, p_old, users, seed),
        after=all_metrics(tail, p_new, users, seed),
        base_rate_entropy=all_metrics(tail, guess, users, seed)["normalized_entropy"],
        reliability=reliability(tail, p_new),
        held_out_p=p_new,
        fresh=fresh,
        rows=fresh.encode(predictor.encoder, slice(max(0, len(fresh) - PROOF_ROWS), None)),
        raw_logit=raw_logit,
        p_click=p_click_of(raw_logit, correction, calibrator, _numbers(calibrator, segment_values)),
    )


def publish_recalibrated(
    artifact: ModelArtifact,
    found: Recalibration,
    registry: Registry,
    gate: Gate,
    *,
    source: str,
    created_ms: int,
    challenge: Challenge | None,
) -> Published:
    """Puts the calibrator behind the core, proves the two together and publishes them as a version of its own.

    Raises:
        ProofMissing: the new graph does not answer as the reference does.
        ExportError, RegistryError: as `models.publication.publish`.
    """
    old = artifact.manifest
    graph = with_calibrator(artifact.graph, found.correction, found.calibrator)
    plan = GenericPlan(graph)
    golden = artifact.golden
    scores = plan.score(golden.features, golden.ids)
    entropy = found.after["normalized_entropy"]
    manifest = msgspec.structs.replace(
        old,
        created_ms=created_ms,
        calibrator=described_calibrator(found.calibrator, Encoder(old.inputs)),
        calibrator_sha256=calibrator_sha256(graph),
        metrics=found.after,
        proof=_proof(artifact, graph, plan, found),
        files={},
        better_than_base_rate=entropy.high < 1.0,
        challenge=challenge,
        recalibrated=Recalibrated(
            version=old.version,
            source=source,
            impressions=len(found.fresh),
            clicks=int(np.count_nonzero(found.fresh.clicked)),
            first_ms=int(found.fresh.time_ms[0]),
            last_ms=int(found.fresh.time_ms[-1]),
            before=found.before,
            pending_impressions=found.fresh.log.pending,
        ),
    )
    reference = _reference(artifact, found)
    files = {
        GRAPH: graph,
        GOLDEN: Golden(golden.features, golden.ids, scores.raw_logit, scores.p_click).to_bytes(),
        REFERENCE: msgspec.json.encode(reference),
    }
    if LEARNER_STATE in artifact.files:
        files[LEARNER_STATE] = artifact.files[LEARNER_STATE]  # of the core: its learner can still go on

    def card(named: Manifest) -> dict[str, bytes]:
        return render_card(CardFacts(named, found.reliability, found.base_rate_entropy, reference.coverage()))

    return registry.publish(manifest, files, card, gate)


def _reference(artifact: ModelArtifact, found: Recalibration) -> Reference:
    """The training's histograms of columns, with those of the fresh scores; all of fresh rows where it was imported."""
    if REFERENCE not in artifact.files:
        encoder = Encoder(artifact.manifest.inputs)
        n = len(found.rows.features)
        return reference_of(found.rows, encoder.float_names, encoder.id_names, found.raw_logit[-n:], found.p_click[-n:])
    reference = msgspec.json.decode(artifact.files[REFERENCE], type=Reference)
    return msgspec.structs.replace(reference, raw_logit=histogram(found.raw_logit), p_click=histogram(found.p_click))


def _fresh(manifest: Manifest, frame: TrainingFrame, source: str) -> TrainingFrame:
    """The impressions later than the training; all of them where the times cannot be compared."""
    trained = manifest.trained_on
    if trained is None:  # nobody knows what an imported model has seen
        return frame
    same_clock = frame.log.has_time and trained.has_times
    if not same_clock and trained.source != source:
        return frame
    start = int(np.searchsorted(frame.time_ms, trained.last_ms, side="right"))
    if start == len(frame):
        raise TrainingError(
            f"version {manifest.version} was trained on impressions up to the last one of {source}; recalibrating "
            "needs later ones, whose scores are not too good: name a newer log"
        )
    return frame.rows(slice(start, None))


def _check(fresh: TrainingFrame, cut: int, choice: CalibratorChoice) -> None:
    for words, clicked, least in (
        (
            f"the first {100 * FIT_SHARE:.0f} % are to fit on",
            fresh.clicked[:cut],
            0 if choice == "none" else MIN_CLICKS_PLATT,
        ),
        (f"the last {100 * (1 - FIT_SHARE):.0f} % are to judge by", fresh.clicked[cut:], 1),
    ):
        clicks = int(np.count_nonzero(clicked))
        if min(clicks, len(clicked) - clicks) < least:
            raise TrainingError(
                f"of {len(fresh):,} fresh impressions {words}: {len(clicked):,} with {clicks:,} clicks; {least} clicks "
                f"and as many non-clicks are needed there: wait for more labels"
            )


def _kind(manifest: Manifest) -> CalibratorKind:
    known: dict[str, CalibratorKind] = {kind: kind for kind in get_args(CalibratorKind)}
    return known.get(manifest.calibrator.kind, "piecewise")


def _segment_values(old: CalibratorMap, encoder: Encoder, frame: TrainingFrame) -> Float32s:
    """(n,) what the column that names segments says; NaN everywhere where there is none."""
    if old.segments is None:
        return np.full(len(frame), np.nan, np.float32)
    chunks = (slice(start, start + CHUNK_ROWS) for start in range(0, len(frame), CHUNK_ROWS))
    column = old.segments.column
    return np.concatenate([frame.encode(encoder, chunk).features[:, column] for chunk in chunks])


def _numbers(calibrator: CalibratorMap, values: Float32s) -> Int32s:
    return NO_SEGMENT if calibrator.segments is None else calibrator.segments.numbers(values)


def _fitted(
    old: CalibratorMap, log_odds: Float64s, clicked: Bools, segment_values: Float32s, choice: CalibratorChoice
) -> CalibratorMap:
    """A calibrator of these impressions; see the module for what few clicks can change."""
    everybody = replace(old, segments=None)
    if choice == "auto" and np.count_nonzero(clicked) < MIN_CLICKS_SHAPE:
        calibrator = everybody.followed_by(fit_calibrator(everybody(log_odds), clicked, "platt"))
    else:
        calibrator = fit_calibrator(log_odds, clicked, choice)
    if old.segments is None:
        return calibrator
    if choice == "none":  # the column stays named, for the next recalibration
        return replace(calibrator, segments=SegmentLines(old.segments.column, np.ones(1), np.zeros(1)))
    lines = fit_segments(calibrator(log_odds), clicked, old.segments.column, segment_values)
    return replace(calibrator, segments=kept_lines(old.segments, lines))


def _proof(artifact: ModelArtifact, graph: bytes, plan: GenericPlan, found: Recalibration) -> Proof:
    """The core's own proof, and the new calibrator behind it on real rows."""
    old, rows = artifact.manifest.proof, found.rows
    n = len(rows.features)
    wanted = Scores(GenericPlan(artifact.graph).score(rows.features, rows.ids).raw_logit, found.p_click[-n:])
    seen = agreement(wanted, plan.score(rows.features, rows.ids))
    return msgspec.structs.replace(
        old,
        max_p_error=max(old.max_p_error, seen.max_p_error),
        max_logit_error=max(old.max_logit_error, seen.max_logit_error),
        inversions=old.inversions + seen.inversions,
        core_sha256=core_sha256(graph),
    )
