"""Boosted trees of a size that was decided beforehand, for measuring speed: the data has no say in it.

The product's own learner stops adding trees when held-out rows stop improving. Here the path has one step, a model of
all the trees; the rest of training (cross-fitting, calibration, figures) stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.encoder import Encoded
from models.evaluation.metrics import log_loss_of_logit
from models.trainers.gbdt import GbdtModel, GbdtTrainer
from models.trainers.trainer import Float64s, TrainingSet


@dataclass(frozen=True)
class FixedTrees:
    """A `Trainer` whose models have exactly `trees` trees, of at most `leaves` leaves each."""

    trees: int
    leaves: int
    name: str = "gbdt"

    def fit_path(self, fit: TrainingSet, held_out: TrainingSet, seed: int) -> OneStep:
        """The one model of all trees."""
        model = self.fit(fit, step=0, growth=1.0, seed=seed)
        loss = log_loss_of_logit(held_out.clicked, model.raw_logit(held_out.encoded))
        return OneStep(model, np.array([loss]))

    def fit(self, data: TrainingSet, step: int, growth: float, seed: int) -> GbdtModel:
        """All trees, whatever step is chosen and however much the data has grown."""
        trainer = GbdtTrainer(overrides={"num_leaves": self.leaves})
        return trainer.fit(data, step=self.trees - 1, growth=1.0, seed=seed)


@dataclass(frozen=True)
class OneStep:
    """A path of one model. held_out_loss: (1,) float64."""

    model: GbdtModel
    held_out_loss: Float64s

    def raw_logit(self, step: int, encoded: Encoded) -> Float64s:
        """(n,) margins of the only model."""
        return self.model.raw_logit(encoded)
