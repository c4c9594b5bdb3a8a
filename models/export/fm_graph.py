"""A factorisation machine as ONNX: the linear model's nodes, and one vector a column.

All pairs at once, by the identity of Rendle 2010: with s the sum of a row's vectors, the products of every two of them
add up to (|s|^2 - the sum of their squared lengths) / 2. Double throughout; see `FactorisationMachineSpec`.
"""

from __future__ import annotations

import numpy as np

from models.export.fragment import Fragment
from models.export.linear_graph import LinearNodes
from models.specs import FactorisationMachineSpec


def factorisation_machine_core(spec: FactorisationMachineSpec) -> Fragment:
    """Nodes from `features` (n, d) and `ids` (n, k) to `raw_logit` (n,) double."""
    core = Fragment("core")
    linear = LinearNodes(core, spec.linear)
    sums, squares = [], []  # (n, r) each
    if linear.z is not None:
        vectors = core.constant("number_vectors", spec.number_vectors)  # (d, r)
        squared = core.constant("number_vectors_squared", spec.number_vectors**2)
        sums.append(core.node("MatMul", [linear.z, vectors], "number_sum"))
        squares.append(core.node("MatMul", [core.node("Mul", [linear.z] * 2, "z_squared"), squared], "number_squares"))
    if linear.id_place is not None:
        vectors = core.constant("id_vectors", spec.id_vectors)
        found = core.node("Gather", [vectors, linear.id_place], "id_vectors_found", axis=0)  # (n, k, r)
        sums.append(core.node("ReduceSum", [found, linear.columns_axis], "id_sum", keepdims=0))
        found_squared = core.node("Mul", [found, found], "id_vectors_squared")
        squares.append(core.node("ReduceSum", [found_squared, linear.columns_axis], "id_squares", keepdims=0))
    total, own = (_sum(core, parts, name) for parts, name in ((sums, "vector_sum"), (squares, "vector_squares")))
    pairs = core.node("Sub", [core.node("Mul", [total, total], "vector_sum_squared"), own], "twice_the_pairs")
    both = core.node("ReduceSum", [pairs, linear.columns_axis], "twice_the_margin_of_pairs", keepdims=0)
    margin = core.node("Mul", [both, core.constant("half", np.array(0.5))], "margin_of_pairs")
    core.rename_output(core.node("Add", [linear.total, margin], "margin"), "raw_logit")
    return core


def _sum(core: Fragment, parts: list[str], name: str) -> str:
    return parts[0] if len(parts) == 1 else core.node("Add", parts, name)
