"""Models and served vectors held against a log, and the figures as plain values. Loads DuckDB and the evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feature_store.offline.engine import EngineName
from feature_store.offline.log import Log
from feature_store.offline.offline_store import OfflineStore
from feature_store.run_folder import RunFolder
from models.evaluation.attainable import share_of_attainable_gain
from models.evaluation.evaluate import Evaluation, evaluate
from models.evaluation.intervals import all_metrics, user_codes
from models.evaluation.served_vectors import read_served
from models.evaluation.skew_check import SkewReport, check_skew
from models.logs.frame import TrainingFrame
from models.logs.truth import truth_of
from models.registry.manifest import Interval
from models.registry.predictor import Predictor
from service.console import OnProgress


@dataclass(frozen=True, slots=True)
class Oracles:
    """What a simulated log lets us know: figures of both oracles on the model's own impressions."""

    true: dict[str, Interval]
    attainable: dict[str, Interval]
    share_of_attainable_gain: Interval


@dataclass(frozen=True, slots=True)
class Measured:
    """A model held against a log."""

    evaluation: Evaluation
    oracles: Oracles | None

    def document(self) -> dict[str, Any]:
        """All figures as plain values."""
        found: dict[str, Any] = {
            "version": self.evaluation.version,
            "impressions": len(self.evaluation.clicked),
            "clicks": int(np.count_nonzero(self.evaluation.clicked)),
            "mean_p_click": float(self.evaluation.p_click.mean()),
            "metrics": _figures(self.evaluation.metrics),
            "gauc_users": self.evaluation.gauc_users,
        }
        if self.oracles is not None:
            found["oracles"] = {
                "true": _figures(self.oracles.true),
                "attainable": _figures(self.oracles.attainable),
                "share_of_attainable_gain": figure(self.oracles.share_of_attainable_gain),
            }
        return found


def measure(predictor: Predictor, frame: TrainingFrame) -> Measured:
    """Scores every impression of the frame as serving would, and measures; against both oracles where there are any.

    Raises:
        EncodingError: the frame's columns are not the model's.
        MetricError: all impressions have the same outcome.
    """
    evaluation = evaluate(predictor, frame)
    truth = truth_of(frame)
    if truth is None:
        return Measured(evaluation, None)
    users = user_codes(frame.users.codes)
    return Measured(
        evaluation,
        Oracles(
            true=all_metrics(frame.clicked, truth.true_p, users),
            attainable=all_metrics(frame.clicked, truth.attainable_p, users),
            share_of_attainable_gain=share_of_attainable_gain(
                frame.clicked, evaluation.p_click, truth.attainable_p, users
            ),
        ),
    )


def skew_of(
    served_dir: Path,
    log: Log,
    *,
    name: str,
    version: str | None,
    workdir: Path,
    on_progress: OnProgress,
    engine: EngineName = "duckdb",
) -> SkewReport:
    """Vectors that a live service logged, held against what the offline store says of the same rows.

    Args:
        log: what the store was materialized from; a longer log of the same history says the same.
        version: of the model; every one in the log where None.
    Raises:
        LogError: there is nothing to compare, or a source cannot be read.
        SchemaError: the log was served with other views than the log's project defines.
    """
    on_progress("reading what was served", 0.0)
    served = read_served(served_dir, name, version)
    on_progress("reading what was served", 1.0)
    on_progress("asking the offline store", 0.0)
    with RunFolder(workdir) as folder, OfflineStore(log.project, log, folder.path, engine) as store:
        report = check_skew(store, log.project, served)
    on_progress("asking the offline store", 1.0)
    return report


def figure(interval: Interval) -> dict[str, float | int | str]:
    """One figure with its interval and sample, as plain values."""
    return {
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
        "clicks": interval.clicks,
        "unit": interval.unit,
        "why_rows": interval.why_rows,
    }


def _figures(metrics: dict[str, Interval]) -> dict[str, dict[str, float | int | str]]:
    return {name: figure(interval) for name, interval in metrics.items()}
