"""What a graph computes, read back from it: the exporter's specification, its correction and its calibrator.

A score plan must answer as the graph does, so it is derived from the graph and from nothing beside it. The shapes that
are understood are those of `models/export` (trees, linear, factorisation machine, two towers, calibrator) and the tree
operators that LightGBM, XGBoost and scikit-learn are converted to. A graph of any other shape raises `PlanError` with
the reason, and ONNX Runtime serves it; so it does a deep cross net, which has no parts to split into. What was read is
not trusted yet: `derivation.py` holds the plan against ONNX Runtime before it may answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from models.calibrator import CalibratorMap
from models.errors import NoFactorisedForm, PlanError, TrainingError
from models.plans.onnx_graph import Array, Graph, Node, read_graph
from models.plans.tower_source import two_tower_spec
from models.plans.tree_source import TREE_OPERATORS, tree_spec
from models.segments import SegmentLines
from models.specs import CodeMap, FactorisationMachineSpec, LinearSpec, ModelSpec, TwoTowerSpec

_CARRIERS = frozenset({"Cast", "Reshape", "Identity", "Squeeze", "Flatten"})
"""Operators that change the dress of numbers, not their values (a cast to float32 is within the bounds of a proof)."""

_LINEAR_LINES = ("Cast", "IsNaN", "Abs", "Add", "Log", "Sign", "Mul", "Sub", "Div", "Clip", "Where", "Mul")
_PLAIN_LINES = ("Cast", "IsNaN", "Sub", "Div", "Clip", "Where", "Mul")
_LINEAR_BINS = ("Unsqueeze", "Greater", "Cast", "ReduceSum", "Add", "Where", "Gather")
_LINEAR_TABLES = ("Mod", "Add", "Gather")
_VECTORS_OF_NUMBERS = ("MatMul", "Mul", "MatMul")
_VECTORS_OF_HASHES = ("Gather", "ReduceSum", "Mul", "ReduceSum")
_PAIRS_OF_VECTORS = ("Mul", "Sub", "ReduceSum", "Mul", "Add")
_SEGMENTS = ("Gather", "Squeeze", "Floor", "Equal", "Less", "GreaterOrEqual", "And", "And", "Where", "Cast")
_SEGMENT_LINES = ("Gather", "Gather", "Mul", "Add")


@dataclass(frozen=True, slots=True)
class PlanSource:
    """A graph as arithmetic: p_click = sigmoid(calibrator(spec(row) + correction))."""

    spec: ModelSpec
    correction: float
    calibrator: CalibratorMap


def plan_source(content: bytes) -> PlanSource:
    """Reads a serialised graph.

    Raises:
        NoFactorisedForm: it is a net that mixes all columns, and as fast as it gets in ONNX Runtime.
        PlanError: it is of no shape that a plan understands; the message says which part is not.
    """
    graph = read_graph(content)
    correction, calibrator = _calibrator(graph)
    return PlanSource(_core(graph), correction, calibrator)


def calibrator_of(content: bytes) -> tuple[float, CalibratorMap]:
    """What a serialised graph does after `raw_logit`: the correction, then the calibrator. Raises as `plan_source`."""
    return _calibrator(read_graph(content))


def _calibrator(graph: Graph) -> tuple[float, CalibratorMap]:
    """Reads `calibrator_graph` backwards, from `p_click` to `raw_logit`."""
    sigmoid = _maker(graph, "p_click", "Sigmoid")
    segments, log_odds = _segments(graph, sigmoid.input(0))
    line = _maker(graph, log_odds, "Add")
    knots, changes = np.empty(0), np.empty(0)
    if line.input(1) not in graph.constants:
        bent = _maker(graph, line.input(1), "MatMul")
        hinges = _maker(graph, bent.input(0), "Relu")
        knots = graph.constant(_maker(graph, hinges.input(0), "Sub").input(1))
        changes = graph.constant(bent.input(1))
        line = _maker(graph, line.input(0), "Add")
    sloped = _maker(graph, line.input(0), "Mul")
    corrected = _maker(graph, sloped.input(0), "Add")
    if corrected.input(0) != "raw_logit":
        raise PlanError(f"the calibrator begins at {corrected.input(0)!r}, expected `raw_logit`")
    if knots.ndim != 1 or changes.shape != knots.shape:
        raise PlanError(f"a calibrator of {knots.shape} knots and {changes.shape} changes of slope")
    slope = graph.number(sloped.input(1))
    try:
        calibrator = CalibratorMap(
            kind="piecewise" if len(knots) else "platt",
            offset=graph.number(line.input(1)),
            knots=knots,
            slopes=np.concatenate([[slope], slope + np.cumsum(changes)]),
            segments=segments,
        )
    except TrainingError as error:
        raise PlanError(f"the calibrator is no strictly increasing map: {error}") from error
    return graph.number(corrected.input(1)), calibrator


def _segments(graph: Graph, log_odds: str) -> tuple[SegmentLines | None, str]:
    """The lines of segments where there are any, and the log-odds that they are applied to."""
    steps = [node for node in graph.nodes if node.name.startswith("calibrator/segment_")]
    if not steps:
        return None, log_odds
    if tuple(node.op for node in steps) != (*_SEGMENTS, *_SEGMENT_LINES) or log_odds not in steps[-1].outputs:
        raise PlanError("the calibrator finds the segment of a row in a way that no plan knows")
    column, scales, shifts = (graph.constant(f"calibrator/segment_{name}") for name in ("column", "scales", "shifts"))
    if column.shape != (1,) or column.dtype != np.int64 or not 0 <= column[0] < _width(graph, "features"):
        raise PlanError(f"segments are named by column {column}, the model reads {_width(graph, 'features')}")
    if scales.dtype != np.float64 or shifts.dtype != np.float64:
        raise PlanError(f"lines of segments in {scales.dtype} and {shifts.dtype}, a plan expects doubles")
    try:
        return SegmentLines(int(column[0]), scales, shifts), steps[-2].input(0)
    except TrainingError as error:
        raise PlanError(f"the lines of segments cannot be used: {error}") from error


def _core(graph: Graph) -> ModelSpec:
    """Everything up to `raw_logit`."""
    last = graph.maker_of("raw_logit")
    while last.op in _CARRIERS:
        last = graph.maker_of(last.input(0))
    if last.op in TREE_OPERATORS:
        # `raw_logit` is the margin: what comes after the sum would be lost on a plan.
        transform = last.text("post_transform", "NONE")
        if transform != "NONE":
            raise PlanError(f"the trees answer after {transform}, a plan expects the margin")
        return tree_spec(last, *_tree_columns(graph, last.input(0)))
    return _sums(graph, [node for node in graph.nodes if node.name.startswith("core/")])


def _tree_columns(graph: Graph, matrix: str) -> tuple[int, tuple[CodeMap, ...]]:
    """How the trees' matrix is made: the number of float columns, and the code maps behind them."""
    while matrix != "features" and graph.maker_of(matrix).op in _CARRIERS:
        matrix = graph.maker_of(matrix).input(0)
    if matrix == "features":
        return _width(graph, "features"), ()
    made = graph.maker_of(matrix)
    columns = made.inputs if made.op == "Concat" else (matrix,)
    has_features = columns[:1] == ("features",)
    maps = tuple(_code_map(graph, name) for name in columns[has_features:])
    return (_width(graph, "features") if has_features else 0), maps


