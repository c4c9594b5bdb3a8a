"""How often a 95 % interval of NE holds the truth, by how many users there are and how unequal they are.

    python -m tests.coverage_study [--samples N]

Prints the table of `models/evaluation/units.py`. The truth is NE over 60 000 other users of the same kind. `alike`
users click by chance alone; `differing` ones have a level (standard deviation 0.5 in log-odds) and a skill of
their own.
"""

from __future__ import annotations

import argparse

import numpy as np

from models.calibrator import sigmoid
from models.evaluation import metrics
from models.evaluation.cells import percentiles
from models.evaluation.redrawn_totals import redrawn_losses
from models.evaluation.units import widest

LEVEL, SKILL = -2.2, 0.6
Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


def drawn(n_users: int, unequal: bool, differing: float, random: np.random.Generator) -> Sample:
    """Outcome, loss and user of each impression."""
    rows = 2_000 if n_users < 20 else 100 * n_users
    weight = random.pareto(1.0, n_users) + 0.02 if unequal else np.ones(n_users)
    size = np.maximum(1, np.round(rows * weight / weight.sum())).astype(int)
    user = np.repeat(np.arange(n_users), size)
    score = random.normal(size=len(user))
    level, skill = differing * random.normal(size=n_users), 1.0 + 0.5 * differing * random.normal(size=n_users)
    clicked = random.random(len(user)) < sigmoid(LEVEL + SKILL * skill[user] * score + level[user])
    return clicked, metrics.log_losses(clicked, sigmoid(LEVEL + SKILL * score)), user


def entropies(totals: np.ndarray) -> np.ndarray:
    """(R,) NE of (R, 3) totals."""
    n, clicks, losses = totals.T
    found: np.ndarray = losses / (n * metrics.entropy(clicks / n))
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=300)
    samples: int = parser.parse_args().samples
    random = np.random.default_rng(0)
    print("| users | | effective | by user | by row | the wider |\n|---:|---|---:|---:|---:|---:|")
    for differing in (0.0, 0.5):
        for unequal in (False, True):
            others = [drawn(200, unequal, differing, random) for _ in range(300)]
            clicked, losses = (np.concatenate([each[i] for each in others]) for i in (0, 1))
            truth = losses.mean() / metrics.entropy(float(clicked.mean()))
            for n_users in (3, 10, 20, 40, 80, 160):
                held, effective = np.zeros(3), []
                for _ in range(samples):
                    clicked, losses, user = drawn(n_users, unequal, differing, random)
                    each = []
                    for codes in (user, None):
                        _, redrawn = redrawn_losses(clicked, [losses], codes, random)
                        each.append(percentiles(entropies(redrawn)))
                    ends = [found or (np.inf, -np.inf) for found in (*each, widest(each, (np.inf, -np.inf)))]
                    held += [low <= truth <= high for low, high in ends]
                    count = np.bincount(user[clicked]).astype(float)
                    effective.append(count.sum() ** 2 / (count @ count))
                words = f"{'unequal' if unequal else 'equal'}, {'differing' if differing else 'alike'}"
                shares = " | ".join(f"{share:.3f}" for share in held / samples)
                print(f"| {n_users} | {words} | {np.median(effective):.1f} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
