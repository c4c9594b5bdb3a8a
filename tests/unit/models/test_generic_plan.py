"""The generic plan: any graph of the right shape, any number of rows, and a clear no to everything else."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest

from models.calibrator import CalibratorMap
from models.encoder import Encoded
from models.errors import PlanError
from models.export.graph import export_graph
from models.plans import generic
from models.plans.generic import GenericPlan
from models.plans.plan import Scores
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


def filled(plan: GenericPlan, rows: Encoded) -> Scores:
    """The scores of these rows, written into the plan's own matrices."""

    def fill(matrices: Encoded) -> None:
        matrices.features[:], matrices.ids[:] = rows

    return plan.score_filled(len(rows.features), fill)


def drawn(random: np.random.Generator, n: int) -> Encoded:
    """n rows of the log, in any order."""
    at = random.integers(0, len(LOG.encoded.features), n)
    return Encoded(LOG.encoded.features[at], LOG.encoded.ids[at])


def test_reused_matrices_change_no_answer() -> None:
    """Whatever number of rows came before, within the matrices and beyond; an answer stays when the next is made."""
    plan, random = GenericPlan(GRAPH), np.random.default_rng(0)
    sizes = [0, 1, 127, 128, 129, 1, 3_000, 2, *random.integers(1, 140, 60).tolist()]
    asked = [drawn(random, n) for n in sizes]

    answered = [filled(plan, rows) for rows in asked]

    for rows, scores in zip(asked, answered, strict=True):
        wanted = plan.score(*rows)
        np.testing.assert_array_equal(scores.p_click, wanted.p_click)
        np.testing.assert_array_equal(scores.raw_logit, wanted.raw_logit)
        assert scores.p_click.dtype == scores.raw_logit.dtype == np.float64


def test_matrices_are_the_same_memory_for_every_request() -> None:
    """What is reused is what costs nothing; beyond 128 rows there are new ones."""
    plan, seen = GenericPlan(GRAPH), []

    def fill(matrices: Encoded) -> None:
        seen.append([matrix.ctypes.data for matrix in matrices])
        matrices.features[:], matrices.ids[:] = 0, 0

    for n in (100, 1, 128, 129):
        plan.score_filled(n, fill)

    assert seen[0] == seen[1] == seen[2] != seen[3]


def test_a_fill_that_fails_costs_no_later_answer() -> None:
    """Half-written matrices are let go."""
    plan, rows = GenericPlan(GRAPH), drawn(np.random.default_rng(0), 50)

    def fails(matrices: Encoded) -> None:
        matrices.features[:] = np.nan
        raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        plan.score_filled(50, fails)

    np.testing.assert_array_equal(filled(plan, rows).p_click, plan.score(*rows).p_click)


def test_threads_do_not_share_matrices() -> None:
    """Eight at once, each meeting the others between filling and scoring: every one gets the answers of its rows."""
    plan, n_threads = GenericPlan(GRAPH), 8
    together = threading.Barrier(n_threads)

    def asks(seed: int) -> list[bool]:
        random = np.random.default_rng(seed)
        right = []
        for _ in range(20):
            rows = drawn(random, int(random.integers(1, 129)))

            def fill(matrices: Encoded, rows: Encoded = rows) -> None:
                matrices.features[:], matrices.ids[:] = rows
                together.wait(timeout=30)

            scores = plan.score_filled(len(rows.features), fill)
            right.append(np.array_equal(scores.p_click, plan.score(*rows).p_click))
        return right

    with ThreadPoolExecutor(n_threads) as pool:
        right = [each for asked in pool.map(asks, range(n_threads)) for each in asked]

    assert right == [True] * (n_threads * 20)


@pytest.mark.parametrize("kind", ["float16", "a column"])
def test_answers_of_another_form_are_not_bound(kind: str) -> None:
    """Somebody's own graph may answer them; it is scored, without reuse."""
    value, onnx_type = onnx.helper.make_tensor_value_info, onnx.TensorProto
    answer_type = onnx_type.FLOAT16 if kind == "float16" else onnx_type.FLOAT
    shape = ["n", 1] if kind == "a column" else ["n"]
    nodes = [
        onnx.helper.make_node("ReduceSum", ["features", "axis"], ["sum"], keepdims=int(kind == "a column")),
        onnx.helper.make_node("Cast", ["sum"], ["raw_logit"], to=answer_type),
        onnx.helper.make_node("Sigmoid", ["raw_logit"], ["p_click"]),
    ]
    answers = [value(name, answer_type, shape) for name in ("raw_logit", "p_click")]
    axis = onnx.numpy_helper.from_array(np.array([1]), "axis")
    graph = onnx.helper.make_graph(nodes, "g", [value("features", onnx_type.FLOAT, ["n", 2])], answers, [axis])
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 21)])
    plan, rows = (
        GenericPlan(model.SerializeToString()),
        Encoded(np.ones((3, 2), np.float32), np.empty((3, 0), np.int64)),
    )

    scores = filled(plan, rows)

    np.testing.assert_array_equal(scores.raw_logit.ravel(), [2.0, 2.0, 2.0])
    np.testing.assert_array_equal(scores.p_click, plan.score(*rows).p_click)


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
