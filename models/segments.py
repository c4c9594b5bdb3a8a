"""Segments of a calibrator: kinds of impressions whose scores are off in different ways, such as placements or markets.

One map of all rows is true on average and may still promise too much in one placement and too little in another. A
segment has a straight, rising line of its own behind that map: two numbers, which a hundred clicks can carry where a
map of its own would want thousands. Segment 0 is everybody, the map alone.

The segment of a row is a whole number in a float column that is called `calibrator_segment`, of the user, the ad or the
context. Learners do not see that column: numbers of segments are names and no quantities, and what the model has to
know of a placement belongs into a column of hashes beside it. What is missing, no whole number, or a segment that had
too few clicks, is segment 0. Fitting is `models/fitting/segments.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.errors import EncodingError, TrainingError

Float64s = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]

SEGMENT_FEATURE = "calibrator_segment"
"""A float feature of this name, of the user, the ad or the context, names a row's segment."""
NO_SEGMENT = np.zeros(1, dtype=np.int32)
"""The segment of all rows where nothing names one."""


@dataclass(frozen=True, slots=True)
class SegmentLines:
    """What follows the map of all rows: y_s = scales[s] * y + shifts[s] for segment s.

    column: which of the columns of `features` names the segment.
    scales, shifts: (S + 1,) float64; scales are above 0, and line 0 changes nothing.
    fitted_on, clicks: (S + 1,) impressions and clicks behind each line, 0 where it follows the map of all rows; empty
        where the lines were read from a graph.
    """

    column: int
    scales: Float64s
    shifts: Float64s
    fitted_on: tuple[int, ...] = ()
    clicks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        fit = self.scales.ndim == 1 and len(self.scales) > 0 and self.scales.shape == self.shifts.shape
        if not fit or self.scales[0] != 1.0 or self.shifts[0] != 0.0:
            raise TrainingError(
                f"segments begin with the line that changes nothing and have one scale and one shift each, got "
                f"{self.scales} and {self.shifts}"
            )
        if not np.all(np.isfinite(self.scales) & (self.scales > 0) & np.isfinite(self.shifts)):
            raise TrainingError(f"a segment's line must rise, got scales {self.scales} and shifts {self.shifts}")

    def __len__(self) -> int:
        """S + 1."""
        return len(self.scales)

    def numbers(self, values: npt.NDArray[np.float32]) -> Int32s:
        """(n,) values of the column -> (n,) segments."""
        return segment_numbers(values, len(self))


def segment_numbers(values: npt.NDArray[np.float32], end: int) -> Int32s:
    """(n,) segments below `end`: a missing value, a fraction and any other number are segment 0."""
    known = (values == np.floor(values)) & (values >= 0) & (values < end)  # false for NaN
    return np.where(known, values, np.float32(0)).astype(np.int32)


def segment_column(float_names: Sequence[str], id_names: Sequence[str]) -> int | None:
    """Which of a model's float columns names the segment of a row; None where none does.

    Raises:
        EncodingError: several do, or one that is no number, or no column of a user, an ad or the context.
    """
    named = [name for name in (*float_names, *id_names) if name.partition("[")[0].rpartition(".")[2] == SEGMENT_FEATURE]
    if not named:
        return None
    (name, *others) = named
    if others or name not in float_names or name.startswith("pair.") or "[" in name:
        raise EncodingError(
            f"columns {named} cannot name segments; declare {SEGMENT_FEATURE!r} once, as a float32 of width 1, of the "
            "user, the ad or the context"
        )
    return list(float_names).index(name)
