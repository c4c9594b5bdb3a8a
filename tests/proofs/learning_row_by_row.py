"""FTRL in mini-batches against FTRL row by row (Vowpal Wabbit): the same rows, columns, thinning and settings.

Both promise every row before they learn it, and are judged by the promises of the last fifth, with the correction for
thinning and without a calibrator, which would hide a wrong level. Rows are laid out by the learner's own design, made
as `models/streaming.py` makes it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.calibrator import sigmoid
from models.encoder import Encoded, Encoder
from models.evaluation.metrics import normalized_entropy
from models.fitting.distinct import DistinctCounter
from models.fitting.downsampling import automatic_rate, keep_rows, log_odds_correction
from models.fitting.ftrl import DesignedRows
from models.fitting.linear_design import LinearDesign
from models.logs.reader import read_log
from models.logs.stored_frame import StoredFrame, store_frame
from models.streamed_rows import CHUNK_ROWS, SURVEY_ROWS
from models.trainers.ftrl import SETTINGS, FtrlTrainer
from tests.proofs.claim import Claim, Outcome, clickserve
from tests.proofs.vowpal_wabbit import INSTALL, VowpalWabbit, is_installed

SEED = 11
JUDGED = 0.2
BOUND = 0.01
ROWS = 10_000_000


def row_by_row(impressions: int, scratch: Path) -> Outcome:
    """NE of the last fifth of that many simulated impressions, of ours and of the reference."""
    if not is_installed():
        return Outcome(f"Vowpal Wabbit is not installed; install it with: {INSTALL}", False, {})
    data = scratch / "sim"
    clickserve("simulate", "--out", data, "--impressions", impressions, "--seed", SEED, cwd=scratch)
    began = time.monotonic()
    with store_frame(read_log(f"simulated:{data}", workdir=scratch / "work")) as frame:
        joined_s = time.monotonic() - began
        n = len(frame)  # an impression whose label is pending at the log's end is not in it
        rate = automatic_rate(frame.clicked)
        kept, kept_rate = keep_rows(frame.clicked, rate, SEED)
        taught = np.zeros(n, dtype=np.bool_)
        taught[kept] = True
        encoder = Encoder(frame.inputs)
        design = _design(frame, encoder)
        first = slice(0, CHUNK_ROWS)
        clicks, rows = int(np.count_nonzero(frame.clicked[first])), int(np.count_nonzero(taught[first]))
        level = float(np.log((clicks + 0.5) / (rows - clicks + 0.5)))
        ours = FtrlTrainer().begin(design, clicks, rows)
        promised = np.empty(n)
        began = time.monotonic()
        with VowpalWabbit(scratch, design, SETTINGS, level) as theirs:
            for part, encoded in _chunks(frame, encoder):
                shown = DesignedRows.of(design, encoded)
                promised[part] = ours.learn(shown, frame.clicked[part], taught[part])
                theirs.learn(shown, frame.clicked[part], taught[part])
            reference = theirs.margins()
        both_s = time.monotonic() - began
        clicked = frame.clicked
    correction = log_odds_correction(kept_rate)
    judged = slice(int(n * (1 - JUDGED)), n)
    entropies = [normalized_entropy(clicked[judged], sigmoid(of[judged] + correction)) for of in (promised, reference)]
    apart = abs(entropies[0] / entropies[1] - 1)
    agreeing = float(np.corrcoef(promised[judged], reference[judged])[0, 1])
    return Outcome.judged(
        f"{n:,} impressions: NE {entropies[0]:.4f} in mini-batches, {entropies[1]:.4f} row by row, {apart:.2%} apart",
        {
            f"NE within {BOUND:.0%}": apart <= BOUND,
            "both learnt something": max(entropies) < 1,
            "of the same rows": len(reference) == n and agreeing > 0.9,
        },
        {
            "impressions": n,
            "taught": int(taught.sum()),
            "weights": design.n_weights,
            "normalized_entropy": {"ours": entropies[0], "row_by_row": entropies[1]},
            "correlation_of_margins": agreeing,
            "seconds": {"joining": joined_s, "learning both": both_s},
        },
    )


def _chunks(frame: StoredFrame, encoder: Encoder) -> Iterator[tuple[slice, Encoded]]:
    for start in range(0, len(frame), CHUNK_ROWS):
        part = slice(start, min(len(frame), start + CHUNK_ROWS))
        yield part, frame.encode(encoder, part)


def _design(frame: StoredFrame, encoder: Encoder) -> LinearDesign:
    """Of rows far apart, with room for all the hashes that there are."""
    stride = max(1, len(frame) // SURVEY_ROWS)
    counter = DistinctCounter(len(encoder.id_names))
    features: list[npt.NDArray[np.float32]] = []
    ids: list[npt.NDArray[np.int64]] = []
    for part, encoded in _chunks(frame, encoder):
        counter.add(encoded.ids)
        seen = slice(-part.start % stride, None, stride)
        features.append(encoded.features[seen].copy())
        ids.append(encoded.ids[seen].copy())
    return LinearDesign.of(Encoded(np.concatenate(features), np.concatenate(ids)), counter.counts())


CLAIMS = [
    Claim(
        "ftrl-row-by-row",
        "python -m tests.proofs learning --only ftrl-row-by-row",
        f"sim-v1, {ROWS / 1e6:.0f} M impressions: NE of the last fifth within {BOUND:.0%} of Vowpal Wabbit's "
        "FTRL-proximal, row by row",
        partial(row_by_row, ROWS),
    )
]
