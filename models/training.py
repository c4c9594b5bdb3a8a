"""Training: from impressions in time order to a model, its calibrator, and figures it did not learn from.

    |------------- fit, first 80 % -------------|-- tail, 20 % --|
    | block 1 | block 2 | block 3 | block 4     |                |

1. Non-clicks are thinned out where there are many; `ln(w)` in the log-odds undoes it exactly.
2. Each block of the fit part is scored by a model of the other three. The sum of their losses chooses the complexity
   (rounds, penalty), and the scores, being out of sample, make the calibrator.
3. A model of the whole fit part with that calibrator scores the tail: those are the published metrics. Nothing of the
   tail took part in any choice.
4. The published model learns from everything; its calibrator from all out-of-sample scores, blocks and tail.
5. Both are brought to the level of these scores by the impressions that were thinned out (`models/fitting/level.py`).

A column that names segments is for the calibrator alone (`models/segments.py`): learners see zeros in its place.

Why so many models for one: a calibrator fitted on the tail alone would rest on a fifth of the clicks and be off by more
than twice as much. A model that does not beat the base rate is a finding, not an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.calibrator import CalibratorChoice, CalibratorMap, Float64s, p_click_of, sigmoid
from models.cross_fit import BLOCKS, CrossFit
from models.encoder import Encoded, Encoder
from models.errors import TrainingError
from models.evaluation.calibration import ReliabilityBin, reliability
from models.evaluation.intervals import all_metrics, user_codes
from models.evaluation.reference import Reference, reference_of
from models.evaluation.suspicion import suspicion_of
from models.fitting.calibration import fit_calibrator
from models.fitting.downsampling import automatic_rate, keep_rows, log_odds_correction, refuse_few
from models.fitting.level import levelled, rows_to_level_by
from models.fitting.segments import fit_segments
from models.logs.frame import TrainingFrame
from models.random_streams import random_stream
from models.registry.manifest import Interval, Suspicion
from models.segments import segment_column
from models.trainers.trainer import FittedPath, TrainedModel, Trainer, TrainingSet

FIT_SHARE = 0.8
MIN_ROWS = 100
MIN_CLICKS = 20

Progress = Callable[[str, float], None]
"""Told what begins now, and the share of the whole that is done."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train; the defaults are what is meant to be used."""

    negative_rate: float | None = None
    """Share of the non-clicks to learn from; None: all of a small log, 20 per click of a large one."""

    calibrator: CalibratorChoice = "auto"
    """Which kind to fit, `auto` by the number of clicks; with `none` the corrected log-odds are taken at their word."""

    correct: bool = True
    """Without: the log-odds stay as high as sampling made them. Only to show that the correction matters."""


@dataclass(frozen=True, slots=True)
class TrainOutcome:
    """A trained model and what is known of it."""

    learner: str
    seed: int
    model: TrainedModel
    negative_rate: float
    correction: float
    calibrator: CalibratorMap
    metrics: dict[str, Interval]
    """Of the stage-3 model on the tail."""
    held_out_p: Float64s
    """(m,) what that model promised for the last m impressions, the tail."""
    base_rate_entropy: Interval
    """NE on the tail of always guessing the fit part's click rate: the bar to be under."""
    suspicion: Suspicion | None
    reliability: tuple[ReliabilityBin, ...]
    reference: Reference
    examples: Encoded
    """A few thousand training rows, from which proof and golden rows are made."""
    impressions: int
    clicks: int
    first_ms: int
    last_ms: int

    @property
    def better_than_base_rate(self) -> bool:
        """Whether the tail leaves no doubt that the model knows more than the mean click rate."""
        return self.metrics["normalized_entropy"].high < 1.0


def training_set(frame: TrainingFrame) -> TrainingSet:
    """A frame's impressions as learners see them."""
    encoder = Encoder(frame.inputs)
    return TrainingSet(
        encoded=frame.encode(encoder),
        clicked=frame.clicked,
        time_ms=frame.time_ms,
        float_names=encoder.float_names,
        id_names=encoder.id_names,
        user_codes=user_codes(frame.users.codes),
        layout=encoder.layout,
    )


