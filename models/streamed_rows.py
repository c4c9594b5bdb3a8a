"""The rows of a frame as they stream by: some at a time, and a survey of all of them that fits into memory.

A frame may lie in memory or on disk; nobody here holds more than `CHUNK_ROWS` of its rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.encoder import Encoded, Encoder
from models.evaluation.intervals import user_codes
from models.fitting.distinct import DistinctCounter
from models.logs.frame import Frame
from models.trainers.trainer import TrainingSet
from models.training import Progress, infinite_columns, refuse_infinities

CHUNK_ROWS = 65_536
SURVEY_ROWS = 200_000
"""Rows that show the numbers' ranges, the importance of columns and what drift is measured against."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The rows of a frame as matrices, some at a time."""

    frame: Frame
    encoder: Encoder
    segment_at: int | None

    def chunks(self, start: int, end: int, stage: str, on_progress: Progress) -> Iterator[tuple[slice, Encoded]]:
        """Neighbouring rows from `start` to `end` and where they lie, in order."""
        for at in range(start, end, CHUNK_ROWS):
            on_progress(stage, (at - start) / (end - start))
            rows = slice(at, min(end, at + CHUNK_ROWS))
            yield rows, self.frame.encode(self.encoder, rows)

    def shown(self, encoded: Encoded) -> Encoded:
        """What learners see: zeros in the column that names segments."""
        if self.segment_at is None:
            return encoded
        features = encoded.features.copy()
        features[:, self.segment_at] = 0.0
        return Encoded(features, encoded.ids)


@dataclass(frozen=True, slots=True)
class Survey:
    """Rows far apart, and how many distinct hashes the fit part has. places: (m,) rows of the frame they are."""

    of_all: TrainingSet
    places: npt.NDArray[np.int64]
    n_fit: int
    distinct: npt.NDArray[np.int64]

    @property
    def of_fit(self) -> TrainingSet:
        """Those of the fit part."""
        return self.of_all.take(slice(0, self.n_fit))

    @property
    def of_tail(self) -> TrainingSet:
        """Those of the tail."""
        return self.of_all.take(slice(self.n_fit, None))


def survey(stream: Stream, cut: int, on_progress: Progress) -> Survey:
    """Looks at every row once and keeps some.

    Raises:
        TrainingError: a column holds an infinity.
    """
    frame, encoder = stream.frame, stream.encoder
    stride = max(1, len(frame) // SURVEY_ROWS)
    counter = DistinctCounter(len(encoder.id_names))
    kept: list[Encoded] = []
    for rows, encoded in stream.chunks(0, len(frame), "surveying", on_progress):
        refuse_infinities(infinite_columns(encoded, encoder.float_names))
        counter.add(encoded.ids[: max(0, cut - rows.start)])
        first = -rows.start % stride
        # Copied: a view would keep its whole chunk, and all chunks are the log.
        kept.append(Encoded(encoded.features[first::stride].copy(), encoded.ids[first::stride].copy()))
    places = np.arange(0, len(frame), stride)
    of_all = TrainingSet(
        Encoded(np.concatenate([part.features for part in kept]), np.concatenate([part.ids for part in kept])),
        frame.clicked[places],
        np.array(frame.time_ms[places]),
        encoder.float_names,
        encoder.id_names,
        user_codes(frame.users_at(slice(0, len(frame), stride))),
    )
    return Survey(of_all, places, int(np.searchsorted(places, cut)), counter.counts())
