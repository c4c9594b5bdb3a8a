"""The exported graph: the trainer's own answers, in parts that can be told apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from models.calibrator import CalibratorMap, p_click_of
from models.encoder import Encoded
from models.errors import ExportError
from models.export.graph import calibrator_sha256, core_sha256, export_graph
from models.plans.generic import GenericPlan
from models.specs import CodeMap, LinearSpec, TreeEnsembleSpec
from models.trainers import trainer_named
from tests.learning import EVERY_LEARNER, made_impressions

GOLDEN = Path(__file__).parents[2] / "golden" / "core_hashes.json"
LOG = made_impressions(2_000, seed=1)
PLATT = CalibratorMap("platt", 0.3, np.empty(0), np.array([0.8]))
PIECEWISE = CalibratorMap("piecewise", 0.1, np.array([-2.0, 0.0, 1.0]), np.array([0.5, 1.2, 0.3, 2.0]))

TREES = TreeEnsembleSpec(
    n_features=1,
    code_maps=(CodeMap(0, np.array([5, 9]), np.array([-0.5, 0.5], dtype=np.float32)),),
    tree=np.array([0, 0, 0, 1, 1, 1]),
    column=np.array([0, -1, -1, 1, -1, -1]),
    threshold=np.array([0.1, 0, 0, 0.0, 0, 0]),
    left=np.array([1, 0, 0, 4, 0, 0]),
    right=np.array([2, 0, 0, 5, 0, 0]),
    missing_left=np.array([True, False, False, False, False, False]),
    leaf_value=np.array([0, 0.25, -0.5, 0, 1.0, 2.0]),
)
LINEAR = LinearSpec(
    intercept=-1.0,
    mean=np.array([0.5]),
    spread=np.array([2.0]),
    slope=np.array([0.3]),
    limit=5.0,
    edges=np.array([[0.0, np.inf]]),
    bin_weights=np.array([[0.1, 0.2, 0.4, 0.8]]),
    id_sizes=np.array([4]),
    id_offsets=np.array([0]),
    id_weights=np.array([0.0, 1.0, 2.0, 3.0]),
)


@pytest.mark.parametrize("learner", EVERY_LEARNER)
@pytest.mark.parametrize("calibrator", [CalibratorMap.identity(), PLATT, PIECEWISE], ids=lambda c: c.kind)
def test_the_graph_answers_as_trainer_correction_and_calibrator(learner: str, calibrator: CalibratorMap) -> None:
    """In this order; the proof repeats it on many more rows."""
    model = trainer_named(learner).fit(LOG, 3, 1.0, seed=0)

    graph = export_graph(model.spec, np.log(0.2), calibrator, n_features=3, n_ids=2)
    scores = GenericPlan(graph).score(*LOG.encoded)

    raw_logit = model.raw_logit(LOG.encoded)
    np.testing.assert_allclose(scores.raw_logit, raw_logit, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(scores.p_click, p_click_of(raw_logit, np.log(0.2), calibrator), rtol=0, atol=1e-6)


def test_trees_by_hand() -> None:
    """Left where value <= threshold, missing where the node says, an unseen hash is missing."""
    graph = export_graph(TREES, 0.0, CalibratorMap.identity(), n_features=1, n_ids=1)
    features = np.array([[0.0], [0.2], [np.nan], [0.2]], dtype=np.float32)
    ids = np.array([[5], [9], [5], [77]])

    raw_logit = GenericPlan(graph).score(features, ids).raw_logit

    assert raw_logit.tolist() == [0.25 + 1.0, -0.5 + 2.0, 0.25 + 1.0, -0.5 + 2.0]


def test_a_double_threshold_is_not_rounded() -> None:
    """0.1 lies below its nearest float32: stored in single precision, that float32 would go the other way."""
    graph = export_graph(TREES, 0.0, CalibratorMap.identity(), n_features=1, n_ids=1)
    nearest = np.array([[np.float32(0.1)]])

    raw_logit = GenericPlan(graph).score(nearest, np.array([[5]])).raw_logit

    assert float(np.float32(0.1)) > 0.1
    assert raw_logit.tolist() == [-0.5 + 1.0]


def test_linear_by_hand() -> None:
    """A line over the signed logarithm, a bin, a table entry by hash modulo size; missing has its own weight."""
    graph = export_graph(LINEAR, 0.0, CalibratorMap.identity(), n_features=1, n_ids=1)
    features = np.array([[3.0], [-1.0], [np.nan]], dtype=np.float32)
    ids = np.array([[2], [4_294_967_295], [0]])

    raw_logit = GenericPlan(graph).score(features, ids).raw_logit

    lines = [0.3 * (np.log(4.0) - 0.5) / 2.0, 0.3 * (-np.log(2.0) - 0.5) / 2.0, 0.0]
    np.testing.assert_allclose(raw_logit, [-1 + lines[0] + 0.4 + 2, -1 + lines[1] + 0.2 + 3, -1 + 0.1 + 0], rtol=1e-15)


def test_another_calibrator_keeps_the_core() -> None:
    """A recalibrated model re-uses every plan and table, because they are keyed by the core's hash."""
    first, second = (export_graph(TREES, 0.0, calibrator, 1, 1) for calibrator in (PLATT, PIECEWISE))

    assert core_sha256(first) == core_sha256(second)
    assert calibrator_sha256(first) != calibrator_sha256(second)


