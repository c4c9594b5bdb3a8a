"""A tree ensemble as ONNX: hashes -> codes -> one matrix -> TreeEnsembleRegressor -> margins.

Thresholds, leaf values and the sum are double, behind a cast of the matrix: the nearest float32 of a threshold can lie
on the other side of a feature value, and the value then takes another branch (measured: 185 of 5 400 rows at
thresholds, up to 0.37 in probability). The operator answers float32, so a margin is rounded once, at the end: up to
3e-8 of its size, which keeps the order of scores.

How many training rows came by each node is kept in the attribute that the operator has for it
(`nodes_hitrates_as_tensor`); no score depends on it, explanations do.

Operators: ai.onnx.ml 3 `TreeEnsembleRegressor` with double tensors, and `LabelEncoder` (one per id column), whose
default of NaN makes an unseen hash a missing value.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto

from models.export.fragment import Fragment
from models.specs import TreeEnsembleSpec

ML_DOMAIN = "ai.onnx.ml"


def tree_core(spec: TreeEnsembleSpec) -> Fragment:
    """Nodes from `features` (n, d) and `ids` (n, k) to `raw_logit` (n,) double."""
    core = Fragment("core")
    columns = ["features", *_code_columns(core, spec)] if spec.n_features else _code_columns(core, spec)
    matrix = core.node("Concat", columns, "columns", axis=1) if len(columns) > 1 else columns[0]
    wide = core.node("Cast", [matrix], "columns_f64", to=TensorProto.DOUBLE)
    summed = core.node(
        "TreeEnsembleRegressor",
        [wide],
        "trees",
        domain=ML_DOMAIN,
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        **_tree_attributes(spec),
    )
    rows = core.constant("rows", np.array([-1], dtype=np.int64))
    flat = core.node("Reshape", [summed, rows], "margins_f32")
    raw_logit = core.node("Cast", [flat], "margins", to=TensorProto.DOUBLE)
    core.rename_output(raw_logit, "raw_logit")
    return core


def _code_columns(core: Fragment, spec: TreeEnsembleSpec) -> list[str]:
    """One (n, 1) float32 column of codes per map."""
    columns = []
    for code_map in spec.code_maps:
        at = core.constant(f"id_{code_map.column}_at", np.array([code_map.column], dtype=np.int64))
        hashes = core.node("Gather", ["ids", at], f"id_{code_map.column}", axis=1)
        columns.append(
            core.node(
                "LabelEncoder",
                [hashes],
                f"code_{code_map.column}",
                domain=ML_DOMAIN,
                keys_int64s=code_map.keys.tolist(),
                values_floats=code_map.codes.tolist(),
                default_float=math.nan,
            )
        )
    return columns


def _tree_attributes(spec: TreeEnsembleSpec) -> dict[str, object]:
    """Flat node lists; a node is named by its tree and its place within the tree."""
    n_nodes = len(spec.tree)
    first = np.searchsorted(spec.tree, np.arange(spec.tree[-1] + 1))
    start = first[spec.tree]
    node = np.arange(n_nodes) - start
    leaf = spec.column < 0
    cover = {} if spec.cover is None else {"nodes_hitrates_as_tensor": _doubles("covers", spec.cover)}
    return {
        "nodes_treeids": spec.tree.tolist(),
        "nodes_nodeids": node.tolist(),
        "nodes_featureids": np.where(leaf, 0, spec.column).tolist(),
        "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        "nodes_values_as_tensor": _doubles("thresholds", spec.threshold),
        "nodes_truenodeids": np.where(leaf, 0, spec.left - start).tolist(),
        "nodes_falsenodeids": np.where(leaf, 0, spec.right - start).tolist(),
        "nodes_missing_value_tracks_true": spec.missing_left.astype(np.int64).tolist(),
        "target_treeids": spec.tree[leaf].tolist(),
        "target_nodeids": node[leaf].tolist(),
        "target_ids": np.zeros(np.count_nonzero(leaf), dtype=np.int64).tolist(),
        "target_weights_as_tensor": _doubles("leaf_values", spec.leaf_value[leaf]),
        **cover,
    }


def _doubles(name: str, values: np.ndarray) -> TensorProto:
    return onnx.numpy_helper.from_array(values.astype(np.float64), name)
