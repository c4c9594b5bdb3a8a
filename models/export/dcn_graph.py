"""A deep cross net as ONNX: the linear model's nodes, cross layers and hidden layers; see `DeepCrossSpec`."""

from __future__ import annotations

from models.export.fragment import Fragment
from models.export.net_graph import NetNodes
from models.specs import DeepCrossSpec


def deep_cross_core(spec: DeepCrossSpec) -> Fragment:
    """Nodes from `features` (n, d) and `ids` (n, k) to `raw_logit` (n,) double."""
    core = Fragment("core")
    nodes = NetNodes(core, spec.linear, spec.id_vectors)
    first = crossed = hidden = nodes.input(spec.inputs, "net")  # (n, width)
    for i, cross in enumerate(spec.crosses):
        narrow, wide, bias = (
            nodes.doubles(getattr(cross, part), f"cross_{i}_{part}") for part in ("narrow", "wide", "bias")
        )
        middle = core.node("MatMul", [crossed, narrow], f"cross_{i}_middle")  # (n, rank)
        product = core.node("MatMul", [middle, wide], f"cross_{i}_product")  # (n, width)
        factor = core.node("Add", [product, bias], f"cross_{i}_factor")
        crossed = core.node("Add", [core.node("Mul", [first, factor], f"cross_{i}_gain"), crossed], f"cross_{i}")
    for i, layer in enumerate(spec.hidden):
        hidden = nodes.rectified(hidden, layer, f"hidden_{i}")
    both = core.node("Concat", [crossed, hidden], "net_output", axis=1)
    nodes.finish(core.node("MatMul", [both, nodes.doubles(spec.out, "out")], "margin_of_net"))
    return core
