"""Logistic regression by FTRL-proximal: the learner for logs that are larger than memory, and for going on learning.

It looks at rows in order of time and never again, so a log of any size can stream by (`models/streaming.py`), and its
state is published beside the model (`learner_state.npz`), from where newer rows can be learnt.

Behind the contract of all learners, where the rows lie in memory, the path is the number of passes over them: a small
log does not fill the weights at one look. Order of rows is order of time, so nothing is drawn and the seed is not used.
The level is set at the end, because the last rows of a pass decide it too much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from models.calibrator import sigmoid
from models.encoder import Encoded
from models.evaluation.metrics import log_loss_of_logit
from models.fitting import ftrl_state
from models.fitting.dials import Real, Setting, Space
from models.fitting.ftrl import SCORED_ROWS, DesignedRows, FrozenWeights, Ftrl, FtrlSettings
from models.fitting.linear_design import LinearDesign
from models.fitting.linear_importance import column_shares
from models.specs import LinearSpec
from models.trainers.trainer import Float64s, TrainingSet

SETTINGS = FtrlSettings(alpha=0.1, beta=1.0, l1=0.5, l2=1.0)
"""alpha was chosen of 0.02 to 0.4 on a simulated log of a million impressions, by NE of its last fifth: 0.932 at 0.02,
0.922 at 0.1, and at 0.2 the first rows overshoot. Penalties of 0 to 10 changed the fourth digit there."""

SPACE: Space = {
    "alpha": Real(0.02, 0.4, 0.1),
    "l1": Real(0.01, 10.0, 0.5),
    "l2": Real(0.01, 100.0, 1.0),
}
"""beta is no dial: it only decides how the very first rows are learnt."""

MAX_PASSES = 20
PATIENCE = 2
"""Passes without progress on the held-out rows after which the path ends."""
NEWTON_STEPS = 50
NEWTON_ENOUGH = 1e-9
IMPORTANCE_ROWS = 50_000


@dataclass(frozen=True)
class FtrlTrainer:
    """FTRL-proximal with frozen settings."""

    settings: FtrlSettings = SETTINGS
    name: str = "ftrl"

    @property
    def space(self) -> Space:
        """See `SPACE`."""
        return SPACE

    def tuned(self, settings: Mapping[str, Setting]) -> FtrlTrainer:
        """With these settings of FTRL."""
        return replace(self, settings=replace(self.settings, **settings))

    def fit_path(self, fit: TrainingSet, held_out: TrainingSet, seed: int) -> FtrlPath:
        """Passes over `fit` until `held_out` has not improved for a while."""
        learner = self.begin(LinearDesign.of(fit.encoded), fit.clicks, len(fit))
        models: list[FrozenWeights] = []
        losses: list[float] = []
        while len(losses) < MAX_PASSES and len(losses) - PATIENCE <= int(np.argmin(losses or [0.0])):
            _pass(learner, fit)
            models.append(_levelled(learner, fit))
            losses.append(log_loss_of_logit(held_out.clicked, models[-1].margins(held_out.encoded)))
        return FtrlPath(models, np.array(losses))

    def fit(self, data: TrainingSet, step: int, growth: float, seed: int) -> FtrlModel:
        """Passes `step + 1` times over all rows; more rows make longer passes, not more of them."""
        learner = self.begin(LinearDesign.of(data.encoded), data.clicks, len(data))
        for _ in range(step + 1):
            _pass(learner, data)
        every = max(1, len(data) // IMPORTANCE_ROWS)
        return FtrlModel(learner, _levelled(learner, data), data.take(slice(None, None, every)), {"passes": step + 1})

    def begin(self, design: LinearDesign, clicks: int, rows: int) -> Ftrl:
        """A learner that has seen nothing but the click rate of its first rows."""
        return Ftrl(design, self.settings, float(np.log((clicks + 0.5) / (rows - clicks + 0.5))))


class FtrlPath:
    """Weights after each pass and their held-out loss."""

    def __init__(self, models: list[FrozenWeights], held_out_loss: Float64s) -> None:
        self._models = models
        self.held_out_loss = held_out_loss

    def raw_logit(self, step: int, encoded: Encoded) -> Float64s:
        """(n,) margins after that pass."""
        return self._models[step].margins(encoded)


class FtrlModel:
    """Finished weights, their neutral form, and the state from which more can be learnt."""

    def __init__(
        self,
        learner: Ftrl,
        weights: FrozenWeights,
        examples: TrainingSet,
        parameters: dict[str, float | int | str | bool],
    ) -> None:
        """examples: training rows on which the importance of columns is seen."""
        self._learner, self._weights = learner, weights
        self.spec: LinearSpec = weights.spec()
        self.parameters: dict[str, float | int | str | bool] = {
            **asdict(learner.settings),
            **parameters,
            "rows": learner.rows,
            "weights": len(learner.z) - 1,
            "weights_not_0": int(np.count_nonzero(weights.effective[:-1])),
        }
        names = examples.float_names + examples.id_names
        self.importance = column_shares(weights.design, weights.weights, examples.encoded, names)

    def raw_logit(self, encoded: Encoded) -> Float64s:
        """(n,) margins, summed in float64 over the design's columns."""
        return self._weights.margins(encoded)

    def state(self) -> bytes:
        """See `UpdatableModel.state`."""
        return ftrl_state.to_bytes(self._learner)


def _pass(learner: Ftrl, data: TrainingSet) -> None:
    """Every row once, in order of time."""
    for start in range(0, len(data), SCORED_ROWS):
        part = data.take(slice(start, start + SCORED_ROWS))
        rows = DesignedRows.of(learner.design, part.encoded)
        learner.learn(rows, part.clicked, np.ones(len(part), dtype=np.bool_))


def _levelled(learner: Ftrl, data: TrainingSet) -> FrozenWeights:
    """The weights as they are, moved so that the promised clicks of the rows add up to the seen ones."""
    return learner.frozen(shift_to(learner.frozen().margins(data.encoded), data.clicks))


def shift_to(margins: Float64s, clicks: float) -> float:
    """What must be added to all margins that they promise so many clicks."""
    shift = 0.0
    for _ in range(NEWTON_STEPS):
        p_click = sigmoid(margins + shift)
        # Where nearly all promises are certain, a whole step would leave the world; one unit of log-odds never does.
        slope = max(float((p_click * (1.0 - p_click)).sum()), 1e-9)
        step = float(np.clip((clicks - p_click.sum()) / slope, -1.0, 1.0))
        shift += step
        if abs(step) < NEWTON_ENOUGH:
            break
    return shift
