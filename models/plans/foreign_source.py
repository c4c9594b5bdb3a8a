"""What somebody else's graph computes, where it ends in a sigmoid that can be seen: as a specification of ours.

Read backwards from the probability: past operators that only change the dress of numbers, to a sigmoid, and behind it
to trees or a linear classifier over the inputs. Their margin is then the true `raw_logit`, no digits of which were lost
in a float32 probability, and the model can be served by a score plan. What is read is not trusted: the importer holds
it against the original in ONNX Runtime, and keeps the original's own operators where the two differ.

Understood are the operators that skl2onnx, onnxmltools and CatBoost write: TreeEnsembleClassifier and LinearClassifier
with a LOGISTIC transform, TreeEnsembleRegressor before a Sigmoid, Scaler, and inputs laid side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from models.errors import PlanError
from models.plans.onnx_graph import Array, Graph, Node, read_graph
from models.plans.tree_source import tree_spec
from models.specs import Float64s, Int64s, LinearSpec, TreeEnsembleSpec

_CARRIERS = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Flatten", "Normalizer", "ZipMap"})
"""A normaliser of two probabilities that add up to 1 changes nothing."""
_SIDE_BY_SIDE = frozenset({"Concat", "FeatureVectorizer"})
_UNLIMITED = 1e300


@dataclass(frozen=True, slots=True)
class ForeignColumns:
    """Where a graph's inputs come from.

    positions: by input, the places of its columns among our d float columns.
    fills: (d,) what stands for a missing number; NaN where the graph can do with missing ones.
    n_ids: k, our id columns, none of which the graph reads.
    """

    positions: Mapping[str, Int64s]
    fills: Float64s
    n_ids: int


def foreign_spec(content: bytes, output: str, column: int, columns: ForeignColumns) -> TreeEnsembleSpec | LinearSpec:
    """The margin behind one column of an output.

    Raises:
        PlanError: the graph is of another shape; the message says what stands in the way.
    """
    graph = read_graph(content)
    node, at = _sigmoid(graph, output, column)
    if node.op == "LinearClassifier":
        return _linear(graph, node, at, columns)
    names = _matrix(graph, node.input(0), columns)
    spec = tree_spec(_one_class(node, at), len(names), ())
    return _placed(spec, names, columns.fills)


def cut_points(content: bytes, columns: ForeignColumns) -> dict[int, Float64s]:
    """Thresholds of every tree operator that reads the inputs as they are, by our float column; none if unreadable."""
    found: dict[int, list[Array]] = {}
    try:
        graph = read_graph(content)
    except PlanError:
        return {}
    for node in graph.nodes:
        if not node.op.startswith("TreeEnsemble"):
            continue
        try:
            names = _matrix(graph, node.input(0), columns)
            values = node.attributes.get("nodes_values_as_tensor", node.attributes.get("nodes_values"))
            split = np.array(node.texts("nodes_modes")) != "LEAF"
            read = names[node.array("nodes_featureids", "i")[split]]
        except (PlanError, IndexError):
            continue
        cuts = np.asarray(values, dtype=np.float64)[split]
        for place in np.unique(read):
            found.setdefault(int(place), []).append(cuts[read == place])
    return {place: np.unique(np.concatenate(parts)) for place, parts in found.items()}


def _sigmoid(graph: Graph, value: str, column: int) -> tuple[Node, int]:
    """The operator whose margin becomes the probability, and which of its columns."""
    while True:
        node = graph.maker_of(value)
        if node.op in _SIDE_BY_SIDE and len(node.inputs) > 1:
            value, column = node.input(min(column, len(node.inputs) - 1)), 0
        elif node.op in _CARRIERS or _times_one(graph, node):
            value = node.input(0)
        elif node.op in ("TreeEnsembleClassifier", "LinearClassifier"):
            transform = node.text("post_transform", "NONE")
            if transform != "LOGISTIC":
                raise PlanError(
                    f"its probabilities are answered by {node.op} without a sigmoid (a forest averages probabilities)"
                    if transform == "NONE"
                    else f"its probabilities are answered by {node.op} after {transform}"
                )
            return node, column
        elif node.op == "Sigmoid":
            margin = graph.maker_of(node.input(0))
            while margin.op in _CARRIERS:
                margin = graph.maker_of(margin.input(0))
            if margin.op != "TreeEnsembleRegressor" or margin.text("post_transform", "NONE") != "NONE":
                raise PlanError(f"the margin before its sigmoid is made by {margin.op}")
            return margin, 0
        else:
            raise PlanError(f"its probability is made by {node.op}, behind which no sigmoid can be seen")


def _times_one(graph: Graph, node: Node) -> bool:
    """How onnxmltools leaves out the ZipMap of LightGBM."""
    return node.op == "Mul" and node.input(1) in graph.constants and bool(np.all(graph.constant(node.input(1)) == 1))


def _matrix(graph: Graph, value: str, columns: ForeignColumns) -> Int64s:
    """(w,) the places of a matrix' columns among ours."""
    if value in columns.positions:
        return columns.positions[value]
    node = graph.maker_of(value)
    if node.op in ("Cast", "Identity"):
        return _matrix(graph, node.input(0), columns)
    if node.op in _SIDE_BY_SIDE:
        return np.concatenate([_matrix(graph, part, columns) for part in node.inputs])
    raise PlanError(f"{node.op} works on the features before they are scored")


