"""The generic plan: any graph of the right shape, any number of rows, and a clear no to everything else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from models.calibrator import CalibratorMap
from models.errors import PlanError
from models.export.graph import export_graph
from models.plans import generic
from models.plans.generic import GenericPlan
from models.trainers import trainer_named
from tests.learning import made_impressions

LOG = made_impressions(2_000, seed=1)
GRAPH = export_graph(
    trainer_named("gbdt").fit(LOG, 10, 1.0, seed=0).spec, 0.0, CalibratorMap.identity(), n_features=3, n_ids=2
)


def test_no_rows_have_no_scores() -> None:
    """ONNX Runtime is not even asked."""
    scores = GenericPlan(GRAPH).score(np.empty((0, 3), np.float32), np.empty((0, 2), np.int64))

    assert scores.raw_logit.shape == scores.p_click.shape == (0,)


def test_a_row_alone_and_in_a_crowd_scores_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to rounding, and across the chunks of a long input."""
    plan = GenericPlan(GRAPH)
    together = plan.score(*LOG.encoded)
    monkeypatch.setattr(generic, "CHUNK_ROWS", 300)

    in_chunks = plan.score(*LOG.encoded)
    alone = plan.score(LOG.encoded.features[7:8], LOG.encoded.ids[7:8])

    np.testing.assert_allclose(in_chunks.p_click, together.p_click, rtol=0, atol=1e-7)
    np.testing.assert_allclose(alone.raw_logit, together.raw_logit[7:8], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("features", "ids"),
    [
        (np.zeros((2, 4), np.float32), np.zeros((2, 2), np.int64)),
        (np.zeros((2, 3), np.float64), np.zeros((2, 2), np.int64)),
        (np.zeros((2, 3), np.float32), np.zeros((2, 2), np.uint32)),
        (np.zeros((2, 3), np.float32), np.zeros((3, 2), np.int64)),
        (np.zeros(3, np.float32), np.zeros((1, 2), np.int64)),
    ],
    ids=["width", "float64", "uint32", "lengths", "one dimension"],
)
def test_matrices_that_are_not_the_models_are_refused(features: np.ndarray, ids: np.ndarray) -> None:
    """With both shapes in words, before ONNX Runtime says it in its own."""
    with pytest.raises(PlanError, match=r"float32 \(n, 3\) and ids int64 \(n, 2\), got"):
        GenericPlan(GRAPH).score(features, ids)


@pytest.mark.parametrize("graph", [b"", b"not a graph", GRAPH[: len(GRAPH) // 2]], ids=["empty", "garbage", "half"])
def test_bytes_that_are_no_graph_are_refused(graph: bytes) -> None:
    """The error names ONNX Runtime, not a line of its source."""
    with pytest.raises(PlanError, match="cannot load the graph"):
        GenericPlan(graph)


def test_a_foreign_graph_is_refused_by_its_inputs_and_outputs() -> None:
    """Somebody's own model must first be given our inputs and outputs."""
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    floats = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph([node], "g", [value("x", floats, ["n", 2])], [value("y", floats, ["n", 2])])
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 21)])

    with pytest.raises(PlanError, match=r"reads \['x'\] and answers \['y'\]"):
        GenericPlan(model.SerializeToString())
