"""Ratio: how much larger a figure of side B is than of side A, with a bootstrap interval over seconds and rounds.

A round's figure is the median over its seconds of the second's figure, so a neighbour on the machine who takes one
second in four moves little. Neighbouring seconds are alike: whole blocks of them are drawn, so that an interval from
one round is not flattered by counting the same disturbance twice (moving-block bootstrap, Künsch 1989). Rounds of the
two sides that ran side by side are drawn as pairs: what disturbed both cancels. One side's value is the geometric mean
of its rounds.

Two services measured in turns of a second say more: turn i of A and turn i of B are a pair of their own
(`ratio_of_turns`). A pair's logarithm of B / A is what is averaged, over the middle half of a round's pairs, so that a
burst inside one turn moves little; what lasts longer than two turns is in both of a pair and cancels. Two pairs are
drawn together, A B B A: a drift cancels inside them, and what disturbs four seconds is not counted twice. A round is
then a start of both services. Starts are drawn as well; by what one start differs from another is in the interval only
where there are several.

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
BLOCK_OF_PAIRS = 2
"""Pairs of turns drawn together: A B B A."""
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


def ratio_of_turns(a: Sequence[Reals], b: Sequence[Reals]) -> Ratio:
    """The ratio of two sides that were measured in turns; `a` and `b` of the result are medians, as in `ratio_of`.

    Args:
        a, b: one array of positive figures, one a turn, for each round; turn i of A and turn i of B are a pair.
    """
    rng = np.random.default_rng(_SEED)
    logs = [np.log(of_b / of_a) for of_a, of_b in zip(a, b, strict=True)]
    resampled = np.stack(
        [_middle_mean(of_round[_places(len(of_round), BLOCK_OF_PAIRS, rng)]) for of_round in logs], axis=1
    )  # (N_BOOT, rounds)
    drawn = np.take_along_axis(resampled, _chosen(len(logs), rng), axis=1).mean(axis=1)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = math.exp(float(np.mean([_middle_mean(of_round) for of_round in logs])))
    return Ratio(_figure(a), _figure(b), value, math.exp(float(low)), math.exp(float(high)))


def _middle_mean(values: Reals) -> Reals:
    """Mean of the middle half along the last axis (the quarter at either end is left out)."""
    n = values.shape[-1]
    middle: Reals = np.sort(values, axis=-1)[..., n // 4 : n - n // 4].mean(axis=-1)
    return middle


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
    """(N_BOOT,) medians of resamples of one round."""
    medians: Reals = np.median(seconds[_places(len(seconds), BLOCK, rng)], axis=1)
    return medians


def _places(n: int, block: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """(N_BOOT, n) resamples of n places, made of blocks that run around the end."""
    starts = rng.integers(n, size=(N_BOOT, math.ceil(n / block), 1))
    places: npt.NDArray[np.int64] = ((starts + np.arange(block)) % n).reshape(N_BOOT, -1)[:, :n]
    return places