def train(data: TrainingSet, trainer: Trainer, options: TrainOptions, seed: int, on_progress: Progress) -> TrainOutcome:
    """Trains, calibrates and measures.

    Raises:
        TrainingError: too few rows or clicks to learn from and to judge by, rows out of time order, or infinities.
        EncodingError: a column is called as the one that names segments and cannot be it.
    """
    ready = _prepared(data, options, seed)
    cut, segment_at, shown = ready.cut, ready.segment_at, ready.shown
    progress = _Steps(on_progress, total=BLOCKS + 3)
    fit, tail = data.take(slice(0, cut)), data.take(slice(cut, None))

    paths: list[FittedPath] = []
    fitting = ready.cross_fit.paths(trainer, seed)
    for block in range(BLOCKS):
        progress.begin(f"block {block + 1} of {BLOCKS}")
        paths.append(next(fitting))
    step, _ = ready.cross_fit.least_loss([path.held_out_loss for path in paths])
    correction = log_odds_correction(ready.kept_rate) if options.correct else 0.0
    fit_log_odds = ready.cross_fit.margins(paths, step) + correction
    del paths

    progress.begin("model of the fit part")
    growth = BLOCKS / (BLOCKS - 1)
    judged = trainer.fit(shown.take(ready.cross_fit.kept), step, growth, seed)
    tail_log_odds = judged.raw_logit(tail.encoded) + correction
    if np.ptp(tail_log_odds) == 0.0:  # a model with one answer; its blocks' answers differ by nothing but their clicks
        fit_log_odds = np.full(len(fit), tail_log_odds[0])
    fitted = calibrator_of(fit_log_odds, fit.clicked, segment_at, segment_values(fit, segment_at), options)
    kept = ready.cross_fit.kept
    judged_calibrator = _on_level(fitted, judged, shown.take(slice(0, cut)), kept, fit_log_odds, correction, seed)
    tail_segments = judged_calibrator.segments_of(tail.encoded.features)
    p_tail = sigmoid(judged_calibrator(tail_log_odds, tail_segments))
    progress.begin("metrics")
    metrics = all_metrics(tail.clicked, p_tail, tail.user_codes, seed)
    guess = all_metrics(tail.clicked, np.full(len(tail), fit.clicks / len(fit)), tail.user_codes, seed)

    progress.begin("model of everything")
    kept, kept_rate = keep_rows(data.clicked, ready.rate, seed)
    model = trainer.fit(shown.take(kept), step, growth / FIT_SHARE, seed)
    out_of_sample = np.concatenate([fit_log_odds, tail_log_odds])
    fitted = calibrator_of(out_of_sample, data.clicked, segment_at, segment_values(data, segment_at), options)
    final_correction = log_odds_correction(kept_rate) if options.correct else 0.0
    calibrator = _on_level(fitted, model, shown, kept, out_of_sample, final_correction, seed)
    examples = np.sort(random_stream(seed, "examples").choice(len(data), min(5_000, len(data)), replace=False))
    outcome = TrainOutcome(
        learner=trainer.name,
        seed=seed,
        model=model,
        negative_rate=kept_rate,
        correction=final_correction,
        calibrator=calibrator,
        metrics=metrics,
        held_out_p=p_tail,
        base_rate_entropy=guess["normalized_entropy"],
        suspicion=suspicion_of(metrics, fit, tail, seed),
        reliability=reliability(tail.clicked, p_tail),
        reference=reference_of(
            data.encoded,
            data.float_names,
            data.id_names,
            out_of_sample - correction,
            p_click_of(out_of_sample, 0.0, fitted, fitted.segments_of(data.encoded.features)),
        ),
        examples=data.take(examples).encoded,
        impressions=len(data),
        clicks=data.clicks,
        first_ms=int(data.time_ms[0]),
        last_ms=int(data.time_ms[-1]),
    )
    progress.end()
    return outcome


def _on_level(
    calibrator: CalibratorMap,
    model: TrainedModel,
    rows: TrainingSet,
    kept: npt.NDArray[np.int64],
    out_of_sample: Float64s,
    correction: float,
    seed: int,
) -> CalibratorMap:
    """The calibrator of a model that learnt the kept ones of n rows, whose scores by other models it was fitted to."""
    left_out = rows_to_level_by(len(rows), kept, seed)
    if calibrator.kind == "identity" or len(left_out) == 0:
        return calibrator
    log_odds = model.raw_logit(rows.take(left_out).encoded) + correction
    return levelled(calibrator, log_odds, out_of_sample[left_out])


class _Steps:
    """Counts steps for a progress bar."""

    def __init__(self, on_progress: Progress, total: int) -> None:
        self._tell, self._total, self._begun = on_progress, total, 0

    def begin(self, what: str) -> None:
        self._tell(what, self._begun / self._total)
        self._begun += 1

    def end(self) -> None:
        self._tell("trained", 1.0)


def cross_fit_of(data: TrainingSet, options: TrainOptions, seed: int) -> CrossFit:
    """The fit part as `train` shows it to learners: what a search may look at.

    Raises:
        TrainingError, EncodingError: as `train`.
    """
    return _prepared(data, options, seed).cross_fit


@dataclass(frozen=True, slots=True)
class _Prepared:
    """cut: where the tail begins. shown: what learners see. rate: share of non-clicks asked for, and really kept."""

    cut: int
    segment_at: int | None
    shown: TrainingSet
    rate: float
    kept_rate: float
    cross_fit: CrossFit


