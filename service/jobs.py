"""The offline work a person asks for, each as one call: `service/commands/` and the demo are thin over these.

A job reads a log, trains, measures or writes rows; it is told where things lie and reports progress, and it prints
nothing. Importing this module loads DuckDB and the exporters; a learner's own library comes with the job that trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from feature_store.clock import system_clock
from feature_store.definition import Project, load_project
from feature_store.offline.engine import EngineName
from feature_store.offline.log import Log
from feature_store.offline.materialize import MaterializeReport, materialize
from feature_store.offline.offline_store import OfflineStore
from feature_store.online.redis_writer import RedisRowWriter
from feature_store.schema import FeatureView
from models.calibrator import CalibratorChoice
from models.challenge import challenge
from models.continuing import go_on
from models.evaluation.attainable import share_of_attainable_gain
from models.evaluation.evaluate import Evaluation, evaluate
from models.evaluation.intervals import all_metrics, user_codes
from models.evaluation.served_vectors import read_served
from models.evaluation.skew_check import SkewReport, check_skew
from models.logs.frame import TrainingFrame, build_frame
from models.logs.reader import own_project, read_log
from models.logs.stored_frame import DATABASE_MB, StoredFrame, store_frame
from models.logs.truth import truth_of
from models.publication import Provenance, publish
from models.recalibration import publish_recalibrated, recalibrate
from models.registry.artifact import ModelArtifact
from models.registry.gate import Gate
from models.registry.manifest import ClickDelay, Interval, Label, Search
from models.registry.predictor import Predictor
from models.registry.registry import Published, Registry
from models.trainers import STREAMED_LEARNERS, trainer_named
from models.trainers.trainer import Trainer
from models.training import TrainOptions, TrainOutcome, train, training_set
from service.console import OnProgress
from service.errors import SettingsError
from service.settings import Settings
from service.store_address import store_url

REFERENCE_POSITION = "mean over the log's positions"
"""`p_click` speaks of it; see docs/adr/0003."""

NO_POSITION = "none: the log has no positions"


STREAMED_FROM = 200_000
"""Impressions. A smaller log fits into any memory, and a learner may look at its rows more than once."""


def open_log(
    data: str, features_file: Path | None, workdir: Path, on_progress: OnProgress, *, memory_mb: int | None = None
) -> Log:
    """The log named `KIND:PATH`, checked and in canonical form in `workdir`."""
    project = load_project(features_file) if features_file else None
    return read_log(data, project, workdir=workdir, on_progress=on_progress, memory_mb=memory_mb)


def read_frame(
    data: str, features_file: Path | None, workdir: Path, on_progress: OnProgress, engine: EngineName = "duckdb"
) -> TrainingFrame:
    """Every impression of a log with what was known of it at its time.

    Raises:
        EngineError: the engine is not to be had here.
        LogError, SchemaError: as `read_log` and `build_frame`.
    """
    return build_frame(open_log(data, features_file, workdir, on_progress), engine=engine, on_progress=on_progress)


@contextmanager
def frame_to_learn(
    data: str,
    features_file: Path | None,
    workdir: Path,
    learner: str,
    on_progress: OnProgress,
    engine: EngineName = "duckdb",
) -> Iterator[TrainingFrame | StoredFrame]:
    """Every impression of a log with what was known of it: in memory, or on disk for a learner that can stream."""
    if learner not in STREAMED_LEARNERS:
        yield read_frame(data, features_file, workdir, on_progress, engine)
        return
    log = open_log(data, features_file, workdir, on_progress, memory_mb=DATABASE_MB)
    if log.n < STREAMED_FROM:
        yield build_frame(log, engine=engine, on_progress=on_progress)
        return
    with store_frame(log, engine=engine, on_progress=on_progress) as frame:
        yield frame


def train_and_publish(
    frame: TrainingFrame | StoredFrame,
    *,
    learner: str,
    registry: Registry,
    source: str,
    options: TrainOptions,
    seed: int,
    on_progress: OnProgress,
    found: tuple[Trainer, Search] | None = None,
) -> Published:
    """Learns from the frame, in memory or by streaming, proves the exported graph and publishes it.

    Args:
        found: the learner with settings that a search has chosen; with its own where None.
    Raises:
        TrainingError: the frame holds too little to learn from.
        ExportError, ProofMissing, RegistryError: as `models.publication.publish`.
    """
    champion = registry.champion()  # asked first: an unreadable registry should not cost a training
    trainer, search = (trainer_named(learner), None) if found is None else found
    outcome = _trained(frame, trainer, options, seed, on_progress)
    compared = None if champion is None else challenge(registry, champion, frame, outcome.held_out_p, seed)
    provenance = replace(_provenance(frame, source), search=search)
    return publish(outcome, frame.inputs, provenance, registry, Gate(), on_progress, compared)


def go_on_and_publish(
    frame: TrainingFrame | StoredFrame,
    *,
    artifact: ModelArtifact,
    registry: Registry,
    source: str,
    options: TrainOptions,
    seed: int,
    exactly: bool,
    on_progress: OnProgress,
) -> Published:
    """Lets a version's learner go on with the frame's newer rows, proves the exported graph and publishes it.

    Raises:
        TrainingError, ArtifactDamaged: as `models.continuing.go_on`.
        ExportError, ProofMissing, RegistryError: as `models.publication.publish`.
    """
    champion = registry.champion()
    gone_on = go_on(artifact, frame, options, seed, source=source, exactly=exactly, on_progress=on_progress)
    newer, outcome = gone_on.frame, gone_on.outcome
    compared = None if champion is None else challenge(registry, champion, newer, outcome.held_out_p, seed)
    provenance = replace(_provenance(newer, source), continued=gone_on.continued)
    return publish(outcome, newer.inputs, provenance, registry, Gate(), on_progress, compared)


def _provenance(frame: TrainingFrame | StoredFrame, source: str) -> Provenance:
    label = frame.log.project.label
    return Provenance(
        source=source,
        label=Label(label.name, label.window_ms),
        reference_position=REFERENCE_POSITION if frame.has_positions else NO_POSITION,
        created_ms=system_clock(),
        click_delay=click_delay(frame.log),
        pending_impressions=frame.log.pending,
    )


def _trained(
    frame: TrainingFrame | StoredFrame, trainer: Trainer, options: TrainOptions, seed: int, on_progress: OnProgress
) -> TrainOutcome:
    if isinstance(frame, TrainingFrame):
        return train(training_set(frame), trainer, options, seed, on_progress)
    from models.streaming import train_streaming
    from models.trainers.ftrl import FtrlTrainer

    assert isinstance(trainer, FtrlTrainer)  # nobody else is given a frame on disk
    return train_streaming(frame, trainer, options, seed, on_progress)


def recalibrate_and_publish(
    frame: TrainingFrame,
    *,
    registry: Registry,
    version: str,
    choice: CalibratorChoice,
    source: str,
    seed: int,
    on_progress: OnProgress,
) -> Published:
    """Fits a calibrator to the impressions that a version was not trained on, and publishes its core with it.

    Raises:
        TrainingError: too few fresh clicks.
        EncodingError, PlanError, ExportError, ProofMissing, RegistryError: as `models.recalibration`.
    """
    champion = registry.champion()
    artifact = registry.get(version)
    on_progress("recalibrating", 0.0)
    found = recalibrate(Predictor(artifact), artifact.graph, frame, source, seed, choice)
    on_progress("recalibrating", 0.8)
    compared = None if champion is None else challenge(registry, champion, found.fresh, found.held_out_p, seed)
    published = publish_recalibrated(
        artifact, found, registry, Gate(), source=source, created_ms=system_clock(), challenge=compared
    )
    on_progress("recalibrating", 1.0)
    return published


def click_delay(log: Log) -> ClickDelay | None:
    """What the log knows of its clicks' delays, as a manifest tells it."""
    return None if log.delays is None else ClickDelay(**log.delays._asdict())


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
                frame.clicked, evaluation.p_click, truth.attainable_p, frame.users.codes
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
    workdir.mkdir(parents=True, exist_ok=True)
    with OfflineStore(log.project, log, workdir, engine) as store:
        report = check_skew(store, log.project, served)
    on_progress("asking the offline store", 1.0)
    return report


