"""Tree operators as other libraries write them: built by hand, run in ONNX Runtime, read as a plan reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

from models.calibrator import CalibratorMap
from models.encoder import Columns, Encoded, Layout
from models.plans.factorised import factorised_plan
from models.plans.jumps import jump_rows
from models.plans.kernel import KernelName
from models.plans.onnx_graph import Node, read_graph
from models.plans.source import PlanSource
from models.plans.tree_source import TREE_OPERATORS, tree_spec
from models.specs import TreeEnsembleSpec

Floats = npt.NDArray[np.float32]

STUMP: dict[str, Any] = {
    "nodes_treeids": [0, 0, 0],
    "nodes_nodeids": [0, 1, 2],
    "nodes_featureids": [0, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_values": [0.5, 0.0, 0.0],
    "nodes_truenodeids": [1, 0, 0],
    "nodes_falsenodeids": [2, 0, 0],
}
"""One test with leaves 1 (true) and 2 (false)."""
TARGETS: dict[str, Any] = {
    "target_treeids": [0, 0],
    "target_nodeids": [1, 2],
    "target_ids": [0, 0],
    "target_weights": [0.25, 0.75],
    "n_targets": 1,
}
CLASSES: dict[str, Any] = {
    "class_treeids": [0, 0],
    "class_nodeids": [1, 2],
    "class_ids": [0, 0],
    "class_weights": [-0.25, 0.75],
    "classlabels_int64s": [0, 1],
}


def regressor(n_features: int = 1, **attributes: Any) -> onnx.ModelProto:
    """A graph of one TreeEnsembleRegressor: the stump, with some attributes changed; None takes one away."""
    return _graph("TreeEnsembleRegressor", ["scores"], n_features, STUMP | TARGETS | attributes)


def classifier(**attributes: Any) -> onnx.ModelProto:
    """The same of a TreeEnsembleClassifier."""
    return _graph("TreeEnsembleClassifier", ["label", "scores"], 1, STUMP | CLASSES | attributes)


def operator(model: onnx.ModelProto) -> Node:
    """The tree operator of a graph, as a plan reads it."""
    (found,) = (node for node in read_graph(model.SerializeToString()).nodes if node.op in TREE_OPERATORS)
    return found


def spec_of(model: onnx.ModelProto, n_features: int = 1) -> TreeEnsembleSpec:
    """The ensemble of a graph."""
    return tree_spec(operator(model), n_features, ())


def rows_at_jumps(spec: TreeEnsembleSpec, examples: Floats, seed: int = 0) -> Floats:
    """The examples, the same with holes, and rows at every threshold and beside it."""
    random = np.random.default_rng(seed)
    no_ids = np.empty((len(examples), 0), dtype=np.int64)
    jumps = jump_rows(Encoded(examples, no_ids), spec, random).features
    holes = np.where(random.random(examples.shape) < 0.3, np.float32(np.nan), examples)
    return np.concatenate([examples, holes, jumps]).astype(np.float32)


def answers(model: onnx.ModelProto, features: Floats, output: str = "scores") -> npt.NDArray[np.float64]:
    """What ONNX Runtime answers, (n, k) or (n,)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], {session.get_inputs()[0].name: features})[0], dtype=np.float64)


def margins(spec: TreeEnsembleSpec, features: Floats, kernel: KernelName = "numpy") -> npt.NDArray[np.float64]:
    """(n,) what a plan over the ensemble answers."""
    nothing = Columns(0, 0, 0, 0)
    layout = Layout((Columns(0, spec.n_features, 0, 0), nothing, nothing, nothing))
    plan = factorised_plan(PlanSource(spec, 0.0, CalibratorMap.identity()), layout, kernel)
    return plan.score(features, np.empty((len(features), 0), dtype=np.int64)).raw_logit


def _graph(op: str, outputs: list[str], n_features: int, attributes: dict[str, Any]) -> onnx.ModelProto:
    given = {name: value for name, value in attributes.items() if value is not None}
    node = helper.make_node(op, ["features"], outputs, domain="ai.onnx.ml", **given)
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", n_features])
    answered = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    graph = helper.make_graph([node], "trees", [features], answered)
    return helper.make_model(graph, ir_version=10, opset_imports=opsets)


def alone(model: onnx.ModelProto, n_features: int) -> onnx.ModelProto:
    """Only the tree operator of an exported graph, answering `scores` before its `post_transform`."""
    (found,) = (node for node in model.graph.node if node.op_type in TREE_OPERATORS)
    attributes = {a.name: helper.get_attribute_value(a) for a in found.attribute if a.name != "post_transform"}
    outputs = ["label", "scores"] if found.op_type == "TreeEnsembleClassifier" else ["scores"]
    return _graph(found.op_type, outputs, n_features, attributes)
