"""Trains and publishes the workload's model through the product's own chain; only the number of trees is decided here.

Importing this module loads DuckDB, LightGBM and the exporters.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from feature_store.clock import system_clock
from models.publication import Provenance, publish
from models.registry.gate import Gate
from models.registry.manifest import Label
from models.registry.registry import Published, Registry
from models.trainers import trainer_named
from models.trainers.gbdt import GbdtModel
from models.trainers.trainer import Trainer
from models.training import TrainOptions, train, training_set
from service.console import OnProgress
from service.reference_workload.facts import Calibration
from service.reference_workload.fixed_trees import FixedTrees
from service.reference_workload.parameters import WorkloadParameters
from service.training_jobs import REFERENCE_POSITION, read_frame


@dataclass(frozen=True, slots=True)
class Trained:
    """A published model, and what its artifact does not say in plain form."""

    published: Published
    calibration: Calibration
    lightgbm_text: str | None


def train_and_publish(
    log: Path,
    features_file: Path,
    workdir: Path,
    registry: Registry,
    parameters: WorkloadParameters,
    on_progress: OnProgress,
) -> Trained:
    """From the log's file to a published model.

    Raises:
        TrainingError, ExportError, ProofMissing, RegistryError: as `service.training_jobs.train_and_publish`.
    """
    frame = read_frame(f"parquet:{log}", features_file, workdir, on_progress)
    outcome = train(training_set(frame), _trainer(parameters), TrainOptions(), parameters.seed, on_progress)
    provenance = Provenance(
        source=f"reference workload {parameters.digest}",
        label=Label(frame.log.project.label.name),
        reference_position=REFERENCE_POSITION,
        created_ms=system_clock(),
    )
    published = publish(outcome, frame.inputs, provenance, registry, Gate(), on_progress)
    return Trained(
        published=published,
        calibration=Calibration.of(outcome.correction, outcome.calibrator),
        lightgbm_text=outcome.model.text if isinstance(outcome.model, GbdtModel) else None,
    )


def _trainer(parameters: WorkloadParameters) -> Trainer:
    if parameters.learner == "gbdt":
        return FixedTrees(parameters.trees, parameters.leaves)
    return trainer_named(parameters.learner)
