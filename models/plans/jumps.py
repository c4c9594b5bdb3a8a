"""Rows at every point where a model's answer may jump.

Each cut point of each column as float32, and its float32 neighbours on both sides; each hash the model knows; each
segment of the calibrator. The other columns are those of example rows. Both the proof of a graph and the certificate of
a plan are held on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.encoder import Encoded
from models.segments import SegmentLines
from models.specs import Float64s, Int64s

LARGEST = float(np.finfo(np.float32).max) / 2
"""Half the largest float32: differences of two such values are finite, and infinities never reach a graph."""
ROWS_PER_SEGMENT = 8
"""Of different margins, because a segment's line bends with them."""


class Jumping(Protocol):
    """What is known of where a model's answer may jump: any specification, for one."""

    def cut_points(self) -> Mapping[int, Float64s]:
        """Numbers of a float column, by its place."""

    def known_ids(self) -> Mapping[int, Int64s]:
        """Hashes of an id column that the model tells from others, by its place."""


def jump_rows(
    examples: Encoded, spec: Jumping, random: np.random.Generator, segments: SegmentLines | None = None
) -> Encoded:
    """Example rows with one column moved to a point where the answer may jump."""
    at_cuts = [(column, _with_neighbours(cuts)) for column, cuts in spec.cut_points().items()]
    if segments is not None:
        at_cuts.append((segments.column, np.repeat(_segment_values(len(segments)), ROWS_PER_SEGMENT)))
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


def _segment_values(end: int) -> npt.NDArray[np.float32]:
    """Every segment below `end`, and what is none."""
    none = [-1.0, -0.0, 0.5, end - 0.5, end, 2.0**31, 2.0**63, -LARGEST, LARGEST, np.nan]
    return np.concatenate([np.arange(end), none]).astype(np.float32)


def _with_neighbours(cuts: Float64s) -> npt.NDArray[np.float32]:
    """Each cut as float32, and one step to either side."""
    nearest = cuts.clip(-LARGEST, LARGEST).astype(np.float32)
    around = [np.nextafter(nearest, np.float32(-np.inf)), nearest, np.nextafter(nearest, np.float32(np.inf))]
    return np.concatenate(around).clip(-LARGEST, LARGEST)