def _one_class(node: Node, column: int) -> Node:
    """A tree operator that answers the margin of one column: as it is, or of a classifier that lists both classes.

    Each class of a classifier with two lists has a margin of its own, and LOGISTIC turns each into its probability.
    """
    if node.op == "TreeEnsembleRegressor":
        return node
    classes = node.array("class_ids", "i")
    if set(classes.tolist()) != {0, 1}:
        if column != 1:
            raise PlanError("its first column is the probability of no click")
        return node
    kept = classes == column
    weights = "class_weights_as_tensor" if "class_weights_as_tensor" in node.attributes else "class_weights"
    attributes = {name: value for name, value in node.attributes.items() if not name.startswith(("class", "base"))}
    attributes |= {
        "target_ids": np.zeros(np.count_nonzero(kept), dtype=np.int64),
        "target_treeids": node.array("class_treeids", "i")[kept],
        "target_nodeids": node.array("class_nodeids", "i")[kept],
        weights.replace("class", "target"): node.array(weights, "f")[kept],
    }
    base = node.attributes.get("base_values", ())
    if np.size(base):
        if np.size(base) != 2:
            raise PlanError("its trees have one base value for two classes")
        attributes["base_values"] = np.asarray(base)[[column]]
    return Node("TreeEnsembleRegressor", node.name, node.inputs, node.outputs, attributes)


def _placed(spec: TreeEnsembleSpec, names: Int64s, fills: Float64s) -> TreeEnsembleSpec:
    """The same trees over our columns; a number that must not be missing goes where its default goes."""
    is_split = spec.column >= 0
    column = np.where(is_split, names[spec.column.clip(min=0)], -1)
    fill = fills[column.clip(min=0)]
    missing_left = np.where(np.isnan(fill), spec.missing_left, fill <= spec.threshold) & is_split
    return replace(spec, n_features=len(fills), column=column, missing_left=missing_left)


def _linear(graph: Graph, node: Node, column: int, columns: ForeignColumns) -> LinearSpec:
    names, offset, scale = _scaled(graph, node.input(0), columns)
    weights = node.array("coefficients", "f").astype(np.float64).reshape(-1, len(names))
    intercepts = np.asarray(node.attributes.get("intercepts", np.zeros(len(weights))), dtype=np.float64)
    if len(weights) != 2 or len(intercepts) != 2 or column not in (0, 1):
        raise PlanError(f"a linear classifier with {len(weights)} rows of weights")
    d = len(columns.fills)
    weight, mean, spread = np.zeros(d), np.zeros(d), np.ones(d)
    # A column of the graph that appears twice adds up only where both are scaled alike.
    if len(np.unique(names)) != len(names):
        raise PlanError("two of its columns are the same feature")
    weight[names], mean[names] = weights[column] * np.sign(scale), offset
    known = scale != 0
    spread[names[known]] = 1.0 / np.abs(scale[known])
    constant = LinearSpec.constant(float(intercepts[column]), d, columns.n_ids)
    bins = constant.bin_weights.copy()
    bins[:, 0] = weight * (np.where(np.isnan(columns.fills), mean, columns.fills) - mean) / spread
    return replace(
        constant, mean=mean, spread=spread, slope=weight, limit=_UNLIMITED, bin_weights=bins, signed_log=False
    )


def _scaled(graph: Graph, value: str, columns: ForeignColumns) -> tuple[Int64s, Float64s, Float64s]:
    """(w,) columns of a matrix, what is subtracted from each, and what each is then multiplied by."""
    if value not in columns.positions:
        node = graph.maker_of(value)
        if node.op in ("Cast", "Identity"):
            return _scaled(graph, node.input(0), columns)
        if node.op == "Scaler":
            names = _matrix(graph, node.input(0), columns)
            offset, scale = (node.array(name, "f").astype(np.float64) for name in ("offset", "scale"))
            return names, np.broadcast_to(offset, names.shape), np.broadcast_to(scale, names.shape)
    names = _matrix(graph, value, columns)
    return names, np.zeros(len(names)), np.ones(len(names))
