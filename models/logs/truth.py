"""The truth beside a simulated log: what each impression's click probability really was. Never a feature.

`true_p` knows everything; `attainable_p` knows what serving may see, at the reference position (`oracles.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from feature_store.offline import arrow
from feature_store.offline.engine import text
from models.logs.frame import TrainingFrame

TRUTH_FILE = "truth.parquet"


class Truth(NamedTuple):
    """Click probabilities of n impressions: true_p and attainable_p, (n,) float64 each."""

    true_p: npt.NDArray[np.float64]
    attainable_p: npt.NDArray[np.float64]


def truth_of(frame: TrainingFrame) -> Truth | None:
    """The true probabilities of a frame's impressions, or None where its log is not a simulated one."""
    path = frame.log.folder / TRUTH_FILE
    if not path.exists():
        return None
    with frame.log.engine() as engine:
        table = engine.table(
            f"SELECT true_p, attainable_p FROM read_parquet({text(str(path))}, file_row_number = true) "
            "ORDER BY file_row_number"
        )
    row = frame.line - 1  # lines count from 1
    return Truth(arrow.float64s(table, "true_p")[row], arrow.float64s(table, "attainable_p")[row])
