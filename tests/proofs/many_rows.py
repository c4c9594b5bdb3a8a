"""LightGBM on many rows, as the trainer `gbdt` calls it; prints one JSON document.

The rows are made here: 40 numbers, clicks of 1 % that depend on some of them. Not thinned out, so this is the whole
weight of 5 M impressions on the learner.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import numpy as np

from models.calibrator import sigmoid
from models.encoder import Encoded
from models.trainers.gbdt import GbdtTrainer
from models.trainers.trainer import TrainingSet

ROWS, COLUMNS, ROUNDS = 5_000_000, 40, 200


def made(n: int) -> TrainingSet:
    """n impressions of `COLUMNS` numbers."""
    random = np.random.default_rng(1)
    features = random.normal(size=(n, COLUMNS)).astype(np.float32)
    log_odds = -5.0 + features[:, :8].astype(np.float64) @ np.linspace(0.5, 0.1, 8)
    clicked = random.random(n) < sigmoid(log_odds)
    names = tuple(f"context.x{i}" for i in range(COLUMNS))
    return TrainingSet(Encoded(features, np.empty((n, 0), np.int64)), clicked, np.arange(n), names, ())


def main() -> None:
    """Trains once and tells how long it took."""
    data = made(ROWS)
    started = time.monotonic()
    model = GbdtTrainer(threads=2).fit(data, ROUNDS - 1, 1.0, seed=1)
    seconds = time.monotonic() - started
    document = {
        "rows": ROWS,
        "columns": COLUMNS,
        "rounds": model.parameters["rounds"],
        "seconds": seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    json.dump(document, sys.stdout)


if __name__ == "__main__":
    main()
