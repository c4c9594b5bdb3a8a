"""Logistic regression with an L2 penalty: one weight per bin, line and hashed category.

The path is the strength of the penalty, strong to weak, each step starting from the last one's weights. The penalty
belongs to the weights and not to the rows (each weight is drawn from a normal of variance 1 / strength), so the step
that was right on a part is right on the whole. The intercept is free: the mean prediction of the training rows equals
their click rate. Solved by L-BFGS in float64, which draws no random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.encoder import Encoded
from models.evaluation.metrics import log_loss_of_logit
from models.fitting.linear_design import LinearDesign
from models.fitting.linear_importance import column_shares
from models.fitting.penalised_logistic import LinearSolution, LogisticProblem
from models.specs import LinearSpec
from models.trainers.trainer import Float64s, TrainingSet

STRENGTHS = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)


@dataclass(frozen=True)
class LogisticTrainer:
    """Penalised logistic regression with frozen settings."""

    strengths: tuple[float, ...] = STRENGTHS
    name: str = "logistic"

    def fit_path(self, fit: TrainingSet, held_out: TrainingSet, seed: int) -> LogisticPath:
        """Fits from strong to weak until `held_out` gets worse; `seed` is not needed, because nothing is drawn."""
        design = LinearDesign.of(fit.encoded)
        problem = LogisticProblem(design.matrix(fit.encoded), fit.clicked)
        held_matrix = design.matrix(held_out.encoded)
        solutions: list[LinearSolution] = []
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
        solution = LogisticProblem(design.matrix(data.encoded), data.clicked).solve(self.strengths[step], start=None)
        return LogisticModel(design, solution, data, self.strengths[step])


class LogisticPath:
    """Weights at each strength and their held-out loss."""

    def __init__(self, design: LinearDesign, solutions: list[LinearSolution], held_out_loss: Float64s) -> None:
        self._design, self._solutions = design, solutions
        self.held_out_loss = held_out_loss

    def raw_logit(self, step: int, encoded: Encoded) -> Float64s:
        """(n,) margins at that strength."""
        return self._solutions[step].margins(self._design.matrix(encoded))


class LogisticModel:
    """Finished weights and their neutral form."""

    def __init__(
        self,
        design: LinearDesign,
        solution: LinearSolution,
        data: TrainingSet,
        strength: float,
    ) -> None:
        self._design, self._solution = design, solution
        self.spec: LinearSpec = design.spec(solution.weights, solution.intercept)
        self.parameters: dict[str, float | int | str | bool] = {"l2": strength, "weights": design.n_weights}
        self.importance = column_shares(design, solution.weights, data.encoded, data.float_names + data.id_names)

    def raw_logit(self, encoded: Encoded) -> Float64s:
        """(n,) margins, summed in float64 over the sparse design."""
        return self._solution.margins(self._design.matrix(encoded))
