"""The figures that matter, group by group: a ratio of 1 over all may be 1.2 here and 0.8 there.

Of twenty 95 % intervals one misses by chance, so a group whose interval leaves out 1 proves nothing by itself. A group
is flagged only where the whole interval of promised over seen clicks lies outside 1 ± 0.10 and 1 000 clicks or more
stand behind it: at that size the interval of an exact model is about ± 0.06, and does not get there by luck.

A group has few users sooner than the log has: each has an interval by user or by row of its own (`units.py`).

Cost: one pass over the rows of each group and 400 draws per user in it.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from models.evaluation import metrics
from models.evaluation.cells import percentiles
from models.evaluation.groups import Groups
from models.evaluation.intervals import ratio_interval
from models.evaluation.metrics import Array
from models.evaluation.redrawn_totals import redrawn_losses
from models.evaluation.roc_interval import auc_interval
from models.evaluation.units import Units, widest
from models.random_streams import random_stream
from models.registry.manifest import Interval

TOLERANCE = 0.10
ENOUGH_CLICKS = 1_000


class Segment(msgspec.Struct, frozen=True):
    """The impressions of one group. A figure that they do not define is None."""

    value: str
    impressions: int
    clicks: int
    calibration_ratio: Interval | None
    """Promised over seen clicks; None without clicks."""
    normalized_entropy: Interval | None
    """Log loss over that of always guessing the group's own click rate; None without both labels, or with so few
    clicks that redrawing them says nothing."""
    auc: Interval | None
    flagged: bool
    """Surely off by more than a tenth; see the module. Never by position, of whose mean `p_click` speaks."""


class Breakdown(msgspec.Struct, frozen=True):
    """One table: every impression is in one segment."""

    by: str
    segments: tuple[Segment, ...]


def breakdown(
    groups: Groups,
    clicked: npt.NDArray[np.bool_],
    p_click: Array,
    user_codes: npt.NDArray[np.int64] | None,
    seed: int = 0,
) -> Breakdown:
    """Figures of each group, in the order of its names.

    Args:
        groups: of n impressions.
        clicked, p_click: (n,) outcome and promise.
        user_codes: (n,) whose impression it was; None takes impressions as independent.
    """
    order = np.argsort(groups.codes, kind="stable")
    ends = np.cumsum(np.bincount(groups.codes, minlength=len(groups.names)))
    segments = []
    for name, rows in zip(groups.names, np.split(order, ends[:-1]), strict=True):
        whose = None if user_codes is None else user_codes[rows]
        segment = _segment(name, clicked[rows], p_click[rows], whose, seed)
        segments.append(segment if groups.judged else msgspec.structs.replace(segment, flagged=False))
    return Breakdown(groups.by, tuple(segments))


def _segment(
    name: str, clicked: npt.NDArray[np.bool_], p_click: Array, user_codes: npt.NDArray[np.int64] | None, seed: int
) -> Segment:
    n, clicks = len(clicked), int(np.count_nonzero(clicked))
    units = Units.of(clicked, user_codes)
    ratio = entropy = area = None
    if clicks:
        promised = float(p_click.sum(dtype=np.float64))
        ends = widest((ratio_interval(clicked, p_click, codes) for codes in units.drawings), (0.0, np.inf))
        ratio = units.interval(promised / clicks, ends, n, clicks)
    if 0 < clicks < n:
        ends = widest((auc_interval(clicked, p_click, codes) for codes in units.drawings), (0.0, 1.0))
        area = units.interval(metrics.auc(clicked, p_click), ends, n, clicks)
        entropy = _entropy(clicked, p_click, units, seed)
    off = ratio is not None and (ratio.low > 1.0 + TOLERANCE or ratio.high < 1.0 - TOLERANCE)
    return Segment(name, n, clicks, ratio, entropy, area, flagged=off and clicks >= ENOUGH_CLICKS)


def _entropy(clicked: npt.NDArray[np.bool_], p_click: Array, units: Units, seed: int) -> Interval | None:
    ends = []
    for codes in units.drawings:
        random = random_stream(seed, "bootstrap of a segment")
        _, redrawn = redrawn_losses(clicked, [metrics.log_losses(clicked, p_click)], codes, random)
        n, seen, losses = redrawn.T
        ends.append(percentiles(losses / (n * metrics.entropy(seen / n))))
    if not any(ends):
        return None
    value = metrics.normalized_entropy(clicked, p_click)
    return units.interval(value, widest(ends, (value, value)), len(clicked), int(clicked.sum()))
