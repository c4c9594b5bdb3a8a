"""Rows at every point where a model's answer may jump.

Each cut point of each column as float32, and its float32 neighbours on both sides; each hash the model knows. The other
columns are those of example rows. Both the proof of a graph and the certificate of a plan are held on them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.encoder import Encoded
from models.specs import Float64s, ModelSpec

LARGEST = float(np.finfo(np.float32).max) / 2
"""Half the largest float32: differences of two such values are finite, and infinities never reach a graph."""


def jump_rows(examples: Encoded, spec: ModelSpec, random: np.random.Generator) -> Encoded:
    """Example rows with one column moved to a point where the answer may jump."""
    at_cuts = [(column, _with_neighbours(cuts)) for column, cuts in spec.cut_points().items()]
    at_hashes = list(spec.known_ids().items())
    n_cuts = sum(len(values) for _, values in at_cuts)
    base = random.integers(0, len(examples.features), size=n_cuts + sum(len(keys) for _, keys in at_hashes))
    features, ids = examples.features[base].copy(), examples.ids[base].copy()
    start = 0
    for column, values in at_cuts:
        features[start : start + len(values), column] = values
        start += len(values)
    for column, keys in at_hashes:
        ids[start : start + len(keys), column] = keys
        start += len(keys)
    return Encoded(features, ids)


def _with_neighbours(cuts: Float64s) -> npt.NDArray[np.float32]:
    """Each cut as float32, and one step to either side."""
    nearest = cuts.clip(-LARGEST, LARGEST).astype(np.float32)
    around = [np.nextafter(nearest, np.float32(-np.inf)), nearest, np.nextafter(nearest, np.float32(np.inf))]
    return np.concatenate(around).clip(-LARGEST, LARGEST)
