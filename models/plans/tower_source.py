"""Reads `two_tower_core` backwards: the towers beside a linear model that was read before.

As in `source.py`, operators must come in the order of our exporter and constants must fit each other; what was read is
then held against ONNX Runtime.
"""

from __future__ import annotations

import numpy as np

from models.errors import PlanError
from models.plans.onnx_graph import Array, Graph
from models.specs import DenseLayer, LinearSpec, NetInputs, Tower, TwoTowerSpec

_NUMBERS, _MISSING, _IDS = ("Gather",), ("Gather", "Cast"), ("Gather", "Gather", "Cast", "Reshape")
_DENSE = ("Cast", "MatMul", "Cast", "Add")
_PRODUCT = ("Mul", "ReduceSum", "Add")
_NONE = np.empty(0, dtype=np.int64)


def two_tower_spec(graph: Graph, linear: LinearSpec, ops: tuple[str, ...]) -> TwoTowerSpec:
    """The towers behind a linear model's operators.

    Args:
        ops: the operators that follow, in order.
    Raises:
        PlanError: these are not two towers, or their constants do not fit each other.
    """
    names = ("query", "ad")
    wanted = tuple(op for name in names for op in _tower_ops(graph, name))
    if ops != wanted + _PRODUCT:
        raise PlanError(f"operators {', '.join(dict.fromkeys(ops))} beside a linear model are no net that plans know")
    vectors = graph.constants.get("core/id_vectors", np.empty((0, 1), np.float32))
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        raise PlanError(f"vectors of hashes in {vectors.dtype} {vectors.shape}, a plan expects a table of float32")
    query, ad = (_tower(graph, name, linear, vectors) for name in names)
    if len(query.out.bias) != len(ad.out.bias):
        raise PlanError(f"towers that end in {len(query.out.bias)} and {len(ad.out.bias)} numbers")
    return TwoTowerSpec(linear, vectors, query, ad)


def _tower_ops(graph: Graph, name: str) -> tuple[str, ...]:
    if f"core/{name}_same" in graph.constants:
        return ("Cast",)
    read = {"numbers": _NUMBERS, "missing": _MISSING, "ids": _IDS}
    inputs = tuple(op for part, ops in read.items() if f"core/{name}_{part}_at" in graph.constants for op in ops)
    return (*inputs, "Concat", *_DENSE, "Relu", *_DENSE)


def _tower(graph: Graph, name: str, linear: LinearSpec, vectors: Array) -> Tower:
    rank = vectors.shape[1]
    if f"core/{name}_same" in graph.constants:
        return Tower.same(_floats(graph, f"{name}_same", 1), rank)
    numbers, missing, ids = (_columns(graph, f"{name}_{part}_at") for part in ("numbers", "missing", "ids"))
    inputs = NetInputs(numbers, missing, ids, rank)
    for columns, n in ((inputs.numbers, len(linear.mean)), (inputs.missing, len(linear.mean))):
        _check_columns(name, columns, n)
    _check_columns(name, inputs.ids, len(linear.id_sizes))
    if np.any(linear.id_offsets[inputs.ids] > len(vectors) - linear.id_sizes[inputs.ids]):
        raise PlanError(f"the {name} tower reads a table that ends after the last of {len(vectors)} vectors")
    hidden, out = (
        DenseLayer(_floats(graph, f"{name}_{layer}_weights", 2), _floats(graph, f"{name}_{layer}_bias", 1))
        for layer in ("hidden", "vector")
    )
    sizes = [inputs.width, len(hidden.bias), len(out.bias)]
    if [hidden.weights.shape, out.weights.shape] != [(sizes[0], sizes[1]), (sizes[1], sizes[2])]:
        raise PlanError(f"layers {hidden.weights.shape} and {out.weights.shape} of the {name} tower, expected {sizes}")
    return Tower(inputs, hidden, out)


def _columns(graph: Graph, name: str) -> Array:
    return graph.constants.get(f"core/{name}", _NONE)


def _check_columns(tower: str, columns: Array, n: int) -> None:
    if columns.ndim != 1 or columns.dtype != np.int64 or np.any((columns < 0) | (columns >= n)):
        raise PlanError(f"the {tower} tower reads columns {columns.tolist()}, the model has {n}")


def _floats(graph: Graph, name: str, ndim: int) -> Array:
    values = graph.constant(f"core/{name}")
    if values.ndim != ndim or values.dtype != np.float32:
        raise PlanError(f"{name} in {values.dtype} {values.shape}, a plan expects float32 in {ndim} dimensions")
    return values
