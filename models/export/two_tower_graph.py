"""Two towers as ONNX: the linear model's nodes, a vector from each tower, and their product; see `TwoTowerSpec`."""

from __future__ import annotations

from models.export.fragment import Fragment
from models.export.net_graph import NetNodes
from models.specs import Tower, TwoTowerSpec


def two_tower_core(spec: TwoTowerSpec) -> Fragment:
    """Nodes from `features` (n, d) and `ids` (n, k) to `raw_logit` (n,) double."""
    core = Fragment("core")
    nodes = NetNodes(core, spec.linear, spec.id_vectors)
    ends = [_vector(nodes, tower, name) for name, tower in (("query", spec.query), ("ad", spec.ad))]
    products = core.node("Mul", ends, "products")  # (n, r)
    nodes.finish(core.node("ReduceSum", [products, nodes.linear.columns_axis], "margin_of_towers", keepdims=0))
    return core


def _vector(nodes: NetNodes, tower: Tower, name: str) -> str:
    """(n, r), or (r,) where all rows have the same."""
    if not tower.inputs.width:
        return nodes.doubles(tower.out.bias, f"{name}_same")
    hidden = nodes.rectified(nodes.input(tower.inputs, name), tower.hidden, f"{name}_hidden")
    return nodes.dense(hidden, tower.out, f"{name}_vector")
