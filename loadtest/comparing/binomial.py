"""Exact interval of a share (Clopper and Pearson 1934), of counts that need not be whole.

The bounds are quantiles of the beta distribution, found by halving its regularised incomplete beta function, which is
computed by its continued fraction (modified Lentz, "Numerical Recipes" §6.4). Written here because the load tests do
not bring SciPy along. Exact means: it holds the true share at least as often as it says, also where 1 of 10 000 failed.
Counts that are not whole come of clustered requests (`shares.py`): then it is the same formula at an effective count.
"""

from __future__ import annotations

import math

_HALVINGS = 60
_TINY, _ENOUGH = 1e-300, 1e-12


def share_interval(n_hit: float, n: float, level: float) -> tuple[float, float]:
    """Interval of a share of which `n_hit` of `n` were seen.

    Args:
        n_hit, n: 0 ≤ n_hit ≤ n, n above 0.
        level: such as 0.99.
    """
    tail = (1 - level) / 2
    low = 0.0 if n_hit <= 0 else _beta_quantile(tail, n_hit, n - n_hit + 1)
    high = 1.0 if n_hit >= n else _beta_quantile(1 - tail, n_hit + 1, n - n_hit)
    return low, high


def _beta_quantile(q: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if incomplete_beta(middle, a, b) < q:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function: the chance that a beta variable (a, b > 0) is at most x in (0, 1)."""
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x < (a + 1) / (a + b + 2):  # where the fraction converges fast
        return math.exp(log_front) * _fraction(x, a, b) / a
    return 1.0 - math.exp(log_front) * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    """Takes about √max(a, b) steps."""
    numerator, denominator = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = denominator
    for m in range(1, 100 + 10 * int(math.sqrt(max(a, b)))):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            denominator = 1 / _not_zero(1 + term * denominator)
            numerator = _not_zero(1 + term / numerator)
            factor = denominator * numerator
            value *= factor
        if abs(factor - 1) < _ENOUGH:
            break
    return value


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
