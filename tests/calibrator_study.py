"""What each kind of calibrator loses against the truth, by the number of clicks it was fitted to.

    python -m tests.calibrator_study [--seeds N] [--least CLICKS] [--most CLICKS]

Scores are made from true log-odds by a known, strictly increasing bend, so the best calibrator is known: its loss is
the entropy of the truth. A fitted one loses more by the divergence of its probabilities from the true ones. That excess
is worked out on 20 001 quantiles of the scores and not drawn, so the only chance in it is that of the clicks it was
fitted to. It is told in 1/10 000 of the entropy of the mean click rate, that is, as change of NE.

Scores, of log-odds with a standard deviation of 1.2 as in `sim-v1`:

    exact        the true log-odds                                     1 % clicks
    dispersed    spread out by 10/7 around their mean, and 0.2 higher  1 %
    skewed       boosted trees on rare clicks: spread out above the    1 %
                 mean, and squeezed together towards it below, where a leaf has no click to learn from
    stepped      a ladder with soft steps, which no formula follows    1 %
    sure         spread out above 1/2, squeezed together below        30 %
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from models.calibrator import CalibratorChoice, Float64s, sigmoid
from models.fitting.calibration import fit_calibrator

CHOICES: tuple[CalibratorChoice, ...] = ("none", "platt", "beta", "piecewise", "isotonic")
SPREAD = 1.2
GRID = 20_001
SIZES = (50, 100, 200, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 30_000, 100_000)
CLICKS_PER_SIZE = 40_000
"""Small samples are drawn more often, so that every figure costs about the same."""


class Scores(NamedTuple):
    """How a model's scores differ from the truth."""

    rate: float
    bend: Callable[[Float64s], Float64s]
    """What is added to the true log-odds, by their distance from the mean in standard deviations."""


SCORES = {
    "exact": Scores(0.01, np.zeros_like),
    "dispersed": Scores(0.01, lambda z: 0.2 + (10 / 7 - 1) * SPREAD * z),
    "skewed": Scores(0.01, lambda z: SPREAD * (0.3 * np.logaddexp(0, 3 * z) / 3 - 0.4 * -np.logaddexp(0, -3 * z) / 3)),
    "stepped": Scores(0.01, lambda z: 0.9 * SPREAD * np.sin(4 * z) / 4),
    "sure": Scores(0.3, lambda z: SPREAD * (0.5 * np.logaddexp(0, 3 * z) / 3 + 0.5 * np.logaddexp(0, -3 * z) / 3)),
}


def excess_losses(scores: Scores, clicks: int, seed: int) -> dict[str, float]:
    """NE of each kind above the truth's, in 1/10 000, fitted to a log with about that many clicks."""
    random = np.random.default_rng([seed, clicks])
    level = _level(scores.rate)
    z = random.standard_normal(round(clicks / scores.rate))
    log_odds = level + SPREAD * z
    clicked = random.random(len(z)) < sigmoid(log_odds)
    fitted_to = log_odds + scores.bend(z)
    grid = ndtri((np.arange(GRID) + 0.5) / GRID)
    true, seen = level + SPREAD * grid, level + SPREAD * grid + scores.bend(grid)
    p = sigmoid(true)
    rate = float(p.mean())
    entropy = -rate * np.log(rate) - (1 - rate) * np.log(1 - rate)
    found: dict[str, float] = {}
    for choice in CHOICES:
        y = fit_calibrator(fitted_to, clicked, choice)(seen)
        divergence = np.logaddexp(0, y) - np.logaddexp(0, true) - p * (y - true)
        found[choice] = float(divergence.mean() / entropy) * 1e4
    return found


def _level(rate: float) -> float:
    """The mean log-odds at which the mean click rate is this; by halving."""
    grid = SPREAD * ndtri((np.arange(GRID) + 0.5) / GRID)
    low, high = -20.0, 20.0
    while high - low > 1e-9:
        level = (low + high) / 2
        low, high = (level, high) if sigmoid(level + grid).mean() < rate else (low, level)
    return low


def main() -> None:
    """Prints one Markdown table a kind of scores: mean and half of its 95 % interval over the seeds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=50, help="at most so many for one figure")
    parser.add_argument("--least", type=int, default=50, help="clicks of the smallest sample")
    parser.add_argument("--most", type=int, default=100_000, help="clicks of the largest sample")
    options = parser.parse_args()
    for name, scores in SCORES.items():
        print(f"\n{name}, {scores.rate:.0%} clicks\n\n| clicks | seeds | " + " | ".join(CHOICES) + " |")
        print("|---:" * (len(CHOICES) + 2) + "|")
        for clicks in (size for size in SIZES if options.least <= size <= options.most):
            seeds = int(np.clip(CLICKS_PER_SIZE // clicks, 3, options.seeds))
            runs = [excess_losses(scores, clicks, seed) for seed in range(seeds)]
            cells = []
            for choice in CHOICES:
                values = np.array([run[choice] for run in runs])
                cells.append(f"{values.mean():.1f} ± {1.96 * values.std(ddof=1) / np.sqrt(seeds):.1f}")
            print(f"| {clicks:,} | {seeds} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
