"""Input and answer matrices that ONNX Runtime reads and writes in place, call after call.

Binding costs more than what it saves, so each number of rows is bound once; all of these bindings lie over the same
memory, that of `REUSED_ROWS` rows. A set therefore belongs to one caller at a time, and answers are copied out of it.
Memory: REUSED_ROWS * (4 d + 8 k + 16) bytes, and a small object for each number of rows that was seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from models.encoder import Encoded
from models.plans.plan import Scores

REUSED_ROWS = 128
"""A usual request is smaller, and larger ones are scored in chunks of as many rows."""
ANSWERS = ("raw_logit", "p_click")

_DTYPES: dict[str, npt.DTypeLike] = {"tensor(float)": np.float32, "tensor(double)": np.float64}


class BoundRows:
    """Matrices of one session, for one caller at a time."""

    def __init__(self, session: onnxruntime.InferenceSession, n_features: int, n_ids: int) -> None:
        """The session must pass `can_be_bound`."""
        self._session = session
        self._rows = Encoded(
            np.empty((REUSED_ROWS, n_features), dtype=np.float32), np.empty((REUSED_ROWS, n_ids), dtype=np.int64)
        )
        types = {tensor.name: tensor.type for tensor in session.get_outputs()}
        self._answers = tuple(np.empty(REUSED_ROWS, dtype=_DTYPES[types[name]]) for name in ANSWERS)
        self._bindings: dict[int, onnxruntime.IOBinding] = {}

    def rows(self, n: int) -> Encoded:
        """The first n rows, to be written whole; n is at most REUSED_ROWS."""
        return Encoded(self._rows.features[:n], self._rows.ids[:n])

    def run(self, n: int) -> Scores:
        """Scores the first n rows, n being 1 or more; the answers are the caller's own."""
        binding = self._bindings.get(n)
        if binding is None:
            binding = self._bindings[n] = self._bound(n)
        self._session.run_with_iobinding(binding)
        raw_logit, p_click = self._answers
        return Scores(np.array(raw_logit[:n], dtype=np.float64), np.array(p_click[:n], dtype=np.float64))

    def _bound(self, n: int) -> onnxruntime.IOBinding:
        binding = self._session.io_binding()
        inputs: dict[str, npt.NDArray[Any]] = {"features": self._rows.features, "ids": self._rows.ids}
        for name in (tensor.name for tensor in self._session.get_inputs()):
            matrix = inputs[name]
            binding.bind_input(name, "cpu", 0, matrix.dtype.type, (n, matrix.shape[1]), matrix.ctypes.data)
        for name, answer in zip(ANSWERS, self._answers, strict=True):
            binding.bind_output(name, "cpu", 0, answer.dtype.type, (n,), answer.ctypes.data)
        return binding


def can_be_bound(session: onnxruntime.InferenceSession) -> bool:
    """Whether both answers are declared as (n,) floats or doubles: only then is their memory known before a run."""
    answers = {tensor.name: tensor for tensor in session.get_outputs()}
    return all(answers[name].type in _DTYPES and len(answers[name].shape) == 1 for name in ANSWERS)
