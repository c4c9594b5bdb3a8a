"""Training by streaming: a log that does not fit into memory, learnt in one look in order of time.

    |------------- fit, first 80 % -------------|-- tail, 20 % --|
    | warm-up 20 % |        promises            |                |

A learner that takes rows as they come promises each row before it learns it: every promise is out of sample, and no
row has to be held back for it (progressive validation).

0. A survey of the fit part, some rows at a time: which hashes there are, and rows far apart that show the numbers.
1. The fit part streams by and is learnt. Early promises come from weights that had seen little and are left out; the
   others, at most the newest `CALIBRATED_ROWS`, make the calibrator.
2. The weights as they are then, levelled (`levelled`), with that calibrator, score the tail: those are the published
   metrics. Nothing of the tail took part in them.
3. Learning goes on through the tail, for the published model; its calibrator is made of the newest promises up to the
   end.

Non-clicks are thinned out as `training.py` does, and a thinned-out row is promised in its place like any other. Memory:
about 20 bytes an impression (label, whether it is learnt, promise, and what metrics take of the tail), and some chunks.
What the figures mean, and what is refused, is as in `training.py`. A learner that has a past goes on from it
(`models/continuing.py`).

Source: progressive validation, Blum et al. 1999, used as McMahan et al. 2013 do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.calibrator import Float64s, p_click_of, sigmoid
from models.cross_fit import BLOCKS
from models.encoder import Encoder
from models.evaluation.calibration import reliability
from models.evaluation.intervals import all_metrics, user_codes
from models.evaluation.reference import reference_of
from models.evaluation.suspicion import suspicion_of
from models.fitting.downsampling import automatic_rate, keep_rows, log_odds_correction, refuse_few
from models.fitting.ftrl import Bools, DesignedRows, FrozenWeights, Ftrl
from models.fitting.linear_design import LinearDesign
from models.logs.frame import Frame
from models.segments import NO_SEGMENT, Int32s, SegmentLines, segment_column
from models.streamed_rows import CHUNK_ROWS, Stream, Survey, survey
from models.trainers.ftrl import FtrlModel, FtrlTrainer, shift_to
from models.training import (
    FIT_SHARE,
    Progress,
    TrainOptions,
    TrainOutcome,
    calibrator_of,
    check_enough,
    check_even,
)

Float32s = npt.NDArray[np.float32]

WARM_UP = 0.25
"""Share of the fit part whose promises are left out of the calibrator."""
CALIBRATED_ROWS = 4_000_000
"""At a click rate of 1 % that is 40 000 clicks, which know the level to 0.5 %; a fit holds ten numbers a row."""


@dataclass(frozen=True, slots=True)
class Past:
    """What was learnt from earlier rows, to go on with."""

    learner: Ftrl
    """It learns on: what it was before is gone."""
    negative_rate: float
    """Share of their non-clicks that it saw. The new ones are thinned out alike, because its weights speak of that."""


def train_streaming(
    frame: Frame,
    trainer: FtrlTrainer,
    options: TrainOptions,
    seed: int,
    on_progress: Progress,
    past: Past | None = None,
) -> TrainOutcome:
    """Trains, calibrates and measures.

    Args:
        past: with it learning goes on from there: its weights have seen enough from the first row on, so there is no
            warm-up, and its own design and settings stay.
    Raises:
        TrainingError: too few rows or clicks to learn from and to judge by, or infinities.
        EncodingError: a column is called as the one that names segments and cannot be it.
    """
    encoder = Encoder(frame.inputs)
    names = encoder.float_names + encoder.id_names
    check_enough(frame.clicked, names, seed)
    n = len(frame)
    cut = int(n * FIT_SHARE)
    check_even(frame.clicked, np.linspace(0, cut, BLOCKS + 1).astype(np.int64))
    stream = Stream(frame, encoder, segment_column(encoder.float_names, encoder.id_names))
    rate = automatic_rate(frame.clicked[:cut]) if options.negative_rate is None else options.negative_rate
    if past is not None:
        rate = past.negative_rate
    else:
        refuse_few(frame.clicked[:cut], rate)
    kept, kept_rate = keep_rows(frame.clicked, rate, seed)
    taught = np.zeros(n, dtype=np.bool_)
    taught[kept] = True
    del kept
    correction = log_odds_correction(kept_rate) if options.correct else 0.0

    surveyed = survey(stream, cut, on_progress)
    if past is not None:
        learner, warm_up = past.learner, 0
    else:
        learner, warm_up = begun(stream, surveyed, trainer, taught[:cut]), int(cut * WARM_UP)
    design = learner.design
    promised = np.empty(n, dtype=np.float32)
    segments = None if stream.segment_at is None else np.empty(n, dtype=np.float32)

    def calibrator_until(end: int) -> tuple[slice, Float64s]:
        newest = slice(max(warm_up, end - CALIBRATED_ROWS), end)
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

    judged = levelled(learner, stream, surveyed, promised, newest)
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
    users = user_codes(frame.users_at(tail))
    metrics = all_metrics(tail_clicked, p_tail, users, seed)
    guess = float(np.count_nonzero(frame.clicked[:cut])) / cut
    guessed = all_metrics(tail_clicked, np.full(n - cut, guess), users, seed)

    newest, log_odds = calibrator_until(n)
    values = None if segments is None else segments[newest]
    calibrator = calibrator_of(log_odds, frame.clicked[newest], stream.segment_at, values, options)
    del log_odds
    seen = surveyed.of_all.encoded
    margins = promised[surveyed.places].astype(np.float64)
    outcome = TrainOutcome(
        learner=trainer.name,
        seed=seed,
        model=FtrlModel(
            learner,
            levelled(learner, stream, surveyed, promised, newest),
            replace(surveyed.of_all, encoded=stream.shown(seen)).take(slice(None, None, 4)),
            {"passes": 1, "learnt": "as a stream"},
        ),
        negative_rate=kept_rate,
        correction=correction,
        calibrator=calibrator,
        metrics=metrics,
        held_out_p=p_tail,
        base_rate_entropy=guessed["normalized_entropy"],
        suspicion=suspicion_of(metrics, surveyed.of_fit, surveyed.of_tail, seed),
        reliability=reliability(tail_clicked, p_tail),
        reference=reference_of(
            seen,
            encoder.float_names,
            encoder.id_names,
            margins,
            p_click_of(margins, correction, calibrator, calibrator.segments_of(seen.features)),
        ),
        examples=surveyed.of_all.take(slice(None, None, max(1, len(surveyed.of_all) // 5_000))).encoded,
        impressions=n,
        clicks=int(np.count_nonzero(frame.clicked)),
        first_ms=int(frame.time_ms[0]),
        last_ms=int(frame.time_ms[-1]),
    )
    on_progress("trained", 1.0)
    return outcome


def begun(stream: Stream, surveyed: Survey, trainer: FtrlTrainer, taught: Bools) -> Ftrl:
    """A learner that knows where its columns' weights lie, and the click rate of its first rows.

    Args:
        taught: (n,) which rows of the fit part are learnt from.
    """
    design = LinearDesign.of(stream.shown(surveyed.of_fit.encoded), surveyed.distinct)
    first = slice(0, min(len(taught), CHUNK_ROWS))
    clicks = int(np.count_nonzero(stream.frame.clicked[first]))
    return trainer.begin(design, clicks, int(np.count_nonzero(taught[first])))


def levelled(learner: Ftrl, stream: Stream, surveyed: Survey, promised: Float32s, newest: slice) -> FrozenWeights:
    """The weights as they are, moved so that they promise for rows of the newest half as much as was promised for them.

    Where learning stops, the last rows have moved the level more than they know of it; promises made on the way have
    that luck in all directions, and the calibrator is of them. Compared with promises and not with clicks, because
    what the promises lack the calibrator adds.

    Args:
        promised: (n,) margins, each from before its row was learnt.
        newest: of the rows, those whose promises make the calibrator.
    """
    ends = np.searchsorted(surveyed.places, ((newest.start + newest.stop) // 2, newest.stop)).tolist()
    some = slice(*ends)
    margins = learner.frozen().margins(stream.shown(surveyed.of_all.take(some).encoded))
    return learner.frozen(shift_to(margins, float(sigmoid(promised[surveyed.places[some]].astype(np.float64)).sum())))


def _numbers(lines: SegmentLines | None, values: npt.NDArray[np.float32] | None, rows: slice) -> Int32s:
    """The segment of each of these rows."""
    return NO_SEGMENT if lines is None or values is None else lines.numbers(values[rows])
