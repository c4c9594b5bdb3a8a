"""Logistic regression with an L2 penalty: one weight per bin, line and hashed category.

The path is the strength of the penalty, strong to weak, each step starting from the last one's weights. The penalty
belongs to the weights and not to the rows (each weight is drawn from a normal of variance 1 / strength), so the step
that was right on a part is right on the whole. The intercept is free: the mean prediction of the training rows equals
their click rate. Solved by L-BFGS in float64, which draws no random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from models.encoder import Encoded
from models.evaluation.metrics import log_loss_of_logit
from models.fitting.linear_design import LinearDesign
from models.specs import LinearSpec
from models.trainers.trainer import Float64s, TrainingSet

STRENGTHS = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
MAX_ITERATIONS = 300
GRADIENT_TOLERANCE = 1e-7
LOSS_TOLERANCE = 1e-8
"""Relative progress per iteration, on losses per row: far below what shows in the fifth digit of a log loss."""


@dataclass(frozen=True)
class LogisticTrainer:
    """Penalised logistic regression with frozen settings."""

    strengths: tuple[float, ...] = STRENGTHS
    name: str = "logistic"

    def fit_path(self, fit: TrainingSet, held_out: TrainingSet, seed: int) -> LogisticPath:
        """Fits from strong to weak until `held_out` gets worse; `seed` is not needed, because nothing is drawn."""
        design = LinearDesign.of(fit.encoded)
        problem = _Problem(design.matrix(fit.encoded), fit.clicked)
        held_matrix = design.matrix(held_out.encoded)
        solutions: list[_Solution] = []
        losses: list[float] = []
        for strength in self.strengths:
            solutions.append(problem.solve(strength, start=solutions[-1] if solutions else None))
            losses.append(log_loss_of_logit(held_out.clicked, solutions[-1].margins(held_matrix)))
            if losses[-1] > min(losses):
                break  # the loss has one valley, and the steps beyond it are the dearest to solve
        return LogisticPath(design, solutions, np.array(losses))

    def fit(self, data: TrainingSet, step: int, growth: float, seed: int) -> LogisticModel:
        """Fits one strength; it does not depend on how many rows there are."""
        design = LinearDesign.of(data.encoded)
        matrix = design.matrix(data.encoded)
        solution = _Problem(matrix, data.clicked).solve(self.strengths[step], start=None)
        return LogisticModel(design, solution, matrix, data, self.strengths[step])


@dataclass(frozen=True, slots=True)
class _Solution:
    """weights: (n_weights,) float64, 0 where training never looked; intercept: log-odds."""

    weights: Float64s
    intercept: float

    def margins(self, matrix: sparse.csr_array) -> Float64s:
        margins: Float64s = matrix @ self.weights + self.intercept
        return margins


class _Problem:
    """Log loss + strength / 2 * |weights|^2 over the weights that the rows touch; all others are 0 at the optimum."""

    def __init__(self, matrix: sparse.csr_array, clicked: npt.NDArray[np.bool_]) -> None:
        self._n_weights = matrix.shape[1]
        # Hash tables are mostly empty: the search walks over the touched entries alone.
        self._touched, at = np.unique(matrix.indices, return_inverse=True)
        shape = (matrix.shape[0], len(self._touched))
        self._matrix = sparse.csr_array((matrix.data, at.astype(matrix.indices.dtype), matrix.indptr), shape=shape)
        self._transposed = self._matrix.T.tocsr()  # the gradient reads columns; here they lie in order
        self._clicked = clicked
        rate = np.count_nonzero(clicked) / len(clicked)
        squares = np.bincount(at, matrix.data * matrix.data, minlength=len(self._touched))
        self._curvature = rate * (1.0 - rate) * np.append(squares, len(clicked))

    def solve(self, strength: float, start: _Solution | None) -> _Solution:
        """The optimum, searched from another solution or from the base rate.

        The search runs in weights scaled by the curvature at the base rate: a category seen once and the intercept
        then move alike, and L-BFGS needs a fraction of the iterations.
        """
        scale = 1.0 / np.sqrt(self._curvature + np.append(np.full(len(self._touched), strength), 0.0))
        if start is None:
            clicks = int(np.count_nonzero(self._clicked))
            first = np.append(np.zeros(len(self._touched)), np.log(clicks / (len(self._clicked) - clicks)))
        else:
            first = np.append(start.weights[self._touched], start.intercept)
        # BLAS threads wait for each other on vectors this short: many times slower on a busy machine of two cores.
        with threadpool_limits(limits=1, user_api="blas"):
            found = minimize(
                self._loss_and_gradient,
                first / scale,
                args=(scale, strength),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": MAX_ITERATIONS, "gtol": GRADIENT_TOLERANCE, "ftol": LOSS_TOLERANCE},
            )
        weights = np.zeros(self._n_weights)
        solution = found.x * scale
        weights[self._touched] = solution[:-1]
        return _Solution(weights, float(solution[-1]))

    def _loss_and_gradient(self, point: Float64s, scale: Float64s, strength: float) -> tuple[float, Float64s]:
        """Penalised log loss per row and its gradient, at (weights..., intercept) divided by `scale`."""
        solution = point * scale
        weights, n = solution[:-1], len(self._clicked)
        margins = self._matrix @ weights + solution[-1]
        loss = np.logaddexp(0.0, margins).sum() - margins[self._clicked].sum() + 0.5 * strength * weights @ weights
        residual = expit(margins) - self._clicked
        gradient = np.append(self._transposed @ residual + strength * weights, residual.sum())
        return float(loss) / n, gradient * scale / n


class LogisticPath:
    """Weights at each strength and their held-out loss."""

    def __init__(self, design: LinearDesign, solutions: list[_Solution], held_out_loss: Float64s) -> None:
        self._design, self._solutions = design, solutions
        self.held_out_loss = held_out_loss

    def raw_logit(self, step: int, encoded: Encoded) -> Float64s:
        """(n,) margins at that strength."""
        return self._solutions[step].margins(self._design.matrix(encoded))


class LogisticModel:
    """Finished weights and their neutral form."""

    def __init__(
        self, design: LinearDesign, solution: _Solution, matrix: sparse.csr_array, data: TrainingSet, strength: float
    ) -> None:
        self._design, self._solution = design, solution
        self.spec: LinearSpec = design.spec(solution.weights, solution.intercept)
        self.parameters: dict[str, float | int | str | bool] = {"l2": strength, "weights": design.n_weights}
        self.importance = _importance(solution.weights, matrix, data)

    def raw_logit(self, encoded: Encoded) -> Float64s:
        """(n,) margins, summed in float64 over the sparse design."""
        return self._solution.margins(self._design.matrix(encoded))


def _importance(weights: Float64s, matrix: sparse.csr_array, data: TrainingSet) -> dict[str, float]:
    """Share of each column in the variance of the margins, columns taken one by one."""
    d, k = len(data.float_names), len(data.id_names)
    parts = (matrix.data * weights[matrix.indices]).reshape(len(data), 2 * d + k)
    variances = np.concatenate([(parts[:, :d] + parts[:, d : 2 * d]).var(axis=0), parts[:, 2 * d :].var(axis=0)])
    total = variances.sum() or 1.0
    names = data.float_names + data.id_names
    rounding = np.finfo(np.float64).eps * total  # what the variance of a constant comes to
    return {name: float(v / total) for name, v in zip(names, variances, strict=True) if v > rounding}
