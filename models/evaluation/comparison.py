"""Two models on the same impressions: paired, so that the luck they share cancels.

Intervals of two models overlap long after one is surely better, because most of their width is the luck of these
clicks, and both models had the same. Redrawing whole users, and taking both losses from the same draw, leaves the
uncertainty of the difference alone.

Where users are few it is by row as well (`units.py`).
Cost: two passes over the rows and 400 draws per user (`redrawn_totals.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from models.evaluation import metrics
from models.evaluation.cells import percentiles
from models.evaluation.metrics import Float64s
from models.evaluation.redrawn_totals import redrawn_losses
from models.evaluation.roc_interval import auc_difference
from models.evaluation.units import Units, widest
from models.registry.manifest import Interval


class Comparison(msgspec.Struct, frozen=True):
    """Figures of a new model minus those of an old one, on the same impressions."""

    old: str
    """Version of the model compared with."""
    normalized_entropy: Interval
    """Below 0 the new model is better."""
    log_loss: Interval
    """In nats; below 0 the new model is better."""
    auc: Interval
    """Above 0 the new model is better."""


def comparison(
    old: str,
    clicked: npt.NDArray[np.bool_],
    p_new: Float64s,
    p_old: Float64s,
    user_codes: npt.NDArray[np.int64] | None,
    seed: int = 0,
) -> Comparison:
    """All differences, each with its 95 % interval.

    Args:
        old: version of the old model.
        clicked, p_new, p_old: (n,) outcome and the two promises of each impression.
        user_codes: (n,) whose impression it was; None draws impressions one by one.
    Raises:
        MetricError: no rows, or only one kind of label.
    """
    entropy = entropy_difference(clicked, p_new, p_old, user_codes, seed)  # first: it refuses one kind of label
    units = Units.of(clicked, user_codes)
    areas = [auc_difference(clicked, p_new, p_old, codes) for codes in units.drawings]
    ends = widest(((low, high) for _, low, high in areas), (-1.0, 1.0))
    return Comparison(
        old=old,
        normalized_entropy=entropy,
        log_loss=_interval(_loss_difference, clicked, p_new, p_old, units, seed, metrics.LARGEST_LOSS),
        auc=units.interval(areas[0][0], ends, len(clicked), int(clicked.sum())),
    )


def entropy_difference(
    clicked: npt.NDArray[np.bool_],
    p_new: Float64s,
    p_old: Float64s,
    user_codes: npt.NDArray[np.integer] | None,
    seed: int = 0,
) -> Interval:
    """NE of the new model minus NE of the old one, with its 95 % interval; below 0 the new one is better.

    Args:
        clicked, p_new, p_old: (n,) outcome and the two promises of each impression.
        user_codes: (n,) whose impression it was; None draws impressions one by one.
    Raises:
        MetricError: no rows, or only one kind of label.
    """
    metrics.normalized_entropy(clicked, p_new)  # refuses what has no base rate to compare with
    most = metrics.LARGEST_LOSS / float(metrics.entropy(float(clicked.mean())))
    return _interval(_entropy_difference, clicked, p_new, p_old, Units.of(clicked, user_codes), seed, most)


def paired_totals(
    clicked: npt.NDArray[np.bool_],
    p_first: Float64s,
    p_second: Float64s,
    user_codes: npt.NDArray[np.integer] | None,
    seed: int,
) -> tuple[Float64s, Float64s]:
    """Impressions, clicks and both models' losses in nats: (4,) of the sample itself and (R, 4) with users redrawn."""
    losses = [metrics.log_losses(clicked, p) for p in (p_first, p_second)]
    return redrawn_losses(clicked, losses, user_codes, np.random.default_rng(seed))


def _interval(
    difference: Callable[[Float64s], Float64s],
    clicked: npt.NDArray[np.bool_],
    p_new: Float64s,
    p_old: Float64s,
    units: Units,
    seed: int,
    most: float,
) -> Interval:
    """A difference with its interval; `most` bounds its size, where redraws say nothing."""
    totals = [paired_totals(clicked, p_new, p_old, codes, seed) for codes in units.drawings]
    exact = totals[0][0]
    value = float(difference(exact[None, :])[0])
    ends = widest((percentiles(difference(redrawn)) for _, redrawn in totals), (-most, most))
    return units.interval(value, ends, int(exact[0]), int(exact[1]))


def _entropy_difference(totals: Float64s) -> Float64s:
    """(R,) differences from (R, 4) totals of impressions, clicks, the new model's and the old model's losses."""
    n, clicks, new, old = totals.T
    difference: Float64s = (new - old) / (n * metrics.entropy(clicks / n))
    return difference


def _loss_difference(totals: Float64s) -> Float64s:
    """(R,) of log loss, from the same totals."""
    n, _, new, old = totals.T
    difference: Float64s = (new - old) / n
    return difference
