"""The contract of a learner: a path of models from simple to complex, and one model at a chosen step of it.

Every learner here has one dial that decides how much it believes its data: the number of trees, the strength of the
penalty. `fit_path` turns the dial over its whole range and tells the log loss of held-out rows at each step; `fit`
learns at one step. Which step is right is decided outside (`models/training.py`), by the same rule for all learners.

Learners see the model's own matrices (`Encoder.encode`): features float32 (n, d) with NaN for missing, ids int64
(n, k) with 0 for missing. A margin is a log-odds before any correction for sampling and before calibration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from models.encoder import Encoded, Layout
from models.fitting.dials import Setting, Space
from models.specs import ModelSpec

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """n impressions as a learner sees them, in time order.

    encoded: features (n, d) float32, ids (n, k) int64.
    clicked: (n,) bool.
    time_ms: (n,) int64, non-decreasing.
    float_names, id_names: names of the d and k columns.
    user_codes: (n,) int64, equal where the user is the same; None where the log has no users.
    layout: which columns are of a user, an ad, the context or a pair; None where nobody said.
    """

    encoded: Encoded
    clicked: npt.NDArray[np.bool_]
    time_ms: npt.NDArray[np.int64]
    float_names: tuple[str, ...]
    id_names: tuple[str, ...]
    user_codes: npt.NDArray[np.int64] | None = None
    layout: Layout | None = None

    def __len__(self) -> int:
        return len(self.clicked)

    @property
    def clicks(self) -> int:
        """Number of impressions that were clicked."""
        return int(np.count_nonzero(self.clicked))

    def take(self, rows: slice | npt.NDArray[Any]) -> TrainingSet:
        """The impressions at these places: a slice (a view), places, or a mask (copies)."""
        return TrainingSet(
            Encoded(self.encoded.features[rows], self.encoded.ids[rows]),
            self.clicked[rows],
            self.time_ms[rows],
            self.float_names,
            self.id_names,
            None if self.user_codes is None else self.user_codes[rows],
            self.layout,
        )


class TrainedModel(Protocol):
    """A learner's finished model; its own prediction is what the exported graph is compared with."""

    @property
    def spec(self) -> ModelSpec:
        """What it computes, free of the learner."""
        ...

    @property
    def parameters(self) -> dict[str, float | int | str | bool]:
        """What it was made with, for the manifest."""
        ...

    @property
    def importance(self) -> dict[str, float]:
        """Share of each column in the model's decisions, summing to 1; columns without any are left out."""
        ...

    def raw_logit(self, encoded: Encoded) -> Float64s:
        """(n,) margins, summed in float64."""
        ...


@runtime_checkable
class UpdatableModel(Protocol):
    """A trained model that can go on learning from newer rows."""

    def state(self) -> bytes:
        """What its learner needs for that; published beside the model, and read by that learner alone."""
        ...


class FittedPath(Protocol):
    """One learner fitted at every step of its path."""

    @property
    def held_out_loss(self) -> Float64s:
        """(steps,) mean log loss of the held-out rows, in nats; from simple to complex."""
        ...

    def raw_logit(self, step: int, encoded: Encoded) -> Float64s:
        """(n,) margins of the model at that step (0 to steps - 1)."""
        ...


class Trainer(Protocol):
    """One learner with frozen settings. The same data and seed give the same model."""

    @property
    def name(self) -> str:
        """As the command line and the manifest call it."""
        ...

    def fit_path(self, fit: TrainingSet, held_out: TrainingSet, seed: int) -> FittedPath:
        """Learns from `fit` at every step, and measures each step on `held_out`."""
        ...

    def fit(self, data: TrainingSet, step: int, growth: float, seed: int) -> TrainedModel:
        """Learns from `data` at one step of the path, `data` having `growth` times the rows the step was chosen on."""
        ...


@runtime_checkable
class TunableTrainer(Trainer, Protocol):
    """A learner with settings that a search may turn, beside the dial that its path turns."""

    @property
    def space(self) -> Space:
        """The dials and their ranges; their defaults are the learner as it is."""
        ...

    def tuned(self, settings: Mapping[str, Setting]) -> Trainer:
        """The learner with some of these dials set otherwise; they land in the manifest as its parameters."""
        ...
