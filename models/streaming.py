"""Training by streaming: a log that does not fit into memory, learnt in one look in order of time.

    |------------- fit, first 80 % -------------|-- tail, 20 % --|
    | warm-up 20 % |        promises            |                |

A learner that takes rows as they come promises each row before it learns it: every promise is out of sample, and no
row has to be held back for it (progressive validation).

0. A survey of the fit part, some rows at a time: which hashes there are, and rows far apart that show the numbers.
1. The fit part streams by and is learnt. Early promises come from weights that had seen little and are left out; the
   others, at most the newest `CALIBRATED_ROWS`, make the calibrator.
2. The weights as they are then, with that calibrator, score the tail: those are the published metrics. Nothing of the
   tail took part in them.
3. Learning goes on through the tail, for the published model; its calibrator is made of the newest promises up to the
   end.

Non-clicks are thinned out as `training.py` does, and a thinned-out row is promised in its place like any other. Memory:
about 20 bytes an impression (label, whether it is learnt, promise, and what metrics take of the tail), and some chunks.
What the figures mean, and what is refused, is as in `training.py`.

Source: progressive validation, Blum et al. 1999, used as McMahan et al. 2013 do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.calibrator import Float64s, p_click_of, sigmoid
from models.cross_fit import BLOCKS
from models.encoder import Encoded, Encoder
from models.evaluation.calibration import reliability
from models.evaluation.intervals import all_metrics, user_codes
from models.evaluation.reference import reference_of
from models.evaluation.suspicion import suspicion_of
from models.fitting.distinct import DistinctCounter
from models.fitting.downsampling import automatic_rate, keep_rows, log_odds_correction
from models.fitting.ftrl import DesignedRows
from models.fitting.linear_design import LinearDesign
from models.logs.stored_frame import StoredFrame
from models.segments import NO_SEGMENT, Int32s, SegmentLines, segment_column
from models.trainers.ftrl import FtrlModel, FtrlTrainer
from models.trainers.trainer import TrainingSet
from models.training import (
    FIT_SHARE,
    Progress,
    TrainOptions,
    TrainOutcome,
    calibrator_of,
    check_enough,
    check_even,
    infinite_columns,
    refuse_infinities,
)

CHUNK_ROWS = 65_536
WARM_UP = 0.25
"""Share of the fit part whose promises are left out of the calibrator."""
CALIBRATED_ROWS = 4_000_000
"""At a click rate of 1 % that is 40 000 clicks, which know the level to 0.5 %; a fit holds ten numbers a row."""
SURVEY_ROWS = 200_000
"""Rows that show the numbers' ranges, the importance of columns and what drift is measured against."""


