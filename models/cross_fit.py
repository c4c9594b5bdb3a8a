"""Scores of rows by models that did not learn from them: each block of time is held out once.

    | block 1 | block 2 | block 3 | block 4 |      a path of models (`trainer.fit_path`) for each, of the other three

The step of a path is chosen for all blocks together, by the sum of their held-out losses. That least loss is also what
a search of settings compares (`models/search.py`): it is known block by block, so a bad setting need not be fitted to
the end. Thinned-out rows (`models/fitting/downsampling.py`) take part in no loss.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.calibrator import Float64s
from models.trainers.trainer import FittedPath, Trainer, TrainingSet

BLOCKS = 4


@dataclass(frozen=True, slots=True)
class CrossFit:
    """Rows in order of time, and which of them are learnt. kept: (m,) places, ascending."""

    rows: TrainingSet
    kept: npt.NDArray[np.int64]

    def paths(self, trainer: Trainer, seed: int) -> Iterator[FittedPath]:
        """For each block a path of the other blocks, with its losses on this one; fitted when asked for."""
        block_of_kept = self._block_of_kept()
        for block in range(BLOCKS):
            held_out = block_of_kept == block
            yield trainer.fit_path(self.rows.take(self.kept[~held_out]), self.rows.take(self.kept[held_out]), seed)

    def least_loss(self, losses: Sequence[Float64s]) -> tuple[int, float]:
        """The step of least held-out loss, and that loss: mean log loss of the learnt rows of the blocks so far, nats.

        Args:
            losses: (steps,) of the path of each block, of the first blocks or of all.
        """
        longest = max(map(len, losses))
        # A path that ended early had stopped improving: its last loss stands for the steps it did not take.
        whole = [np.concatenate([loss, np.full(longest - len(loss), loss[-1])]) for loss in losses]
        weights = np.bincount(self._block_of_kept(), minlength=BLOCKS)[: len(losses)]
        mean = np.average(whole, axis=0, weights=weights)
        step = int(np.argmin(mean))
        return step, float(mean[step])

    def margins(self, paths: Sequence[FittedPath], step: int) -> Float64s:
        """(n,) margins of all rows, each at that step of the path that did not learn from its block."""
        edges = self._edges()
        return np.concatenate(
            [
                path.raw_logit(min(step, len(path.held_out_loss) - 1), self.rows.take(slice(start, end)).encoded)
                for path, start, end in zip(paths, edges[:-1], edges[1:], strict=True)
            ]
        )

    def losses(self, trainer: Trainer, seed: int) -> Iterator[float]:
        """The least loss of the blocks so far, after each block; the last one is that of all."""
        found: list[Float64s] = []
        for path in self.paths(trainer, seed):
            found.append(path.held_out_loss)
            yield self.least_loss(found)[1]

    @property
    def digest(self) -> str:
        """SHA-256 of all that the losses depend on, beside trainer and seed."""
        names = repr((self.rows.float_names, self.rows.id_names))
        digest = hashlib.sha256(names.encode())
        for array in (*self.rows.encoded, self.rows.clicked, self.kept):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def _edges(self) -> npt.NDArray[np.int64]:
        return np.linspace(0, len(self.rows), BLOCKS + 1).astype(np.int64)

    def _block_of_kept(self) -> npt.NDArray[np.int64]:
        return np.searchsorted(self._edges(), self.kept, side="right") - 1
