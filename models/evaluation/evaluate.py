"""A published model against a log: what it promised, what came, and every figure with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.encoder import Encoder, ModelInputs
from models.errors import EncodingError
from models.evaluation.calibration import ReliabilityBin, reliability
from models.evaluation.comparison import Comparison, comparison
from models.evaluation.intervals import all_metrics, user_codes
from models.evaluation.user_auc import n_counting
from models.logs.frame import Frame, TrainingFrame
from models.plans.plan import Scores
from models.registry.files import write_over
from models.registry.manifest import Interval, Manifest
from models.registry.predictor import Predictor

CHUNK_ROWS = 65_536
"""Rows encoded at a time: a log of any length needs no second copy of its matrix."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of one model on one log, and the scores behind them, in the order of the frame."""

    version: str
    metrics: dict[str, Interval]
    reliability: tuple[ReliabilityBin, ...]
    clicked: npt.NDArray[np.bool_]
    p_click: npt.NDArray[np.float64]
    line: npt.NDArray[np.int64]
    gauc_users: int = 0
    """Users with clicks and non-clicks, over whom `gauc` is the mean."""


def evaluate(predictor: Predictor, frame: TrainingFrame, seed: int = 0) -> Evaluation:
    """Scores every impression of a frame as serving would, and measures.

    Args:
        seed: decides the bootstrap.
    Raises:
        EncodingError: the frame's columns are not the model's.
        MetricError: the log has only clicks or none.
    """
    check_columns(predictor.manifest.inputs, frame.inputs)
    p_click = score_frame(predictor, frame, slice(0, len(frame))).p_click
    users = user_codes(frame.users.codes)
    return Evaluation(
        version=predictor.manifest.version,
        metrics=all_metrics(frame.clicked, p_click, users, seed),
        reliability=reliability(frame.clicked, p_click),
        clicked=frame.clicked,
        p_click=p_click,
        line=frame.line,
        gauc_users=n_counting(frame.clicked, users),
    )


def compare_with(old: Predictor, frame: TrainingFrame, evaluation: Evaluation, seed: int = 0) -> Comparison:
    """The evaluated model against another one on the same impressions, in pairs.

    Args:
        frame: the one that was evaluated.
    Raises:
        EncodingError: the frame's columns are not the other model's.
    """
    check_columns(old.manifest.inputs, frame.inputs)
    p_old = score_frame(old, frame, slice(0, len(frame))).p_click
    users = user_codes(frame.users.codes)
    return comparison(old.manifest.version, frame.clicked, evaluation.p_click, p_old, users, seed)


def score_frame(predictor: Predictor, frame: Frame, rows: slice) -> Scores:
    """Scores of m neighbouring impressions of a frame whose columns are the model's."""
    edges = range(rows.start, rows.stop, CHUNK_ROWS)
    chunks = [slice(start, min(start + CHUNK_ROWS, rows.stop)) for start in edges]
    scores = [predictor.plan.score(*frame.encode(predictor.encoder, chunk)) for chunk in chunks]
    nothing = Scores(np.empty(0), np.empty(0))
    return Scores(*map(np.concatenate, zip(nothing, *scores, strict=True)))


def seen_in_training(manifest: Manifest, frame: TrainingFrame, source: str) -> int | None:
    """How many impressions of a frame lie in the period that a model or its calibrator was fitted to.

    None where nobody can tell.

    Without times the period is one of row numbers, and those mean the same in the same log only.

    Args:
        source: the frame's log, as `KIND:PATH`.
    """
    trained_on, fresh = manifest.trained_on, manifest.recalibrated
    if trained_on is None:
        return None
    if trained_on.has_times != frame.log.has_time or (not trained_on.has_times and trained_on.source != source):
        return None
    inside = (frame.time_ms >= trained_on.first_ms) & (frame.time_ms <= trained_on.last_ms)
    if (past := manifest.continued) is not None and (trained_on.has_times or past.source == source):
        inside |= (frame.time_ms >= past.first_ms) & (frame.time_ms <= past.last_ms)
    if fresh is not None:
        inside |= (frame.time_ms >= fresh.first_ms) & (frame.time_ms <= fresh.last_ms)
    return int(np.count_nonzero(inside))


def write_predictions(evaluation: Evaluation, path: Path) -> None:
    """CSV with the header `y,p`: one line per accepted input row, in input order; p in 9 significant digits.

    The file appears under its name whole or not at all; what was there before stays until then.

    Raises:
        OSError: naming `path`.
    """
    order = np.argsort(evaluation.line, kind="stable")
    rows = zip(evaluation.clicked[order].tolist(), evaluation.p_click[order].tolist(), strict=True)
    content = "".join(["y,p\n", *(f"{int(clicked)},{p:.9g}\n" for clicked, p in rows)]).encode("ascii")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)  # a pipe or /dev/null takes what is written, and must not be replaced
        else:
            write_over(path.resolve(), content)  # a link keeps pointing
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_columns(model: ModelInputs, log: ModelInputs) -> None:
    """Raises EncodingError where the log's features are not those the model was trained on."""
    trained = {view.name: view.fingerprint for view in model.views}
    found = {view.name: view.fingerprint for view in log.views}
    if trained != found:
        differing = sorted(name for name in trained.keys() | found.keys() if trained.get(name) != found.get(name))
        raise EncodingError(
            f"views {differing} are not those the model was trained on; use the features.toml of the training"
        )
    wanted, given = Encoder(model), Encoder(log)
    if (wanted.float_names, wanted.id_names) != (given.float_names, given.id_names):
        differing = sorted({*wanted.float_names, *wanted.id_names} ^ {*given.float_names, *given.id_names})
        raise EncodingError(
            f"columns {differing} are in the log or in the model but not in both; use the features.toml of the training"
        )