def _code_map(graph: Graph, column: str) -> CodeMap:
    encoder = _maker(graph, column, "LabelEncoder")
    gather = _maker(graph, encoder.input(0), "Gather")
    at = graph.constant(gather.input(1))
    if gather.input(0) != "ids" or gather.whole("axis", 0) != 1 or at.shape != (1,):
        raise PlanError(f"code map {encoder.name!r} does not read one column of `ids`")
    if not 0 <= at[0] < _width(graph, "ids"):
        raise PlanError(f"code map {encoder.name!r} reads column {at[0]} of {_width(graph, 'ids')} hashes")
    keys, codes = encoder.array("keys_int64s", "i"), encoder.array("values_floats", "f")
    if len(keys) != len(codes) or len(np.unique(keys)) != len(keys):
        raise PlanError(f"code map {encoder.name!r} does not give each of its {len(keys)} hashes one code")
    default = encoder.attributes.get("default_float", -0.0)
    if not isinstance(default, float) or not math.isnan(default):
        raise PlanError(f"code map {encoder.name!r} gives unseen hashes {default}; only NaN is understood")
    order = np.argsort(keys, kind="stable")
    return CodeMap(int(at[0]), keys[order], codes[order])


def _width(graph: Graph, name: str) -> int:
    if name not in graph.widths:
        raise PlanError(f"the graph has no matrix {name!r} of a known width")
    return graph.widths[name]


