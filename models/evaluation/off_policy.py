"""What click rate another policy would have had, from a log that says how likely each shown ad was to be shown.

A logged round has one shown ad a, what came of it, and pi_0, the probability with which the logging policy showed it.
For a policy that would have shown it with probability pi_e the round weighs w = pi_e / pi_0, and

    IPS   = mean(w * clicked)             unbiased where pi_0 > 0 for every ad the policy may show
    SNIPS = sum(w * clicked) / sum(w)     slightly biased, mostly with less variance; never outside [0, 1]

Two figures tell whether to believe either. The mean weight is 1 on average; where it surely is not, the
policy's probabilities are not over the ads that the logging policy chose from. The effective sample size
(sum w)^2 / sum w^2 is how many rounds of the policy's own the log is worth. Clipping weights trades variance for a
bias downwards in IPS, so it is off unless asked for, and its extent is told.

Intervals: users, or rounds where users are unknown, redrawn 400 times. Where clicks are rare the few rounds of large
weight mostly have none, and redrawing them shows no spread: 137 effective rounds gave 0.03 % ± 0.01 %. The interval is
therefore never less than Wilson's for a rate of the same value on as many rounds as the effective sample size.
Sources: Horvitz & Thompson 1952; Swaminathan & Joachims 2015, "The Self-Normalized Estimator for Counterfactual
Learning"; Kish 1965 for the effective sample size.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from models.errors import MetricError
from models.evaluation.calibration import wilson
from models.evaluation.cells import percentiles
from models.evaluation.metrics import Float64s
from models.evaluation.redrawn_totals import redrawn_totals
from models.evaluation.units import Units, widest
from models.random_streams import random_stream
from models.registry.manifest import Interval

SURELY = 3.29 / 1.96
"""From an end of a 95 % interval to that of one of 99.9 %, which one policy in a thousand misses by luck."""


class OffPolicy(msgspec.Struct, frozen=True):
    """The estimate for one policy."""

    ips: Interval
    snips: Interval | None
    """None where the policy would have shown none of the shown ads."""
    mean_weight: Interval
    """Before clipping."""
    effective_sample_size: float
    largest_weight: float
    """Before clipping."""
    clipped: int
    """Rounds whose weight was cut."""
    share_cut: float
    """Of all weight, by clipping: about how far IPS is biased downwards."""

    @property
    def credible(self) -> bool:
        """Whether the weights may add up to what the policy's probabilities promise, by an interval of 99.9 %."""
        found = self.mean_weight
        low, high = (found.value + SURELY * (end - found.value) for end in (found.low, found.high))
        return low - 1e-9 <= 1.0 <= high + 1e-9  # weights of 1 add up to almost 1


def off_policy(
    clicked: npt.NDArray[np.bool_],
    propensity: Float64s,
    target_probability: Float64s,
    codes: npt.NDArray[np.integer] | None = None,
    *,
    clip: float | None = None,
    seed: int = 0,
) -> OffPolicy:
    """The click rate of a policy, estimated from another one's rounds.

    Args:
        clicked: (n,) what came of the shown ad.
        propensity: (n,) in (0, 1], with which the logging policy showed it.
        target_probability: (n,) in [0, 1], with which the judged policy would have shown it.
        codes: (n,) whose round it was; None takes rounds as independent.
        clip: weights above it count as this much; None leaves them.
    Raises:
        MetricError: no rounds, lengths that differ, or a probability out of range.
    """
    _check(clicked, propensity, target_probability, clip)
    raw = target_probability / propensity
    weight = raw if clip is None else np.minimum(raw, clip)
    columns = [np.ones(len(raw)), weight * clicked, weight, raw]
    units = Units.of(clicked, codes)
    totals = [redrawn_totals(columns, each, random_stream(seed, "bootstrap of rounds")) for each in units.drawings]
    exact = totals[0][0]
    n, n_clicks = len(raw), int(np.count_nonzero(clicked))

    squares = float(weight @ weight)
    effective = float(weight.sum() ** 2 / squares) if squares else 0.0

    def ratio(part: int, whole: int) -> Interval | None:
        if exact[whole] == 0:
            return None
        value = float(exact[part] / exact[whole])
        ends = [percentiles(drawn[:, part] / drawn[:, whole]) for drawn in (d[d[:, whole] > 0] for _, d in totals)]
        return units.interval(value, widest(ends, (0.0, float(raw.max()))), n, n_clicks) if any(ends) else None

    def rate(found: Interval) -> Interval:
        low, high = wilson(min(found.value, 1.0) * effective, effective) if effective else (0.0, 1.0)
        return msgspec.structs.replace(found, low=min(found.low, low), high=max(found.high, high))

    ips, snips, mean_weight = ratio(1, 0), ratio(1, 2), ratio(3, 0)
    assert ips is not None  # there are rounds
    assert mean_weight is not None
    return OffPolicy(
        ips=rate(ips),
        snips=None if snips is None else rate(snips),
        mean_weight=mean_weight,
        effective_sample_size=effective,
        largest_weight=float(raw.max()),
        clipped=int(np.count_nonzero(weight < raw)),
        share_cut=float(1.0 - weight.sum() / raw.sum()) if clip is not None and raw.any() else 0.0,
    )


def _check(
    clicked: npt.NDArray[np.bool_], propensity: Float64s, target_probability: Float64s, clip: float | None
) -> None:
    if not len(clicked) == len(propensity) == len(target_probability) or len(clicked) == 0:
        raise MetricError(
            f"every round has an outcome and two probabilities, got {len(clicked)}, {len(propensity)} and "
            f"{len(target_probability)}"
        )
    if not np.all((propensity > 0) & (propensity <= 1)):
        raise MetricError("a propensity lies above 0 and at most at 1: leave out rounds where it is unknown")
    if not np.all((target_probability >= 0) & (target_probability <= 1)):
        raise MetricError("a policy's probabilities lie between 0 and 1")
    if clip is not None and not clip > 0:
        raise MetricError(f"weights are clipped above 0, got {clip}")