def _prepared(data: TrainingSet, options: TrainOptions, seed: int) -> _Prepared:
    """Refuses what cannot be learnt from, and thins out the fit part."""
    check_enough(data.clicked, data.float_names + data.id_names, seed)
    if np.any(np.diff(data.time_ms) < 0):
        raise TrainingError("impressions must be in time order, because the newest judge the model; sort the log")
    refuse_infinities(infinite_columns(data.encoded, data.float_names))
    cut = int(len(data) * FIT_SHARE)
    check_even(data.clicked, np.linspace(0, cut, BLOCKS + 1).astype(np.int64))
    segment_at = segment_column(data.float_names, data.id_names)
    shown = data if segment_at is None else _without(segment_at, data)
    clicked = data.clicked[:cut]
    rate = automatic_rate(clicked) if options.negative_rate is None else options.negative_rate
    refuse_few(clicked, rate)
    kept, kept_rate = keep_rows(clicked, rate, seed)
    return _Prepared(cut, segment_at, shown, rate, kept_rate, CrossFit(shown.take(slice(0, cut)), kept))


def calibrator_of(
    log_odds: Float64s,
    clicked: npt.NDArray[np.bool_],
    segment_at: int | None,
    values: npt.NDArray[np.float32] | None,
    options: TrainOptions,
) -> CalibratorMap:
    """The calibrator of n out-of-sample rows; `values`, those of column `segment_at`, name their segments."""
    if options.calibrator == "none":
        return CalibratorMap.identity()
    everybody = fit_calibrator(log_odds, clicked, options.calibrator)
    if segment_at is None or values is None:
        return everybody
    return replace(everybody, segments=fit_segments(everybody(log_odds), clicked, segment_at, values))


def segment_values(rows: TrainingSet, segment_at: int | None) -> npt.NDArray[np.float32] | None:
    """(n,) what the column that names segments says; None where there is none."""
    return None if segment_at is None else rows.encoded.features[:, segment_at]


def _without(column: int, data: TrainingSet) -> TrainingSet:
    """The impressions with zeros in one float column, which is then of no use to any learner."""
    features = data.encoded.features.copy()
    features[:, column] = 0.0
    return replace(data, encoded=Encoded(features, data.encoded.ids))


def check_enough(clicked: npt.NDArray[np.bool_], names: Sequence[str], seed: int) -> None:
    """Refuses what cannot be learnt from or judged by, and says what would help.

    Args:
        clicked: (n,) of all rows.
        names: of all columns.
    """
    n, clicks = len(clicked), int(np.count_nonzero(clicked))
    if n < MIN_ROWS or min(clicks, n - clicks) < MIN_CLICKS:
        raise TrainingError(
            f"{n} impressions with {clicks} clicks are too few to learn from and to judge by; give at least "
            f"{MIN_ROWS} impressions with {MIN_CLICKS} clicks and {MIN_CLICKS} non-clicks"
        )
    if seed < 0:
        raise TrainingError(f"a seed is a whole number from 0, got {seed}")
    if not names:
        raise TrainingError("there are no columns to learn from; declare at least one feature")


def infinite_columns(encoded: Encoded, float_names: Sequence[str]) -> list[str]:
    """Names of the columns that hold an infinity."""
    return [name for name, column in zip(float_names, encoded.features.T, strict=True) if np.isinf(column).any()]


def refuse_infinities(names: list[str]) -> None:
    """Raises TrainingError where columns hold infinities."""
    if names:
        raise TrainingError(f"columns {names} hold infinities; replace them by a number or leave them missing")


def check_even(clicked: npt.NDArray[np.bool_], edges: npt.NDArray[np.int64]) -> None:
    """Refuses a log of which a part holds no click or nothing else, because each part learns or judges for itself.

    Args:
        clicked: (n,) of all rows.
        edges: (5,) where the quarters of the fit part begin, and where the last one ends.
    """
    n, cut = len(clicked), int(edges[-1])
    in_block = np.add.reduceat(clicked[:cut].astype(np.int64), edges[:-1])
    fit_clicks, in_tail = int(in_block.sum()), int(np.count_nonzero(clicked)) - int(in_block.sum())
    lopsided = any(fit_clicks - b == 0 for b in in_block) or any(
        cut - size - (fit_clicks - b) == 0 for b, size in zip(in_block, np.diff(edges), strict=True)
    )
    if lopsided or in_tail in (0, n - cut):
        raise TrainingError(
            f"clicks are too uneven over time: {in_block.tolist()} in the four quarters of the first 80 % and "
            f"{in_tail} in the last 20 %; every part must hold clicks and non-clicks, so give a longer log"
        )