def figure(interval: Interval) -> dict[str, float | int]:
    """One figure with its interval and sample, as plain values."""
    return {
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
        "clicks": interval.clicks,
    }


def _figures(metrics: dict[str, Interval]) -> dict[str, dict[str, float | int]]:
    return {name: figure(interval) for name, interval in metrics.items()}


LATEST_MS = 253_402_300_799_999
"""The end of the year 9999, the last that a calendar of ours can say."""

AsOf = Literal["now", "log-end"] | int
"""The time whose knowledge is written: the present, the log's last impression, or milliseconds since 1970 UTC."""


def as_of(text: str) -> AsOf:
    """`now`, `log-end`, milliseconds since 1970 UTC, or an ISO time (UTC where it names no zone).

    Raises:
        SettingsError: none of these.
    """
    if text == "now":
        return "now"
    if text == "log-end":
        return "log-end"
    if text.isdecimal() and int(text) <= LATEST_MS:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"--as-of: {text!r} is no as-of time; write now, log-end, milliseconds since 1970 UTC or 2026-01-31T12:00"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def materialize_views(
    project: Project,
    views: Sequence[FeatureView],
    log: Log | None,
    settings: Settings,
    *,
    time: AsOf,
    workdir: Path,
    on_progress: OnProgress,
    engine: EngineName = "duckdb",
) -> MaterializeReport:
    """Writes the views' rows into the configured store, or into the embedded one where no Redis is named.

    Raises:
        EngineError: the engine is not to be had here.
        MaterializeError: the time is in the future.
        NoRowLeft: a view has no row at that time that can be used.
        SettingsError: the log's end is asked for, and there is no log.
        StoreError: the store failed; run it again to resume.
    """
    if time == "log-end" and log is None:
        raise SettingsError("--as-of: log-end is the time of a log's last impression; name the log with --data")
    moment = log.last_ms if time == "log-end" and log else None if time == "now" else int(time)
    with store_url(settings) as url:
        writer = RedisRowWriter(url, project.schema.project, on_wait=on_progress)
        try:
            return materialize(
                project,
                views,
                log,
                writer,
                workdir=workdir,
                clock=system_clock,
                as_of_ms=moment,
                engine=engine,
                on_progress=on_progress,
            )
        finally:
            writer.close()


def project_of(data: str | None, features_file: Path | None) -> Project:
    """The definition of features: the file, or what comes with the kind of log.

    Raises:
        LogNameError: neither a file nor a kind of log that brings its own.
    """
    if features_file:
        return load_project(features_file)
    return own_project((data or "").partition(":")[0])
