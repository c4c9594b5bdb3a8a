"""Learning, each kind as one call: `service/commands/`, `compare` and the demo are thin over these.

A job reads a log, trains or recalibrates, proves and publishes; it is told where things lie and reports progress, and
it prints nothing. What measures is `measuring.py`, what writes rows `materializing.py`. Importing this module loads
DuckDB and the exporters; a learner's own library comes with the job that trains.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from feature_store.clock import system_clock
from feature_store.definition import load_project
from feature_store.offline.engine import EngineName
from feature_store.offline.log import Log
from models.calibrator import CalibratorChoice
from models.challenge import challenge
from models.continuing import go_on
from models.logs.frame import TrainingFrame, build_frame
from models.logs.reader import read_log
from models.logs.stored_frame import DATABASE_MB, StoredFrame, store_frame
from models.publication import Provenance, publish
from models.recalibration import publish_recalibrated, recalibrate
from models.registry.artifact import ModelArtifact
from models.registry.gate import Gate
from models.registry.manifest import ClickDelay, Label, Search
from models.registry.predictor import Predictor
from models.registry.registry import Published, Registry
from models.trainers import STREAMED_LEARNERS, trainer_named
from models.trainers.trainer import Trainer
from models.training import TrainOptions, TrainOutcome, train, training_set
from service.console import OnProgress

REFERENCE_POSITION = "mean over the log's positions"
"""`p_click` speaks of it; see docs/adr/0003."""

NO_POSITION = "none: the log has no positions"


STREAMED_FROM = 1_000_000
"""Impressions. A smaller log fits into any memory (0.5 GB), and a learner may look at its rows more than once: one look
at 160,000 rows leaves the weights too small, and NE 0.01 higher than 6 to 20 looks do; at 800,000 rows 0.005."""


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
