"""What a search of settings is judged by where the rows stream: promises for each row before it was learnt.

The fit part streams by once a trial. Its quarters are the blocks of `models/search.py`: after each stands the mean log
loss of all promises so far, of rows that are learnt from; thinned-out ones take part in none (progressive validation).
Nothing of the tail is read, not even for the share of non-clicks that is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import msgspec
import numpy as np

from models.cross_fit import BLOCKS
from models.encoder import Encoder
from models.errors import TrainingError
from models.evaluation.metrics import log_loss_of_logit
from models.fitting.downsampling import automatic_rate, keep_rows, refuse_few
from models.fitting.ftrl import Bools, DesignedRows
from models.logs.frame import Frame
from models.logs.stored_frame import StoredFrame
from models.segments import segment_column
from models.streamed_rows import CHUNK_ROWS, Stream, Survey, survey
from models.streaming import begun
from models.trainers.ftrl import FtrlTrainer
from models.trainers.trainer import Trainer
from models.training import FIT_SHARE, Progress, TrainOptions, check_enough, check_even


@dataclass(frozen=True, slots=True)
class StreamLosses:
    """See `models.search.Objective`. taught: (n,) which rows of the fit part are learnt from."""

    stream: Stream
    surveyed: Survey
    taught: Bools
    digest: str

    @classmethod
    def of(cls, frame: StoredFrame, options: TrainOptions, seed: int, on_progress: Progress) -> Self:
        """Looks at the fit part of a frame once.

        Raises:
            TrainingError, EncodingError: as `models.streaming.train_streaming`.
        """
        encoder = Encoder(frame.inputs)
        check_enough(frame.clicked, encoder.float_names + encoder.id_names, seed)
        cut = int(len(frame) * FIT_SHARE)
        check_even(frame.clicked, np.linspace(0, cut, BLOCKS + 1).astype(np.int64))
        fit = frame.rows(slice(0, cut))
        rate = automatic_rate(fit.clicked) if options.negative_rate is None else options.negative_rate
        refuse_few(fit.clicked, rate)
        kept, _ = keep_rows(fit.clicked, rate, seed)
        taught = np.zeros(cut, dtype=np.bool_)
        taught[kept] = True
        stream = Stream(fit, encoder, segment_column(encoder.float_names, encoder.id_names))
        return cls(stream, survey(stream, cut, on_progress), taught, _digest(fit, taught))

    def losses(self, trainer: Trainer, seed: int) -> Iterator[float]:
        """The mean loss of the promises so far, after each quarter; nothing is drawn, so the seed is not used."""
        if not isinstance(trainer, FtrlTrainer):
            raise TrainingError(f"the learner {trainer.name} cannot learn from a stream; choose ftrl, or a shorter log")
        learner = begun(self.stream, self.surveyed, trainer, self.taught)
        edges = np.linspace(0, len(self.taught), BLOCKS + 1).astype(np.int64)
        total, n = 0.0, 0
        for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            for rows, encoded in self.stream.chunks(start, end, "", _silent):
                shown = DesignedRows.of(learner.design, self.stream.shown(encoded))
                clicked, taught = self.stream.frame.clicked[rows], self.taught[rows]
                margins = learner.learn(shown, clicked, taught)
                if taught.any():
                    learnt = int(np.count_nonzero(taught))
                    total += learnt * log_loss_of_logit(clicked[taught], margins[taught])
                    n += learnt
            yield total / max(1, n)


def _silent(text: str, share: float) -> None:
    """The search tells its own progress."""


def _digest(fit: Frame, taught: Bools) -> str:
    """SHA-256 of the rows, their features and labels, and of what is learnt of them."""
    inputs = [(view.name, view.fingerprint) for view in fit.inputs.views]
    digest = hashlib.sha256(msgspec.json.encode([inputs, fit.inputs.context, fit.inputs.pairs]))
    encoder = Encoder(fit.inputs)
    for start in range(0, len(fit), CHUNK_ROWS):
        rows = slice(start, min(start + CHUNK_ROWS, len(fit)))
        encoded = fit.encode(encoder, rows)
        for array in (*encoded, fit.clicked[rows], taught[rows]):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
