"""The base rate: the click rate of the training rows for everybody.

A model that is no better than this knows nothing; here it is a model like any other, so that it can be published,
served and compared. The path has one step, because there is nothing to choose.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.encoder import Encoded
from models.evaluation.metrics import log_loss_of_logit
from models.specs import LinearSpec
from models.trainers.trainer import Float64s, TrainingSet


@dataclass(frozen=True)
class BaseRateTrainer:
    """The mean click rate."""

    name: str = "base-rate"

    def fit_path(self, fit: TrainingSet, held_out: TrainingSet, seed: int) -> BaseRatePath:
        """The rate of `fit`; `seed` is not needed, because nothing is drawn."""
        log_odds = _log_odds(fit)
        return BaseRatePath(log_odds, np.array([log_loss_of_logit(held_out.clicked, np.full(len(held_out), log_odds))]))

    def fit(self, data: TrainingSet, step: int, growth: float, seed: int) -> BaseRateModel:
        """The rate of `data`."""
        return BaseRateModel(LinearSpec.constant(_log_odds(data), len(data.float_names), len(data.id_names)))


@dataclass(frozen=True, slots=True)
class BaseRatePath:
    """One rate and its held-out loss."""

    log_odds: float
    held_out_loss: Float64s

    def raw_logit(self, step: int, encoded: Encoded) -> Float64s:
        """(n,) times the same."""
        return np.full(len(encoded.features), self.log_odds)


@dataclass(frozen=True)
class BaseRateModel:
    """An intercept; no column matters."""

    spec: LinearSpec
    parameters: dict[str, float | int | str | bool] = field(default_factory=dict)
    importance: dict[str, float] = field(default_factory=dict)

    def raw_logit(self, encoded: Encoded) -> Float64s:
        """(n,) times the intercept."""
        return np.full(len(encoded.features), self.spec.intercept)


def _log_odds(data: TrainingSet) -> float:
    return float(np.log(data.clicks / (len(data) - data.clicks)))
