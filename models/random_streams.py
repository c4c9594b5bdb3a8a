"""Random numbers by seed and purpose, so that draws for different things never follow each other.

Two generators of the same plain seed give the same numbers: folds drawn by `default_rng(0)` over a log whose ids were
drawn by `default_rng(0)` put all rows of an id into one fold, and its out-of-fold code was missing for every row.
"""

from __future__ import annotations

import zlib

import numpy as np


def random_stream(seed: int, purpose: str) -> np.random.Generator:
    """A generator of its own for each purpose; the same seed and purpose give the same numbers.

    Args:
        seed: 0 or more.
        purpose: any text that names what is drawn.
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])
