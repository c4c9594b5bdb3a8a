"""A sample as a histogram of its scores, which a bootstrap redraws without touching a row.

Rows sorted by score lie in at most 2 000 cells of equal mass, each with its clicks, non-clicks and mean losses.
Redrawing n rows costs one Poisson draw per cell; redrawing users costs one count of all rows. What the cells lose is
the order inside a cell, and it is the same in every replicate. A statistic of cells is a function of `Cells` and of R
replicates, and answers (R,). A replicate without a click, or without a non-click, has no such figure and is left out.

Source: Chamandy et al. 2012, "Estimating Uncertainty for Massive Data Streams", for the Poisson bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.evaluation import metrics
from models.evaluation.metrics import Array, Float64s
from models.evaluation.unit_weights import unit_weights

REPLICATES = 400
CELLS = 2_000
DEFINED = 0.9
"""Least share of the replicates that must have a figure: of three clicks 5 % draw none, of two 14 %."""


@dataclass(frozen=True, slots=True)
class Redrawn:
    """Clicks and non-clicks in each cell, one row per replicate: (R, C) each."""

    clicks: Float64s
    others: Float64s

    def with_both_labels(self) -> Redrawn:
        """The replicates that have clicks and non-clicks."""
        both = self.clicks.any(axis=1) & self.others.any(axis=1)
        return Redrawn(self.clicks[both], self.others[both])


@dataclass(frozen=True, slots=True)
class Cells:
    """Rows sorted by score, in C cells of about equal mass; rows of one score share a cell.

    cell: (n,) cell of each row. first_p: (C,) smallest score. clicks, others: (C,) counts.
    click_loss, other_loss: (C,) mean loss of the cell's clicks and of its non-clicks, 0 where there are none.
    """

    clicked: npt.NDArray[np.bool_]
    cell: npt.NDArray[np.int64]
    first_p: Float64s
    clicks: Float64s
    others: Float64s
    click_loss: Float64s
    other_loss: Float64s

    @classmethod
    def of(cls, clicked: npt.NDArray[np.bool_], p_click: Array) -> Cells:
        edges = np.unique(np.quantile(p_click, np.linspace(0.0, 1.0, CELLS + 1)[:-1], method="lower"))
        cell = np.searchsorted(edges, p_click, side="right") - 1
        losses = metrics.log_losses(clicked, p_click)
        size = len(edges)
        clicks = np.bincount(cell[clicked], minlength=size).astype(np.float64)
        others = np.bincount(cell[~clicked], minlength=size).astype(np.float64)
        click_loss = np.bincount(cell[clicked], losses[clicked], minlength=size) / np.maximum(clicks, 1.0)
        other_loss = np.bincount(cell[~clicked], losses[~clicked], minlength=size) / np.maximum(others, 1.0)
        return cls(clicked, cell, edges, clicks, others, click_loss, other_loss)

    def redraw(self, user_codes: npt.NDArray[np.integer] | None, random: np.random.Generator) -> Redrawn:
        """Replicates of the sample with both labels: each row, or each user, counts Poisson(1) times."""
        size = len(self.first_p)
        if user_codes is None:
            # A sum of m Poisson(1) draws is one Poisson(m) draw.
            shape = (REPLICATES, size)
            return Redrawn(
                random.poisson(self.clicks, shape).astype(np.float64),
                random.poisson(self.others, shape).astype(np.float64),
            ).with_both_labels()
        users, code = np.unique(user_codes, return_inverse=True)
        both = self.cell + size * self.clicked  # cells of the non-clicks, then cells of the clicks
        drawn = np.empty((REPLICATES, 2 * size))
        for replicate in drawn:
            weight = unit_weights(len(users), random)
            replicate[:] = np.bincount(both, weight[code], minlength=2 * size)
        return Redrawn(drawn[:, size:], drawn[:, :size]).with_both_labels()


def percentiles(replicates: Float64s) -> tuple[float, float] | None:
    """Ends of the 95 % interval; None where too few of the replicates had the figure."""
    if len(replicates) < DEFINED * REPLICATES:
        return None
    low, high = np.quantile(replicates, (0.025, 0.975))
    return float(low), float(high)


def _mean_rate(drawn: Redrawn) -> Float64s:
    """(R,) click rate."""
    clicks = drawn.clicks.sum(axis=1)
    rate: Float64s = clicks / (clicks + drawn.others.sum(axis=1))
    return rate


def log_loss(cells: Cells, drawn: Redrawn) -> Float64s:
    rows = drawn.clicks.sum(axis=1) + drawn.others.sum(axis=1)
    loss: Float64s = (drawn.clicks @ cells.click_loss + drawn.others @ cells.other_loss) / rows
    return loss


def normalized_entropy(cells: Cells, drawn: Redrawn) -> Float64s:
    return log_loss(cells, drawn) / metrics.entropy(_mean_rate(drawn))


def average_precision(cells: Cells, drawn: Redrawn) -> Float64s:
    hits = np.cumsum(drawn.clicks[:, ::-1], axis=1)
    shown = hits + np.cumsum(drawn.others[:, ::-1], axis=1)
    gained = (hits / np.maximum(shown, 1.0) * drawn.clicks[:, ::-1]).sum(axis=1)
    precision: Float64s = gained / hits[:, -1]
    return precision


def f1(drawn: Redrawn, above: npt.NDArray[np.bool_]) -> Float64s:
    hits = drawn.clicks[:, above].sum(axis=1)
    shown = hits + drawn.others[:, above].sum(axis=1)
    f1: Float64s = 2.0 * hits / (shown + drawn.clicks.sum(axis=1))
    return f1


def lift(cells: Cells, drawn: Redrawn, share: float) -> Float64s:
    """Click rate among the best-scored `share` of each replicate over that of all of it."""
    clicks = drawn.clicks[:, ::-1]
    rows = clicks + drawn.others[:, ::-1]
    room = share * rows.sum(axis=1, keepdims=True)
    before = np.cumsum(rows, axis=1) - rows
    inside = np.clip((room - before) / np.maximum(rows, 1.0), 0.0, 1.0)  # part of each cell that is among the best
    gained = (clicks * inside).sum(axis=1)
    lift: Float64s = gained / clicks.sum(axis=1) / share
    return lift
