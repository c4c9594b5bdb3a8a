"""Ratio: how much larger a figure of side B is than of side A, with a bootstrap interval over seconds and rounds.

A round's figure is the median over its seconds of the second's figure, so a neighbour on the machine who takes one
second in four moves little. Neighbouring seconds are alike: whole blocks of them are drawn, so that an interval from
one round is not flattered by counting the same disturbance twice (moving-block bootstrap, Künsch 1989). Rounds of the
two sides that ran side by side are drawn as pairs: what disturbed both cancels. One side's value is the geometric mean
of its rounds.

Cost: N_BOOT × seconds. Deterministic: the generator's seed is fixed, so two looks at two reports say the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]

BLOCK = 3
"""Seconds drawn together: a garbage collection, a refresh of the item table or a neighbour's burst is over by then."""
N_BOOT = 4_000
LEVEL = 0.99
"""Of each interval. Four figures are looked at; at 99 % they err together less often than one at 95 %."""
_SEED = 20261121


class Ratio(msgspec.Struct, frozen=True):
    """B / A with its interval; `a` and `b` are the sides' own figures."""

    a: float
    b: float
    value: float
    low: float
    high: float


def ratio_of(a: Sequence[Reals], b: Sequence[Reals], *, paired: bool) -> Ratio:
    """The ratio of two sides.

    Args:
        a, b: one array of positive figures, one a second, for each round; at least one round with one second each.
        paired: round i of A and round i of B ran side by side; then both have as many rounds.
    """
    rng = np.random.default_rng(_SEED)
    rounds_a, rounds_b = _chosen(len(a), rng), _chosen(len(b), rng)
    if paired:
        rounds_b = rounds_a
    logs_a, logs_b = _drawn(a, rounds_a, rng), _drawn(b, rounds_b, rng)
    low, high = np.quantile(logs_b - logs_a, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    of_a, of_b = _figure(a), _figure(b)
    return Ratio(of_a, of_b, of_b / of_a, math.exp(float(low)), math.exp(float(high)))


def _figure(rounds: Sequence[Reals]) -> float:
    return math.exp(float(np.mean([math.log(float(np.median(seconds))) for seconds in rounds])))


def _chosen(n_rounds: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """(N_BOOT, n_rounds) rounds with replacement."""
    return rng.integers(n_rounds, size=(N_BOOT, n_rounds))


def _drawn(rounds: Sequence[Reals], chosen: npt.NDArray[np.int64], rng: np.random.Generator) -> Reals:
    """(N_BOOT,) logarithms of a side's figure over resampled rounds of resampled seconds."""
    logs = np.stack([np.log(_medians(seconds, rng)) for seconds in rounds], axis=1)  # (N_BOOT, rounds)
    drawn: Reals = np.take_along_axis(logs, chosen, axis=1).mean(axis=1)
    return drawn


def _medians(seconds: Reals, rng: np.random.Generator) -> Reals:
    """(N_BOOT,) medians of resamples of one round, made of blocks that run around its end."""
    n = len(seconds)
    n_blocks = math.ceil(n / BLOCK)
    starts = rng.integers(n, size=(N_BOOT, n_blocks, 1))
    places = ((starts + np.arange(BLOCK)) % n).reshape(N_BOOT, -1)[:, :n]
    medians: Reals = np.median(seconds[places], axis=1)
    return medians
