"""The use case of `clickserve train --search`: settings looked for on the fit part of a frame, before it is trained on.

The trials lie in the work folder, in a file named by learner and rows; the same command goes on from there.
"""

from __future__ import annotations

import time
from pathlib import Path

from models.logs.frame import TrainingFrame
from models.logs.stored_frame import StoredFrame
from models.registry.manifest import Search
from models.search import Budget, Objective, check_searchable, search
from models.stream_losses import StreamLosses
from models.trainers import trainer_named
from models.trainers.trainer import Trainer
from models.training import TrainOptions, cross_fit_of, training_set
from service.console import OnProgress
from service.product_version import product_version


def search_settings(
    frame: TrainingFrame | StoredFrame,
    *,
    learner: str,
    budget: Budget,
    options: TrainOptions,
    seed: int,
    workdir: Path,
    on_progress: OnProgress,
) -> tuple[Trainer, Search]:
    """The learner with the best settings found under the budget, and how they were found.

    Raises:
        TrainingError: the learner has nothing to search, Optuna is missing, the frame holds too little to learn from,
            or the file of trials is damaged.
        RegistryError: that file cannot be written.
    """
    trainer = check_searchable(trainer_named(learner))
    objective: Objective
    if isinstance(frame, StoredFrame):
        objective = StreamLosses.of(frame, options, seed, on_progress)
    else:
        objective = cross_fit_of(training_set(frame), options, seed)
    workdir.mkdir(parents=True, exist_ok=True)
    return search(
        objective,
        trainer,
        budget,
        seed,
        folder=workdir,
        version=product_version(),
        on_progress=on_progress,
        clock=time.monotonic,
    )