def test_another_leaf_is_another_core() -> None:
    """And the other way round: the calibrator's hash knows nothing of the core."""
    leaf = TREES.leaf_value + 1e-12
    other = TreeEnsembleSpec(**{**{n: getattr(TREES, n) for n in TREES.__slots__}, "leaf_value": leaf})

    first, second = (export_graph(spec, 0.0, PLATT, 1, 1) for spec in (TREES, other))

    assert core_sha256(first) != core_sha256(second)
    assert calibrator_sha256(first) == calibrator_sha256(second)


@pytest.mark.parametrize(("name", "spec"), [("trees", TREES), ("linear", LINEAR)])
def test_core_hashes_are_golden(name: str, spec: TreeEnsembleSpec | LinearSpec) -> None:
    """The same model must keep its hash over releases, or every deployed table is rebuilt for nothing."""
    graph = export_graph(spec, 0.0, PLATT, n_features=1, n_ids=1)

    assert core_sha256(graph) == json.loads(GOLDEN.read_text())[name]


def test_the_graph_is_one_that_onnx_runtime_131_loads() -> None:
    """onnx writes a newer IR by default, which that runtime refuses."""
    model = onnx.ModelProto.FromString(export_graph(TREES, 0.0, PLATT, 1, 1))

    assert model.ir_version == 10
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": 21, "ai.onnx.ml": 3}


def test_a_model_without_columns_has_no_graph() -> None:
    """It would have no input to take the number of rows from."""
    with pytest.raises(ExportError, match="without columns"):
        export_graph(LINEAR, 0.0, PLATT, n_features=0, n_ids=0)


def test_hashes_alone_make_a_graph_without_features() -> None:
    """And numbers alone one without ids."""
    empty, hashes = np.empty((3, 0), np.float32), np.array([[5], [9], [1]])
    only_ids = TreeEnsembleSpec(
        0, TREES.code_maps, np.zeros(3, int), np.array([0, -1, -1]), np.zeros(3), np.array([1, 0, 0]),
        np.array([2, 0, 0]), np.zeros(3, bool), np.array([0.0, 1.0, 2.0]),
    )  # fmt: skip

    scores = GenericPlan(export_graph(only_ids, 0.0, PLATT, 0, 1)).score(*Encoded(empty, hashes))

    assert scores.raw_logit.tolist() == [1.0, 2.0, 2.0]