def _sums(graph: Graph, core: list[Node]) -> LinearSpec | FactorisationMachineSpec | TwoTowerSpec:
    """Reads `linear_core` and what may stand beside it, whose operators always come in the same order."""
    if "core/cross_0_narrow" in graph.constants:
        raise NoFactorisedForm(
            "a deep cross net multiplies all columns with each other, so no part of it is an ad's own"
        )
    ops = tuple(node.op for node in core)
    lines = next((known for known in (_LINEAR_LINES, _PLAIN_LINES) if ops[: len(known)] == known), ())
    has_numbers, has_hashes = bool(lines), "Mod" in ops
    parts = ((*lines, *_LINEAR_BINS) if has_numbers else ()) + (_LINEAR_TABLES if has_hashes else ())
    n_sums = 2 * has_numbers + has_hashes
    linear = (*parts, *["ReduceSum"] * n_sums, *["Add"] * n_sums)
    vectors = (_VECTORS_OF_NUMBERS if has_numbers else ()) + (_VECTORS_OF_HASHES if has_hashes else ())
    pairs = (*vectors, *["Add"] * (2 * (has_numbers and has_hashes)), *_PAIRS_OF_VECTORS)
    unknown = f"operators {', '.join(dict.fromkeys(ops)) or 'outside a core'} are no model that plans know"
    if not n_sums or ops[: len(linear)] != linear:
        raise PlanError(unknown)
    spec = _linear(graph, has_numbers=has_numbers, has_hashes=has_hashes)
    beside = ops[len(linear) :]
    if lines == _PLAIN_LINES:
        if beside:
            raise PlanError(unknown)
        return replace(spec, signed_log=False)
    if not beside:
        return spec
    return _with_vectors(graph, spec) if beside == pairs else two_tower_spec(graph, spec, beside)


def _with_vectors(graph: Graph, spec: LinearSpec) -> FactorisationMachineSpec:
    """The linear part with the vectors beside it."""
    n_columns = {"number": len(spec.slope), "id": len(spec.id_weights)}
    found = {name: graph.constant(f"core/{name}_vectors") for name, n in n_columns.items() if n}
    rank = (0, *next(iter(found.values())).shape)[-1]
    for name, array in found.items():
        if array.shape != (n_columns[name], rank) or array.dtype != np.float64 or not rank:
            raise PlanError(f"{n_columns[name]} {name} columns with vectors {array.dtype} {array.shape}")
    numbers, hashes = (found.get(name, np.empty((0, rank))) for name in n_columns)
    return FactorisationMachineSpec(spec, numbers, hashes)


def _linear(graph: Graph, *, has_numbers: bool, has_hashes: bool) -> LinearSpec:
    def numbers(name: str, shape: tuple[int, ...]) -> Array:
        return graph.constant(f"core/{name}") if has_numbers else np.empty(shape)

    def hashes(name: str, dtype: type) -> Array:
        return graph.constant(f"core/{name}") if has_hashes else np.empty(0, dtype)

    spec = LinearSpec(
        intercept=graph.number("core/intercept"),
        mean=numbers("mean", (0,)),
        spread=numbers("spread", (0,)),
        slope=numbers("slope", (0,)),
        limit=graph.number("core/limit_high") if has_numbers else 0.0,
        edges=numbers("edges", (0, 0)),
        bin_weights=numbers("bin_weights", (0,)),
        id_sizes=hashes("id_sizes", np.int64),
        id_offsets=hashes("id_offsets", np.int64),
        id_weights=hashes("id_weights", np.float64),
    )
    return _checked(spec, _width(graph, "features") if has_numbers else 0, _width(graph, "ids") if has_hashes else 0)


def _checked(spec: LinearSpec, n_features: int, n_ids: int) -> LinearSpec:
    """The specification with its bins as a table; raises PlanError where its arrays do not fit each other."""
    d, n_bins = n_features, spec.edges.shape[-1] + 2 if spec.edges.ndim == 2 else 2
    wanted = {
        "mean": (d,), "spread": (d,), "slope": (d,), "edges": (d, n_bins - 2), "bin_weights": (d * n_bins,),
        "id_sizes": (n_ids,), "id_offsets": (n_ids,), "id_weights": (spec.id_weights.size,),
    }  # fmt: skip
    kinds = {name: np.int64 if name in ("id_sizes", "id_offsets") else np.float64 for name in wanted}
    wrong = [
        f"{name} {array.dtype} {array.shape}"
        for name, shape in wanted.items()
        if (array := getattr(spec, name)).shape != shape or array.dtype != kinds[name]
    ]
    if wrong:
        raise PlanError(f"a linear model of {d} numbers and {n_ids} hashes with {', '.join(wrong)}")
    if np.any(spec.id_sizes < 1) or np.any(spec.id_offsets < 0):
        raise PlanError("a linear model with a table of no rows, or one that begins before the first")
    if np.any(spec.id_offsets > len(spec.id_weights) - spec.id_sizes):
        raise PlanError("a linear model with a table that ends after the last weight")
    return replace(spec, bin_weights=spec.bin_weights.reshape(d, n_bins))


def _maker(graph: Graph, value: str, op: str) -> Node:
    node = graph.maker_of(value)
    if node.op != op:
        raise PlanError(f"{value!r} is made by {node.op}, a plan expects {op}")
    return node
