"""What a graph computes, read back from it: the exporter's specification, its correction and its calibrator.

A score plan must answer as the graph does, so it is derived from the graph and from nothing beside it. The shapes that
are understood are those of `models/export` (trees, linear, calibrator) and the tree operators that LightGBM, XGBoost
and scikit-learn are converted to. A graph of any other shape raises `PlanError` with the reason, and ONNX Runtime
serves it. What was read is not trusted yet: `certificate.py` holds the plan against ONNX Runtime before it may answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.calibrator import CalibratorMap
from models.errors import PlanError, TrainingError
from models.plans.onnx_graph import Array, Graph, Node, read_graph
from models.plans.tree_source import TREE_OPERATORS, tree_spec
from models.specs import CodeMap, LinearSpec, ModelSpec

_CARRIERS = frozenset({"Cast", "Reshape", "Identity", "Squeeze", "Flatten"})
"""Operators that change the dress of numbers, not their values (a cast to float32 is within the bounds of a proof)."""

_LINEAR_LINES = ("Cast", "IsNaN", "Abs", "Add", "Log", "Sign", "Mul", "Sub", "Div", "Clip", "Where", "Mul")
_LINEAR_BINS = ("Unsqueeze", "Greater", "Cast", "ReduceSum", "Add", "Where", "Gather")
_LINEAR_TABLES = ("Mod", "Add", "Gather")


@dataclass(frozen=True, slots=True)
class PlanSource:
    """A graph as arithmetic: p_click = sigmoid(calibrator(spec(row) + correction))."""

    spec: ModelSpec
    correction: float
    calibrator: CalibratorMap


def plan_source(content: bytes) -> PlanSource:
    """Reads a serialised graph.

    Raises:
        PlanError: it is of no shape that a plan understands; the message says which part is not.
    """
    graph = read_graph(content)
    correction, calibrator = _calibrator(graph)
    return PlanSource(_core(graph), correction, calibrator)


def _calibrator(graph: Graph) -> tuple[float, CalibratorMap]:
    """Reads `calibrator_graph` backwards, from `p_click` to `raw_logit`."""
    sigmoid = _maker(graph, "p_click", "Sigmoid")
    line = _maker(graph, sigmoid.inputs[0], "Add")
    knots, changes = np.empty(0), np.empty(0)
    if line.inputs[1] not in graph.constants:
        bent = _maker(graph, line.inputs[1], "MatMul")
        hinges = _maker(graph, bent.inputs[0], "Relu")
        knots = graph.constant(_maker(graph, hinges.inputs[0], "Sub").inputs[1])
        changes = graph.constant(bent.inputs[1])
        line = _maker(graph, line.inputs[0], "Add")
    sloped = _maker(graph, line.inputs[0], "Mul")
    corrected = _maker(graph, sloped.inputs[0], "Add")
    if corrected.inputs[0] != "raw_logit":
        raise PlanError(f"the calibrator begins at {corrected.inputs[0]!r}, expected `raw_logit`")
    slope = graph.constant(sloped.inputs[1]).item()
    try:
        calibrator = CalibratorMap(
            kind="piecewise" if len(knots) else "platt",
            offset=graph.constant(line.inputs[1]).item(),
            knots=knots,
            slopes=np.concatenate([[slope], slope + np.cumsum(changes)]),
        )
    except TrainingError as error:
        raise PlanError(f"the calibrator is no strictly increasing map: {error}") from error
    return graph.constant(corrected.inputs[1]).item(), calibrator


def _core(graph: Graph) -> ModelSpec:
    """Everything up to `raw_logit`."""
    last = graph.maker_of("raw_logit")
    while last.op in _CARRIERS:
        last = graph.maker_of(last.inputs[0])
    if last.op in TREE_OPERATORS:
        return tree_spec(last, *_tree_columns(graph, last.inputs[0]))
    core = [node for node in graph.nodes if node.name.startswith("core/")]
    return _linear(graph, core)


def _tree_columns(graph: Graph, matrix: str) -> tuple[int, tuple[CodeMap, ...]]:
    """How the trees' matrix is made: the number of float columns, and the code maps behind them."""
    if matrix == "features":
        return graph.widths["features"], ()
    made = graph.maker_of(matrix)
    if made.op in _CARRIERS:
        return _tree_columns(graph, made.inputs[0])
    columns = made.inputs if made.op == "Concat" else (matrix,)
    has_features = columns[0] == "features"
    maps = tuple(_code_map(graph, name) for name in columns[has_features:])
    return (graph.widths["features"] if has_features else 0), maps


def _code_map(graph: Graph, column: str) -> CodeMap:
    encoder = _maker(graph, column, "LabelEncoder")
    gather = _maker(graph, encoder.inputs[0], "Gather")
    at = graph.constant(gather.inputs[1])
    if gather.inputs[0] != "ids" or gather.attributes.get("axis", 0) != 1 or at.shape != (1,):
        raise PlanError(f"code map {encoder.name!r} does not read one column of `ids`")
    try:
        keys, codes = encoder.attributes["keys_int64s"], encoder.attributes["values_floats"]
    except KeyError as error:
        raise PlanError(f"code map {encoder.name!r} has no {error}") from error
    if not np.isnan(encoder.attributes.get("default_float", -0.0)):
        raise PlanError(f"code map {encoder.name!r} gives unseen hashes a number; only NaN is understood")
    order = np.argsort(keys, kind="stable")
    return CodeMap(int(at[0]), keys[order], codes[order])


def _linear(graph: Graph, core: list[Node]) -> LinearSpec:
    """Reads `linear_core`, whose operators are always the same ones in the same order."""
    ops = tuple(node.op for node in core)
    has_numbers = ops[: len(_LINEAR_LINES)] == _LINEAR_LINES
    has_hashes = "Mod" in ops
    parts = ((*_LINEAR_LINES, *_LINEAR_BINS) if has_numbers else ()) + (_LINEAR_TABLES if has_hashes else ())
    n_sums = 2 * has_numbers + has_hashes
    if not n_sums or ops != (*parts, *["ReduceSum"] * n_sums, *["Add"] * n_sums):
        raise PlanError(f"operators {', '.join(dict.fromkeys(ops)) or 'outside a core'} are no model that plans know")

    def numbers(name: str, shape: tuple[int, ...]) -> Array:
        return graph.constant(f"core/{name}") if has_numbers else np.empty(shape)

    def hashes(name: str, dtype: type) -> Array:
        return graph.constant(f"core/{name}") if has_hashes else np.empty(0, dtype)

    slope = numbers("slope", (0,))
    return LinearSpec(
        intercept=graph.constant("core/intercept").item(),
        mean=numbers("mean", (0,)),
        spread=numbers("spread", (0,)),
        slope=slope,
        limit=graph.constant("core/limit_high").item() if has_numbers else 0.0,
        edges=numbers("edges", (0, 0)),
        bin_weights=numbers("bin_weights", (0,)).reshape(len(slope), -1) if has_numbers else np.empty((0, 0)),
        id_sizes=hashes("id_sizes", np.int64),
        id_offsets=hashes("id_offsets", np.int64),
        id_weights=hashes("id_weights", np.float64),
    )


def _maker(graph: Graph, value: str, op: str) -> Node:
    node = graph.maker_of(value)
    if node.op != op:
        raise PlanError(f"{value!r} is made by {node.op}, a plan expects {op}")
    return node
