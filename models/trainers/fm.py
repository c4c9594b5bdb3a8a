"""Factorisation machine: a weight and a short vector for each line and hashed category.

What two columns say together is the inner product of their vectors, so a user group and an ad that never met still
have an opinion of each other. The path is the number of passes over the rows: the vectors start near zero and grow, and
stopping early is what keeps them small. Learnt by AdaGrad on mini-batches in float64, which gives rare categories large
steps and frequent ones small steps (Duchi et al. 2011). The order of the rows is drawn; the same seed gives the same.

Source: Rendle 2010, "Factorization Machines".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import expit
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from models.encoder import Encoded
from models.evaluation.metrics import log_loss_of_logit
from models.fitting.dials import Real, Setting, Space, Whole
from models.fitting.linear_design import LinearDesign
from models.random_streams import random_stream
from models.specs import FactorisationMachineSpec
from models.trainers.trainer import Float64s, TrainingSet

RANK = 8
MAX_PASSES = 20
PATIENCE = 2
"""Passes without progress on the held-out rows after which the path ends."""
BATCH_ROWS = 512
WEIGHT_STEP, VECTOR_STEP = 0.05, 0.03
PENALTY = 2e-5
"""Of weights and vectors, for each row that touches them."""
SPACE: Space = {
    "rank": Whole(2, 16, RANK),
    "penalty": Real(1e-6, 1e-3, PENALTY),
    "weight_step": Real(0.01, 0.2, WEIGHT_STEP),
    "vector_step": Real(0.005, 0.1, VECTOR_STEP),
}
"""Rank 16 is where published factorisation machines of CTR stand (BARS); the request pays for each."""
FIRST_SPREAD = 0.05
"""Standard deviation of the vectors before the first pass: at zero they would never move."""
NEWTON_STEPS = 5
SCORED_ROWS = 65_536


@dataclass(frozen=True)
class FactorisationMachineTrainer:
    """A factorisation machine with frozen settings; see the constants above."""

    rank: int = RANK
    penalty: float = PENALTY
    weight_step: float = WEIGHT_STEP
    vector_step: float = VECTOR_STEP
    name: str = "fm"

    @property
    def space(self) -> Space:
        """See `SPACE`."""
        return SPACE

    def tuned(self, settings: Mapping[str, Setting]) -> FactorisationMachineTrainer:
        """With these settings."""
        fields: dict[str, Any] = dict(settings)
        return replace(self, **fields)

    def fit_path(self, fit: TrainingSet, held_out: TrainingSet, seed: int) -> FactorisationMachinePath:
        """Passes over `fit` until `held_out` has not improved for a while."""
        design = LinearDesign.of(fit.encoded)
        search = _Search(design, fit, self, seed)
        held_rows = _Rows(design, held_out.encoded)
        states: list[_State] = []
        losses: list[float] = []
        while len(losses) < MAX_PASSES and len(losses) - PATIENCE <= int(np.argmin(losses or [0.0])):
            search.run_pass()
            states.append(search.levelled())
            losses.append(log_loss_of_logit(held_out.clicked, states[-1].margins(held_rows)))
        return FactorisationMachinePath(design, states, np.array(losses))

    def fit(self, data: TrainingSet, step: int, growth: float, seed: int) -> FactorisationMachineModel:
        """Passes `step + 1` times over all rows; more rows make longer passes, not more of them."""
        design = LinearDesign.of(data.encoded)
        search = _Search(design, data, self, seed)
        for _ in range(step + 1):
            search.run_pass()
        settings = {name: getattr(self, name) for name in SPACE}
        return FactorisationMachineModel(design, search.levelled(), data, {**settings, "passes": step + 1})


class _Rows:
    """n rows as sparse matrices: (n, n_weights) of the linear part, (n, d + tables) of what has a vector."""

    def __init__(self, design: LinearDesign, encoded: Encoded) -> None:
        self.linear = design.matrix(encoded)
        n, d = encoded.features.shape
        k = len(design.id_sizes)
        at, values = (part.reshape(n, 2 * d + k) for part in (self.linear.indices, self.linear.data))
        has_vector = np.r_[0:d, 2 * d : 2 * d + k]
        table_at = d + d * design.n_bins
        places = at[:, has_vector]
        places[:, d:] -= table_at - d
        shape = (n, d + design.n_weights - table_at)
        ends = np.arange(n + 1, dtype=at.dtype) * (d + k)
        self.vectors = sparse.csr_array((values[:, has_vector].ravel(), places.ravel(), ends), shape=shape)

    def __len__(self) -> int:
        return int(self.linear.shape[0])


@dataclass(slots=True)
class _State:
    """intercept: log-odds; weights: (n_weights,); vectors: (d + tables, r)."""

    intercept: float
    weights: Float64s
    vectors: Float64s

    def margins(self, rows: _Rows) -> Float64s:
        parts = [slice(start, start + SCORED_ROWS) for start in range(0, len(rows), SCORED_ROWS)]
        return np.concatenate([np.empty(0), *(self._margins(rows.linear[part], rows.vectors[part]) for part in parts)])

    def _margins(self, linear: sparse.csr_array, with_vector: sparse.csr_array) -> Float64s:
        total = with_vector @ self.vectors  # (n, d + tables) x (d + tables, r) -> (n, r)
        own = with_vector.power(2) @ self.vectors**2
        margins: Float64s = self.intercept + linear @ self.weights + 0.5 * (total**2 - own).sum(axis=1)
        return margins


class _Search:
    """AdaGrad from the base rate: a state, and the squared gradients that set the size of its steps."""

    def __init__(
        self, design: LinearDesign, data: TrainingSet, settings: FactorisationMachineTrainer, seed: int
    ) -> None:
        self._settings = settings
        self._rows, self._clicked = _Rows(design, data.encoded), data.clicked
        _silence_constants(self._rows.linear)
        self._random = random_stream(seed, "factorisation machine")
        n_vectors = self._rows.vectors.shape[1]
        rate = data.clicks / len(data)
        self.state = _State(
            float(np.log(rate / (1 - rate))),
            np.zeros(design.n_weights),
            self._random.normal(0.0, FIRST_SPREAD, (n_vectors, settings.rank)),
        )
        # What training never sees must say nothing: its vectors are zero from the start.
        unseen = np.ones(n_vectors, dtype=np.bool_)
        unseen[self._rows.vectors.indices[self._rows.vectors.data != 0.0]] = False
        self.state.vectors[unseen] = 0.0
        self._intercept_squares = 1.0
        self._weight_squares = np.ones(design.n_weights)
        self._vector_squares = np.ones((n_vectors, settings.rank))

    def run_pass(self) -> None:
        """Every row once, in a new order."""
        order = self._random.permutation(len(self._rows))
        with threadpool_limits(limits=1, user_api="blas"):
            for start in range(0, len(order), BATCH_ROWS):
                self._learn(np.sort(order[start : start + BATCH_ROWS]))

    def levelled(self) -> _State:
        """A copy whose promised clicks add up to those of the rows: the last batches decide the level too much."""
        state = _State(self.state.intercept, self.state.weights.copy(), self.state.vectors.copy())
        margins, clicks = state.margins(self._rows), int(np.count_nonzero(self._clicked))
        for _ in range(NEWTON_STEPS):
            p_click = expit(margins + (state.intercept - self.state.intercept))
            state.intercept += (clicks - p_click.sum()) / (p_click * (1 - p_click)).sum()
        return state

    def _learn(self, batch: npt.NDArray[np.int64]) -> None:
        state, settings = self.state, self._settings
        weights_at, linear = _touched(self._rows.linear[batch])
        vectors_at, with_vector = _touched(self._rows.vectors[batch])
        weights, vectors = state.weights[weights_at], state.vectors[vectors_at]
        squared = with_vector.power(2)
        total = with_vector @ vectors  # (B, r)
        margins = state.intercept + linear @ weights + 0.5 * (total**2 - squared @ vectors**2).sum(axis=1)
        residual = expit(margins) - self._clicked[batch]  # (B,)

        gradient = linear.T @ residual + settings.penalty * weights
        self._weight_squares[weights_at] += gradient**2
        state.weights[weights_at] = weights - settings.weight_step * gradient / np.sqrt(
            self._weight_squares[weights_at]
        )

        own = (squared.T @ residual)[:, None] * vectors
        gradients = with_vector.T @ (residual[:, None] * total) - own + settings.penalty * vectors
        self._vector_squares[vectors_at] += gradients**2
        state.vectors[vectors_at] = vectors - settings.vector_step * gradients / np.sqrt(
            self._vector_squares[vectors_at]
        )

        pull = float(residual.sum())
        self._intercept_squares += pull**2
        state.intercept -= settings.weight_step * pull / self._intercept_squares**0.5


def _silence_constants(linear: sparse.csr_array) -> None:
    """Zeroes what all rows have alike: its weight would be a second intercept, which a row without it would miss."""
    n = linear.shape[0]
    at, values = linear.indices.reshape(n, -1), linear.data.reshape(n, -1)
    values[:, (at == at[0]).all(axis=0) & (values == values[0]).all(axis=0)] = 0.0


def _touched(rows: sparse.csr_array) -> tuple[npt.NDArray[np.int64], sparse.csr_array]:
    """Columns that these rows touch, ascending, and the rows over these columns alone."""
    columns, at = np.unique(rows.indices, return_inverse=True)
    return columns, sparse.csr_array((rows.data, at, rows.indptr), shape=(rows.shape[0], len(columns)))


class FactorisationMachinePath:
    """The state after each pass and its held-out loss."""

    def __init__(self, design: LinearDesign, states: list[_State], held_out_loss: Float64s) -> None:
        self._design, self._states = design, states
        self.held_out_loss = held_out_loss

    def raw_logit(self, step: int, encoded: Encoded) -> Float64s:
        """(n,) margins after that pass."""
        return self._states[step].margins(_Rows(self._design, encoded))


class FactorisationMachineModel:
    """A finished state and its neutral form."""

    def __init__(
        self, design: LinearDesign, state: _State, data: TrainingSet, parameters: dict[str, float | int | str | bool]
    ) -> None:
        self._design, self._state = design, state
        d = len(data.float_names)
        self.spec = FactorisationMachineSpec(
            design.spec(state.weights, state.intercept), state.vectors[:d], state.vectors[d:]
        )
        self.parameters = parameters
        self.importance = _importance(design, state, data)

    def raw_logit(self, encoded: Encoded) -> Float64s:
        """(n,) margins, summed in float64 over the sparse design."""
        return self._state.margins(_Rows(self._design, encoded))


def _importance(design: LinearDesign, state: _State, data: TrainingSet) -> dict[str, float]:
    """Share of each column in the variance of the margins: its own weight and its products with all others."""
    d, k = len(data.float_names), len(data.id_names)
    rows = _Rows(design, data.encoded)
    linear = (rows.linear.data * state.weights[rows.linear.indices]).reshape(len(data), 2 * d + k)
    own = np.hstack([linear[:, :d] + linear[:, d : 2 * d], linear[:, 2 * d :]])
    total = rows.vectors @ state.vectors  # (n, r)
    variances = np.empty(d + k)
    values = rows.vectors.data.reshape(len(data), d + k)
    places = rows.vectors.indices.reshape(len(data), d + k)
    for column in range(d + k):
        vector = values[:, column, None] * state.vectors[places[:, column]]
        variances[column] = (own[:, column] + (vector * (total - vector)).sum(axis=1)).var()
    names = data.float_names + data.id_names
    rounding = np.finfo(np.float64).eps * variances.sum()
    whole = variances.sum() or 1.0
    return {name: float(v / whole) for name, v in zip(names, variances, strict=True) if v > rounding}
