"""A learner that takes rows as they come goes on with newer ones: yesterday's weights learn today.

    |---------- parent's rows ----------|-- newer rows: fit, first 80 % --|-- tail, 20 % --|
                                    state ──► learnt, promises calibrate ──► judged, learnt

The parent's state (`learner_state.npz`) holds its gradients and their squares, so frequent categories have become slow
and new ones are quick. Learning goes on as `models/streaming.py` learns the rest of a stream; the calibrator is made of
promises for the newer rows alone, each made before its row was learnt, and the newest fifth judges as always.

What the state cannot change stays as it was: settings, the share of non-clicks learnt from, bins and table sizes. Where
the world grows new values by the thousand, tables get crowded: train anew now and then.

A row is learnt once: rows up to the parent's last one are left out, those of its millisecond as well, for nobody can
tell which of them were learnt. Where rows are named (`--rows`), an earlier one is an error and not left out silently;
one of the same time is taken at the word of whoever named it, because some logs tell the hour and no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feature_store.clock import shown_moment
from models.errors import EncodingError, TrainingError
from models.evaluation.evaluate import check_columns
from models.fitting import ftrl_state
from models.logs.frame import TrainingFrame
from models.logs.stored_frame import StoredFrame
from models.registry.artifact import LEARNER_STATE, ModelArtifact
from models.registry.manifest import Continued, Label, Manifest, TrainedOn
from models.streaming import Past, train_streaming
from models.trainers.ftrl import FtrlTrainer
from models.training import Progress, TrainOptions, TrainOutcome

StreamedFrame = TrainingFrame | StoredFrame


@dataclass(frozen=True, slots=True)
class GoneOn:
    """What came of it. frame: the newer rows."""

    outcome: TrainOutcome
    frame: StreamedFrame
    continued: Continued


def go_on(
    artifact: ModelArtifact,
    frame: StreamedFrame,
    options: TrainOptions,
    seed: int,
    *,
    source: str,
    exactly: bool,
    on_progress: Progress,
) -> GoneOn:
    """Learns from the rows of a frame that are newer than those of a version.

    Args:
        source: the log, as `KIND:PATH`.
        exactly: all rows of the frame, or none.
    Raises:
        TrainingError: the version has no state to go on from, the frame is of another kind, no row is newer, rows would
            be learnt twice, or as `train_streaming`.
        ArtifactDamaged: the state cannot be read.
    """
    parent = artifact.manifest
    trained = check_state(artifact)
    _check_alike(parent, frame)
    if options.negative_rate is not None:
        raise TrainingError(
            f"version {parent.version} learnt from {trained.negative_sampling_rate:.4g} of the non-clicks, "
            "and its weights speak of that share; leave the rate out, or train anew"
        )
    newer = _newer(parent.version, trained, frame, source, exactly)
    learner = ftrl_state.from_bytes(artifact.files[LEARNER_STATE])
    past = Past(learner, trained.negative_sampling_rate)
    trainer = FtrlTrainer(settings=learner.settings)
    outcome = train_streaming(newer, trainer, options, seed, on_progress, past)
    return GoneOn(outcome, newer, _continued(parent, trained))


def check_state(artifact: ModelArtifact) -> TrainedOn:
    """What a version learnt; refuses one with nothing to go on from, and is asked before a log is read.

    Raises:
        TrainingError: it has no state.
    """
    manifest = artifact.manifest
    if LEARNER_STATE in artifact.files and manifest.learner == FtrlTrainer.name and manifest.trained_on is not None:
        return manifest.trained_on
    raise TrainingError(
        f"version {manifest.version} ({manifest.learner}) holds no state of a learner to go on from; name a version of "
        f"{FtrlTrainer.name} that does, or train anew"
    )


def _check_alike(parent: Manifest, frame: StreamedFrame) -> None:
    try:
        check_columns(parent.inputs, frame.inputs)
    except EncodingError as error:
        raise TrainingError(f"version {parent.version} cannot go on with this log: {error}") from error
    label = Label(frame.log.project.label.name, frame.log.project.label.window_ms)
    if label != parent.label:
        raise TrainingError(
            f"version {parent.version} learnt {parent.label.described()}; this log's label is {label.described()}; "
            "train anew, or give both the same label in features.toml"
        )


def _newer(version: str, trained: TrainedOn, frame: StreamedFrame, source: str, exactly: bool) -> StreamedFrame:
    """The rows that the parent and those before it have not learnt; all where their times cannot be compared."""
    if not (frame.log.has_time and trained.has_times) and trained.source != source:
        return frame
    start = int(np.searchsorted(frame.time_ms, trained.last_ms, side="right"))
    last = shown_moment(trained.last_ms) if trained.has_times else f"row {trained.last_ms:,} of {source}"
    if start == len(frame):
        raise TrainingError(f"version {version} has learnt up to {last}, and no impression is later; name a newer log")
    if exactly and trained.has_times:
        start = int(np.searchsorted(frame.time_ms, trained.last_ms, side="left"))
    if exactly and start:
        raise TrainingError(
            f"{start:,} of the {len(frame):,} rows that are asked for lie before {last}, up to which version "
            f"{version} has learnt; leave --rows out to learn the newer ones"
        )
    return frame.rows(slice(start, None))


def _continued(parent: Manifest, trained: TrainedOn) -> Continued:
    before = parent.continued
    if before is None:
        return Continued(
            parent.version, trained.source, trained.impressions, trained.clicks, trained.first_ms, trained.last_ms
        )
    comparable = trained.has_times or before.source == trained.source
    return Continued(
        parent.version,
        trained.source,
        before.impressions + trained.impressions,
        before.clicks + trained.clicks,
        min(before.first_ms, trained.first_ms) if comparable else trained.first_ms,
        trained.last_ms,
    )