def train_streaming(
    frame: StoredFrame, trainer: FtrlTrainer, options: TrainOptions, seed: int, on_progress: Progress
) -> TrainOutcome:
    """Trains, calibrates and measures.

    Raises:
        TrainingError: too few rows or clicks to learn from and to judge by, or infinities.
        EncodingError: a column is called as the one that names segments and cannot be it.
    """
    encoder = Encoder(frame.inputs)
    names = encoder.float_names + encoder.id_names
    check_enough(frame.clicked, names, seed)
    n, clicks = len(frame), int(np.count_nonzero(frame.clicked))
    cut = int(n * FIT_SHARE)
    check_even(frame.clicked, np.linspace(0, cut, BLOCKS + 1).astype(np.int64))
    stream = _Stream(frame, encoder, segment_column(encoder.float_names, encoder.id_names))
    rate = automatic_rate(n, clicks) if options.negative_rate is None else options.negative_rate
    kept, kept_rate = keep_rows(frame.clicked, rate, seed)
    taught = np.zeros(n, dtype=np.bool_)
    taught[kept] = True
    del kept
    correction = log_odds_correction(kept_rate) if options.correct else 0.0

    survey = _survey(stream, cut, on_progress)
    design = LinearDesign.of(stream.shown(survey.of_fit.encoded), survey.distinct)
    first = slice(0, min(cut, CHUNK_ROWS))
    learner = trainer.begin(design, int(np.count_nonzero(frame.clicked[first])), int(np.count_nonzero(taught[first])))
    promised = np.empty(n, dtype=np.float32)
    segments = None if stream.segment_at is None else np.empty(n, dtype=np.float32)

    def calibrator_until(end: int) -> tuple[slice, Float64s]:
        newest = slice(max(int(cut * WARM_UP), end - CALIBRATED_ROWS), end)
        return newest, promised[newest].astype(np.float64) + correction

    def learn(rows: slice, shown: DesignedRows) -> None:
        promised[rows] = learner.learn(shown, frame.clicked[rows], taught[rows])

    for rows, encoded in stream.chunks(0, cut, "learning the fit part", on_progress):
        if segments is not None:
            segments[rows] = encoded.features[:, stream.segment_at]
        learn(rows, DesignedRows.of(design, stream.shown(encoded)))
    newest, log_odds = calibrator_until(cut)
    values = None if segments is None else segments[newest]
    judged_calibrator = calibrator_of(log_odds, frame.clicked[newest], stream.segment_at, values, options)

    judged = learner.frozen()
    tail = slice(cut, n)
    tail_log_odds = np.empty(n - cut)
    for rows, encoded in stream.chunks(cut, n, "judging and learning the tail", on_progress):
        if segments is not None:
            segments[rows] = encoded.features[:, stream.segment_at]
        shown = DesignedRows.of(design, stream.shown(encoded))
        tail_log_odds[rows.start - cut : rows.stop - cut] = judged.margins_of(shown) + correction
        learn(rows, shown)
    on_progress("metrics", 0.0)
    tail_clicked = frame.clicked[tail]
    p_tail = sigmoid(judged_calibrator(tail_log_odds, _numbers(judged_calibrator.segments, segments, tail)))
    del tail_log_odds
    metrics = all_metrics(tail_clicked, p_tail, user_codes(frame.users_at(tail)), seed)
    guess = float(np.count_nonzero(frame.clicked[:cut])) / cut
    guessed = all_metrics(tail_clicked, np.full(n - cut, guess), None, seed)

    newest, log_odds = calibrator_until(n)
    values = None if segments is None else segments[newest]
    calibrator = calibrator_of(log_odds, frame.clicked[newest], stream.segment_at, values, options)
    del log_odds
    seen = survey.of_all.encoded
    margins = promised[survey.places].astype(np.float64)
    outcome = TrainOutcome(
        learner=trainer.name,
        seed=seed,
        model=FtrlModel(
            learner,
            learner.frozen(),
            replace(survey.of_all, encoded=stream.shown(seen)).take(slice(None, None, 4)),
            {"passes": 1, "learnt": "as a stream"},
        ),
        negative_rate=kept_rate,
        correction=correction,
        calibrator=calibrator,
        metrics=metrics,
        held_out_p=p_tail,
        base_rate_entropy=guessed["normalized_entropy"],
        suspicion=suspicion_of(metrics, survey.of_fit, survey.of_tail, seed),
        reliability=reliability(tail_clicked, p_tail),
        reference=reference_of(
            seen,
            encoder.float_names,
            encoder.id_names,
            margins,
            p_click_of(margins, correction, calibrator, calibrator.segments_of(seen.features)),
        ),
        examples=survey.of_all.take(slice(None, None, max(1, len(survey.of_all) // 5_000))).encoded,
        impressions=n,
        clicks=clicks,
        first_ms=int(frame.time_ms[0]),
        last_ms=int(frame.time_ms[-1]),
    )
    on_progress("trained", 1.0)
    return outcome


@dataclass(frozen=True, slots=True)
class _Stream:
    """The rows of a frame as matrices, some at a time."""

    frame: StoredFrame
    encoder: Encoder
    segment_at: int | None

    def chunks(self, start: int, end: int, stage: str, on_progress: Progress) -> Iterator[tuple[slice, Encoded]]:
        """Neighbouring rows from `start` to `end` and where they lie, in order."""
        for at in range(start, end, CHUNK_ROWS):
            on_progress(stage, (at - start) / (end - start))
            rows = slice(at, min(end, at + CHUNK_ROWS))
            yield rows, self.frame.encode(self.encoder, rows)

    def shown(self, encoded: Encoded) -> Encoded:
        """What learners see: zeros in the column that names segments."""
        if self.segment_at is None:
            return encoded
        features = encoded.features.copy()
        features[:, self.segment_at] = 0.0
        return Encoded(features, encoded.ids)


@dataclass(frozen=True, slots=True)
class _Survey:
    """Rows far apart, and how many distinct hashes the fit part has. places: (m,) rows of the frame they are."""

    of_all: TrainingSet
    places: npt.NDArray[np.int64]
    n_fit: int
    distinct: npt.NDArray[np.int64]

    @property
    def of_fit(self) -> TrainingSet:
        return self.of_all.take(slice(0, self.n_fit))

    @property
    def of_tail(self) -> TrainingSet:
        return self.of_all.take(slice(self.n_fit, None))


def _survey(stream: _Stream, cut: int, on_progress: Progress) -> _Survey:
    """Looks at every row once and keeps some.

    Raises:
        TrainingError: a column holds an infinity.
    """
    frame, encoder = stream.frame, stream.encoder
    stride = max(1, len(frame) // SURVEY_ROWS)
    counter = DistinctCounter(len(encoder.id_names))
    kept: list[Encoded] = []
    for rows, encoded in stream.chunks(0, len(frame), "surveying", on_progress):
        refuse_infinities(infinite_columns(encoded, encoder.float_names))
        counter.add(encoded.ids[: max(0, cut - rows.start)])
        first = -rows.start % stride
        # Copied: a view would keep its whole chunk, and all chunks are the log.
        kept.append(Encoded(encoded.features[first::stride].copy(), encoded.ids[first::stride].copy()))
    places = np.arange(0, len(frame), stride)
    of_all = TrainingSet(
        Encoded(np.concatenate([part.features for part in kept]), np.concatenate([part.ids for part in kept])),
        frame.clicked[places],
        np.array(frame.time_ms[places]),
        encoder.float_names,
        encoder.id_names,
        user_codes(frame.users_at(slice(0, len(frame), stride))),
    )
    return _Survey(of_all, places, int(np.searchsorted(places, cut)), counter.counts())


def _numbers(lines: SegmentLines | None, values: npt.NDArray[np.float32] | None, rows: slice) -> Int32s:
    """The segment of each of these rows."""
    return NO_SEGMENT if lines is None or values is None else lines.numbers(values[rows])
