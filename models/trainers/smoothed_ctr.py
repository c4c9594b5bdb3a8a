"""The smoothed click-through rate of one column: what a team writes in an afternoon, and what a model must beat.

Rows fall into cells by one column: each hash is a cell, a number has a cell per quantile bin (a served rate becomes its
own rate again, whatever it was smoothed with), missing is a cell of its own. A cell of n impressions with C clicks
answers the mean of its beta posterior,

    (C + strength * rate) / (n + strength)

where `rate` is that of all training rows, and `strength` comes from the data: rates of cells scatter more than chance
lets them, and what is left is how much cells really differ (moments, the empirical-Bayes prior). Cells that do not
differ get an endless strength, and an unseen hash answers `rate`.

Which column is not ours to say: learners see names, but a log calls its ad as it likes, and some logs have none. So the
path is the columns, one a step, and held-out clicks choose, as they choose the complexity of any other learner. The
strength of the prior is no step of it, because its moments need no held-out rows.

Sources: Agarwal et al. 2009 for smoothed rates in click prediction; the moments are those of a beta-binomial.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.encoder import Encoded
from models.evaluation.metrics import log_loss_of_logit
from models.fitting.linear_design import LinearDesign
from models.specs import LinearSpec
from models.trainers.trainer import Float64s, TrainingSet

Int64s = npt.NDArray[np.int64]

WEAKEST, STRONGEST = 1.0, 1e7
"""Impressions. Fewer than one would believe a single click; the other end stands for "all cells are alike"."""


@dataclass(frozen=True)
class SmoothedCtrTrainer:
    """One column's smoothed rates; nothing to set."""

    name: str = "smoothed-ctr"

    def fit_path(self, fit: TrainingSet, held_out: TrainingSet, seed: int) -> SmoothedCtrPath:
        """Each column alone; `seed` is not needed, because nothing is drawn."""
        design = LinearDesign.of(fit.encoded)
        rates = [_Rates.of(design, column, fit) for column in range(_n_columns(fit))]
        losses = [log_loss_of_logit(held_out.clicked, each.log_odds_of(held_out.encoded)) for each in rates]
        return SmoothedCtrPath(rates, np.array(losses))

    def fit(self, data: TrainingSet, step: int, growth: float, seed: int) -> SmoothedCtrModel:
        """The column at that place, numbers first; it does not depend on how many rows there are."""
        rates = _Rates.of(LinearDesign.of(data.encoded), step, data)
        return SmoothedCtrModel(rates, (data.float_names + data.id_names)[step])


@dataclass(frozen=True, slots=True)
class _Rates:
    """log_odds: (cells,) float64 of each cell; column: numbers first, then hashes; prior: log-odds and strength."""

    design: LinearDesign
    column: int
    prior: float
    strength: float
    log_odds: Float64s

    @classmethod
    def of(cls, design: LinearDesign, column: int, data: TrainingSet) -> _Rates:
        cell, size = _cells(design, column, data.encoded)
        seen = np.bincount(cell, minlength=size).astype(np.float64)
        clicks = np.bincount(cell[data.clicked], minlength=size).astype(np.float64)
        strength = prior_strength(seen, clicks)
        rate = data.clicks / len(data)
        positive, negative = clicks + strength * rate, seen - clicks + strength * (1.0 - rate)
        return cls(design, column, float(np.log(rate / (1.0 - rate))), strength, np.log(positive / negative))

    def log_odds_of(self, encoded: Encoded) -> Float64s:
        """(n,) of the rows' cells."""
        cell, _ = _cells(self.design, self.column, encoded)
        return self.log_odds[cell]

    def spec(self) -> LinearSpec:
        """The same as weights around the prior."""
        d, k = len(self.design.mean), len(self.design.id_sizes)
        weights = self.log_odds - self.prior
        nothing = LinearSpec.constant(self.prior, d, k)
        if self.column < d:
            bin_weights = np.zeros((d, self.design.n_bins))
            bin_weights[self.column] = weights
            return replace(nothing, edges=self.design.edges, bin_weights=bin_weights)
        sizes = nothing.id_sizes.copy()
        sizes[self.column - d] = len(weights)
        offsets = np.cumsum(sizes) - sizes
        id_weights = np.zeros(int(sizes.sum()))
        id_weights[offsets[self.column - d] :][: len(weights)] = weights
        return replace(nothing, id_sizes=sizes, id_offsets=offsets, id_weights=id_weights)


class SmoothedCtrPath:
    """The rates of each column and their held-out loss."""

    def __init__(self, rates: list[_Rates], held_out_loss: Float64s) -> None:
        self._rates = rates
        self.held_out_loss = held_out_loss

    def raw_logit(self, step: int, encoded: Encoded) -> Float64s:
        """(n,) smoothed log-odds by that column."""
        return self._rates[step].log_odds_of(encoded)


class SmoothedCtrModel:
    """Finished rates and their neutral form."""

    def __init__(self, rates: _Rates, column: str) -> None:
        self._rates = rates
        self.spec: LinearSpec = rates.spec()
        self.parameters: dict[str, float | int | str | bool] = {
            "column": column,
            "prior_rate": float(1.0 / (1.0 + np.exp(-rates.prior))),
            "prior_impressions": rates.strength,
        }
        differs = bool(np.any(rates.log_odds != rates.prior))
        self.importance = {column: 1.0} if differs else {}

    def raw_logit(self, encoded: Encoded) -> Float64s:
        """(n,) smoothed log-odds, looked up in float64."""
        return self._rates.log_odds_of(encoded)


def prior_strength(seen: Float64s, clicks: Float64s) -> float:
    """How many impressions at the overall rate each cell is worth before its own are counted.

    Args:
        seen, clicks: (cells,) impressions, and clicks among them.
    Returns:
        a + b of the beta distribution whose mean and variance are those of the cells' true rates, in impressions.
    """
    n, cells = float(seen.sum()), int(np.count_nonzero(seen))
    rate = float(clicks.sum()) / n
    chance = rate * (1.0 - rate)
    room = n - float((seen**2).sum()) / n  # 0 where all rows lie in one cell
    if room <= 0.0 or chance == 0.0:
        return STRONGEST
    known = seen > 0
    scatter = float((seen[known] * (clicks[known] / seen[known] - rate) ** 2).sum())
    # Chance alone would scatter by (cells - 1) * rate * (1 - rate); the rest is how cells differ.
    variance = (scatter - (cells - 1) * chance) / room
    if variance <= 0.0:
        return STRONGEST
    return float(np.clip(chance / variance - 1.0, WEAKEST, STRONGEST))


def _n_columns(data: TrainingSet) -> int:
    return len(data.float_names) + len(data.id_names)


def _cells(design: LinearDesign, column: int, encoded: Encoded) -> tuple[Int64s, int]:
    """(n,) cell of each row, and how many cells there are."""
    d = len(design.mean)
    if column < d:
        return design.bins_of(column, encoded.features[:, column]), design.n_bins
    size = int(design.id_sizes[column - d])
    return encoded.ids[:, column - d] % size, size
