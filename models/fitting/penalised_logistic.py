"""Logistic regression with an L2 penalty over a sparse design, solved to its optimum by L-BFGS in float64.

The penalty belongs to the weights and not to the rows: each weight is drawn from a normal of variance 1 / strength. The
intercept is free, so the promised clicks of the rows add up to the seen ones. Draws no random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

Float64s = npt.NDArray[np.float64]

MAX_ITERATIONS = 300
GRADIENT_TOLERANCE = 1e-7
LOSS_TOLERANCE = 1e-8
"""Relative progress per iteration, on losses per row: far below what shows in the fifth digit of a log loss."""


@dataclass(frozen=True, slots=True)
class LinearSolution:
    """weights: (n_weights,) float64, 0 where training never looked; intercept: log-odds."""

    weights: Float64s
    intercept: float

    def margins(self, matrix: sparse.csr_array) -> Float64s:
        """(n,) of the rows of a design, (n, n_weights)."""
        margins: Float64s = matrix @ self.weights + self.intercept
        return margins


class LogisticProblem:
    """Log loss + strength / 2 * |weights|^2 over the weights that the rows touch; all others are 0 at the optimum."""

    def __init__(
        self, matrix: sparse.csr_array, clicked: npt.NDArray[np.bool_], offset: Float64s | None = None
    ) -> None:
        """The rows of a design, (n, n_weights), and what is added to their margins, (n,), whatever the weights."""
        self._n_weights = matrix.shape[1]
        # Hash tables are mostly empty: the search walks over the touched entries alone.
        self._touched, at = np.unique(matrix.indices, return_inverse=True)
        shape = (matrix.shape[0], len(self._touched))
        self._matrix = sparse.csr_array((matrix.data, at.astype(matrix.indices.dtype), matrix.indptr), shape=shape)
        self._transposed = self._matrix.T.tocsr()  # the gradient reads columns; here they lie in order
        self._clicked = clicked
        self._offset = np.zeros(len(clicked)) if offset is None else offset
        rate = np.count_nonzero(clicked) / len(clicked)
        squares = np.bincount(at, matrix.data * matrix.data, minlength=len(self._touched))
        self._curvature = rate * (1.0 - rate) * np.append(squares, len(clicked))

    def solve(self, strength: float, start: LinearSolution | None) -> LinearSolution:
        """The optimum, searched from another solution or from about the base rate.

        The search runs in weights scaled by the curvature at the base rate: a category seen once and the intercept
        then move alike, and L-BFGS needs a fraction of the iterations.
        """
        scale = 1.0 / np.sqrt(self._curvature + np.append(np.full(len(self._touched), strength), 0.0))
        if start is None:
            clicks = int(np.count_nonzero(self._clicked))
            level = np.log(clicks / (len(self._clicked) - clicks)) - float(self._offset.mean())
            first = np.append(np.zeros(len(self._touched)), level)
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
        return LinearSolution(weights, float(solution[-1]))

    def _loss_and_gradient(self, point: Float64s, scale: Float64s, strength: float) -> tuple[float, Float64s]:
        """Penalised log loss per row and its gradient, at (weights..., intercept) divided by `scale`."""
        solution = point * scale
        weights, n = solution[:-1], len(self._clicked)
        margins = self._matrix @ weights + solution[-1] + self._offset
        loss = np.logaddexp(0.0, margins).sum() - margins[self._clicked].sum() + 0.5 * strength * weights @ weights
        residual = expit(margins) - self._clicked
        gradient = np.append(self._transposed @ residual + strength * weights, residual.sum())
        return float(loss) / n, gradient * scale / n
