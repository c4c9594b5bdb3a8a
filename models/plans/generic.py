"""The plan that fits every graph: ONNX Runtime, one thread, one session for the life of the model.

One thread, because a pool of ONNX Runtime's spins between requests (3 CPU-seconds burnt after one request on four
cores) and workers are processes already. Long inputs are scored in chunks, so that a graph's intermediate tensors stay
small; a request is never that long.

Equal rows need not get equal answers: where a row stands in its batch may change the last bits of `p_click` (seen at
equal `raw_logit`, in batches of an odd number of rows). So equal ads may be ranked in another order than the request's,
at equal printed numbers. Ties are exact only with factorised plans.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from models.encoder import Encoded
from models.errors import PlanError
from models.plans.bound_rows import ANSWERS, REUSED_ROWS, BoundRows, can_be_bound
from models.plans.plan import Scores, check_matrices

CHUNK_ROWS = 16_384

_LOAD_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


def opened_session(graph: bytes, *, quiet: bool = False) -> onnxruntime.InferenceSession:
    """A serialised graph, ready to run on the calling thread.

    Args:
        quiet: the runtime writes nothing to stderr, not even errors, which it raises as well.
    Raises:
        PlanError: it cannot be loaded.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Errors only, or nothing below fatal ones: warnings of a graph would repeat on stderr at every call.
    options.log_severity_level = 4 if quiet else 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except _LOAD_ERRORS as error:
        raise PlanError(f"ONNX Runtime cannot load the graph: {error}") from error


class GenericPlan:
    """A graph in ONNX Runtime."""

    name = "generic, onnxruntime"

    def __init__(self, graph: bytes, *, quiet: bool = False) -> None:
        """Raises PlanError where the graph cannot be loaded or lacks the inputs and outputs of a model.

        `quiet` as in `opened_session`.
        """
        self._session = opened_session(graph, quiet=quiet)
        widths = {tensor.name: tensor.shape[1:] for tensor in self._session.get_inputs()}
        answers = {tensor.name for tensor in self._session.get_outputs()}
        if not widths or not widths.keys() <= {"features", "ids"} or not answers.issuperset(ANSWERS):
            raise PlanError(
                f"a model reads `features` and `ids` and answers `raw_logit` and `p_click`; this graph reads "
                f"{sorted(widths)} and answers {sorted(answers)}"
            )
        self._inputs = tuple(widths)
        self.n_features: int = widths["features"][0] if "features" in widths else 0
        self.n_ids: int = widths["ids"][0] if "ids" in widths else 0
        self._most_reused = REUSED_ROWS if can_be_bound(self._session) else 0
        self._idle: list[BoundRows] = []
        """Taken and given back by one operation each, so that no two threads hold the same."""

    def score(self, features: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]) -> Scores:
        """Scores n rows; see `ScorePlan.score`."""
        check_matrices(features, ids, self.n_features, self.n_ids)
        n = len(features)
        if n <= CHUNK_ROWS:
            return self._run(features, ids) if n else Scores(np.empty(0), np.empty(0))
        chunks = [
            self._run(features[start : start + CHUNK_ROWS], ids[start : start + CHUNK_ROWS])
            for start in range(0, n, CHUNK_ROWS)
        ]
        return Scores(
            np.concatenate([chunk.raw_logit for chunk in chunks]), np.concatenate([chunk.p_click for chunk in chunks])
        )

    def score_filled(self, n: int, fill: Callable[[Encoded], object]) -> Scores:
        """Scores n rows that the caller writes into matrices of the plan: nothing but the answers is allocated.

        Args:
            fill: writes every value of features (n, d) float32 and ids (n, k) int64, and keeps neither.
        """
        if not 0 < n <= self._most_reused:
            matrices = Encoded(np.empty((n, self.n_features), np.float32), np.empty((n, self.n_ids), np.int64))
            fill(matrices)
            return self.score(*matrices)
        try:
            bound = self._idle.pop()
        except IndexError:  # the first request, or another thread is scoring
            bound = BoundRows(self._session, self.n_features, self.n_ids)
        fill(bound.rows(n))
        scores = bound.run(n)
        self._idle.append(bound)
        return scores

    def _run(self, features: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]) -> Scores:
        matrices = {"features": features, "ids": ids}
        answers = self._session.run(ANSWERS, {name: matrices[name] for name in self._inputs})
        raw_logit, p_click = (np.asarray(answer, dtype=np.float64) for answer in answers)
        return Scores(raw_logit, p_click)
