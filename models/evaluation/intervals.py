"""Every figure of a sample with its 95 % interval.

- gAUC: `user_auc.py`; only where users are known and one of them has both labels.
- AUC: DeLong's variance by users, `roc_interval.py`.
- Slope and intercepts of the logistic recalibration: sandwich by users, `recalibration.py`.
- NE, log loss, PR-AUC, F1, lift: Poisson bootstrap, seeded, percentiles of 400 replicates.
- Calibration ratio: score interval for a count of clicks. A click's variance is p (1 - p), so the interval is Poisson's
  at small p and narrower at large p; where users are known it is widened by their design effect.
- Relative calibration error: lower end freed from what chance alone adds, upper end not, so it errs to the safe side.

With user codes the bootstrap draws whole users: the impressions of one user are not independent. Where users are too
few to tell how they differ it draws rows as well, and the wider interval counts (`units.py`); it says so.
The bootstrap works on a histogram: rows sorted by score in at most 2 000 cells of equal mass, each with its clicks,
non-clicks and mean losses. Redrawing n rows then costs one Poisson draw per cell, and what the cells lose (order inside
a cell) is the same in every replicate: the interval is moved so that the exact figure keeps its place in it.

Cost: 200 000 rows with all intervals in about a second.
Source: Chamandy et al. 2012 for the Poisson bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from models.evaluation import cells as of_cells
from models.evaluation import metrics
from models.evaluation.calibration_line import Recalibration, recalibration
from models.evaluation.cells import Cells, Redrawn, percentiles
from models.evaluation.metrics import Z_95, Array, Float64s
from models.evaluation.roc_interval import auc_interval
from models.evaluation.units import Units, widest
from models.evaluation.user_auc import UserAucs, interval_of_mean, user_aucs
from models.random_streams import random_stream
from models.registry.manifest import Interval

LIFT_SHARES = (0.01, 0.05, 0.1)
"""The best-scored part of the impressions whose click rate is compared with that of all."""


def all_metrics(
    clicked: Array, p_click: Array, user_codes: npt.NDArray[np.int64] | None = None, seed: int = 0
) -> dict[str, Interval]:
    """Every metric with its interval; one that the sample cannot define is left out (`gauc` without users, slopes
    where the scores separate the labels).

    Args:
        clicked: (n,) bool or 0/1.
        p_click: (n,) float in [0, 1].
        user_codes: (n,) whose impression it was; None draws impressions one by one.
    Raises:
        MetricError: no rows, lengths that differ, or only one kind of label.
    """
    clicked = np.asarray(clicked, dtype=np.bool_)
    clicks = int(np.count_nonzero(clicked))
    area = metrics.auc(clicked, p_click)  # also refuses samples without both labels, before anything is drawn
    cells = Cells.of(clicked, p_click)
    units = Units.of(clicked, user_codes)
    drawings = [cells.redraw(codes, random_stream(seed, "bootstrap")) for codes in units.drawings]
    original = Redrawn(cells.clicks[None, :], cells.others[None, :])

    def interval(value: float, low: float, high: float) -> Interval:
        return units.interval(value, (low, high), len(clicked), clicks)

    def bootstrap(value: float, statistic: Callable[[Cells, Redrawn], Float64s], most: float) -> Interval:
        moved = value - statistic(cells, original)[0]
        low, high = widest((percentiles(statistic(cells, drawn) + moved) for drawn in drawings), (0.0, most))
        return interval(value, max(low, 0.0), min(high, most))

    f1, threshold = metrics.best_f1(clicked, p_click)
    above = cells.first_p >= threshold
    floor = metrics.relative_calibration_floor(clicked, p_click)
    per_user = None if user_codes is None else user_aucs(clicked, p_click, user_codes)

    def gauc(users: UserAucs) -> Interval:
        low, high = interval_of_mean(users, random_stream(seed, "bootstrap of users"))
        value = min(max(users.mean, 0.0), 1.0)
        n, n_clicks = int(users.impressions.sum()), int(users.clicks.sum())
        return Interval(value, min(low, value), max(high, value), n, n_clicks, "users")

    figures = {
        "auc": interval(area, *widest((auc_interval(clicked, p_click, by) for by in units.drawings), (0.0, 1.0))),
        "pr_auc": bootstrap(metrics.average_precision(clicked, p_click), of_cells.average_precision, 1.0),
        "log_loss": bootstrap(metrics.log_loss(clicked, p_click), of_cells.log_loss, metrics.LARGEST_LOSS),
        "normalized_entropy": bootstrap(
            metrics.normalized_entropy(clicked, p_click),
            of_cells.normalized_entropy,
            metrics.LARGEST_LOSS / float(metrics.entropy(float(clicked.mean()))),
        ),
        "calibration_ratio": interval(
            metrics.calibration_ratio(clicked, p_click),
            *widest((ratio_interval(clicked, p_click, by) for by in units.drawings), (0.0, np.inf)),
        ),
        "relative_calibration_error": Interval(
            *_calibration_error(clicked, p_click, floor), len(clicked), clicks, "rows"
        ),
        "relative_calibration_floor": Interval(floor, floor, floor, len(clicked), clicks),
        "f1": bootstrap(f1, lambda cells, drawn: of_cells.f1(drawn, above), 1.0),
    }
    figures |= {
        f"lift_{round(100 * share)}": bootstrap(
            metrics.lift(clicked, p_click, share), partial(of_cells.lift, share=share), 1.0 / share
        )
        for share in LIFT_SHARES
    }
    if per_user:
        figures["gauc"] = gauc(per_user)
    lines = [line for by in units.drawings if (line := recalibration(clicked, p_click, by))]
    if lines:  # not defined for the sample, whatever is redrawn
        for name, value in ((name, getattr(lines[0], name).value) for name in Recalibration._fields):
            step = Z_95 * max(getattr(line, name).error for line in lines)
            figures[f"calibration_{name}"] = interval(value, value - step, value + step)
    return figures


def user_codes(codes: npt.NDArray[np.integer]) -> npt.NDArray[np.int64] | None:
    """Whose impression it was, (n,), from codes that are -1 where nobody knows: each of those is a user of its own.

    None where no user is known at all.
    """
    if not np.any(codes >= 0):
        return None
    strangers = -1 - np.arange(len(codes))
    known: npt.NDArray[np.int64] = np.where(codes >= 0, codes, strangers)
    return known


def calibration_interval(
    clicks: float, promised: float, promised_squares: float, design_effect: float = 1.0
) -> tuple[float, float]:
    """95 % interval of promised / true clicks, from the seen clicks.

    Args:
        clicks: number seen, above 0.
        promised: sum of p_click.
        promised_squares: sum of p_click squared, which lessens the variance of the count.
        design_effect: by how much the variance of the count exceeds that of independent impressions.
    """
    spread = design_effect * Z_95**2 * (1.0 - promised_squares / promised if promised > 0 else 1.0)
    middle, half = clicks + spread / 2.0, np.sqrt(spread * clicks + spread**2 / 4.0)
    return float(promised / (middle + half)), float(promised / (middle - half))


def ratio_interval(clicked: Array, p_click: Array, user_codes: npt.NDArray[np.integer] | None) -> tuple[float, float]:
    """Ends of the 95 % interval of promised / true clicks; there must be clicks."""
    p, clicks = p_click.astype(np.float64), float(np.count_nonzero(clicked))
    promised = float(p.sum())
    effect = 1.0 if user_codes is None else _design_effect(clicked, p * (clicks / promised), user_codes)
    return calibration_interval(clicks, promised, float((p * p).sum()), effect)


def _design_effect(clicked: Array, p_click: Float64s, user_codes: npt.NDArray[np.integer]) -> float:
    """Variance of the number of clicks with users as clusters over that of independent impressions, 1 or more.

    A user who clicks more than was promised does so again and again. `p_click` adds up to the seen clicks.
    """
    users, code = np.unique(user_codes, return_inverse=True)
    unexpected = np.bincount(code, clicked - p_click, minlength=len(users))
    alone = float(((clicked - p_click) ** 2).sum())
    return max(1.0, float(unexpected @ unexpected) / alone) if alone > 0 else 1.0


def _calibration_error(clicked: Array, p_click: Array, floor: float) -> tuple[float, float, float]:
    """The relative calibration error with its interval."""
    value = metrics.relative_calibration_error(clicked, p_click)
    _, _, variance = metrics.equal_mass_bins(clicked, p_click, metrics.ECE_BINS)
    step = Z_95 * float(np.sqrt(variance.sum() * (1.0 - 2.0 / np.pi)) / np.count_nonzero(clicked))
    low = np.sqrt(max(0.0, (max(0.0, value - step)) ** 2 - floor**2))
    return value, float(low), value + step
