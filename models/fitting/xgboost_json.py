"""XGBoost's JSON model as flat arrays: thresholds and leaf values exactly as the learner holds them.

What it means, from XGBoost's model schema: node i of a tree sends a value left where value < split_conditions[i], both
as float32, and a missing one where `default_left` says; a node without children is a leaf, and its split condition is
its value. A float32 is below t exactly where it is at most the float32 before t, which is the threshold here. Margins
start at the log-odds of `base_score`; the first tree's leaves carry them, so that a sum over the trees is the margin.
Categorical splits, trees with removed nodes and boosters that weigh their trees are refused.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import ExportError
from models.specs import CodeMap, Float64s, Int64s, TreeEnsembleSpec


def tree_spec(model_json: bytes, rounds: int, n_features: int, code_maps: tuple[CodeMap, ...]) -> TreeEnsembleSpec:
    """Reads the first `rounds` trees of a model.

    Raises:
        ExportError: the model has no trees, or something that has no faithful form.
    """
    learner = json.loads(model_json)["learner"]
    booster = learner["gradient_booster"]
    if booster["name"] != "gbtree" or learner["objective"]["name"] != "binary:logistic":
        raise ExportError(
            f"an XGBoost model of booster {booster['name']!r} and objective {learner['objective']['name']!r} cannot be "
            "exported; train with gbtree and binary:logistic"
        )
    trees = booster["model"]["trees"][:rounds]
    if not trees:
        raise ExportError("the model has no trees; train with at least one round")
    for tree in trees:
        _refuse_unfaithful(tree)
    sizes = np.array([len(tree["left_children"]) for tree in trees])
    offset = np.repeat(np.cumsum(sizes) - sizes, sizes)
    left, right = _joined(trees, "left_children", np.int64), _joined(trees, "right_children", np.int64)
    column = _joined(trees, "split_indices", np.int64)
    condition = _joined(trees, "split_conditions", np.float32)
    is_leaf = left < 0
    left, right = np.where(is_leaf, 0, left + offset), np.where(is_leaf, 0, right + offset)
    tree = np.repeat(np.arange(len(trees)), sizes)
    value = np.where(is_leaf, condition.astype(np.float64), 0.0)
    value[is_leaf & (tree == 0)] += base_margin(learner)
    return TreeEnsembleSpec(
        n_features=n_features,
        code_maps=code_maps,
        tree=tree,
        column=np.where(is_leaf, -1, column),
        threshold=np.where(is_leaf, 0.0, np.nextafter(condition, np.float32(-np.inf)).astype(np.float64)),
        left=left,
        right=right,
        missing_left=_joined(trees, "default_left", np.bool_) & ~is_leaf,
        leaf_value=value,
        cover=_cover(_joined(trees, "sum_hessian", np.float64), left, right, is_leaf),
    )


def base_margin(learner: dict[str, Any]) -> float:
    """Log-odds that every row starts with."""
    score = float(np.float32(learner["learner_model_param"]["base_score"].strip("[]")))
    return float(np.log(score / (1.0 - score)))


def _cover(weight: Float64s, left: Int64s, right: Int64s, is_leaf: npt.NDArray[np.bool_]) -> Float64s:
    """(m,) what came by each node, as XGBoost weighs rows: by their curvature. Splits add up to the last digit."""
    cover = weight.copy()
    for node in np.flatnonzero(~is_leaf)[::-1]:  # children come after their parent
        cover[node] = cover[left[node]] + cover[right[node]]
    return cover


def _joined(trees: list[dict[str, Any]], name: str, dtype: type) -> npt.NDArray[Any]:
    return np.concatenate([np.array(tree[name], dtype=dtype) for tree in trees])


def _refuse_unfaithful(tree: dict[str, Any]) -> None:
    if any(tree["split_type"]):
        raise ExportError("categorical splits cannot be exported faithfully; give hashes to the trees as codes")
    if int(tree["tree_param"]["num_deleted"]):
        raise ExportError("trees with removed nodes cannot be read; train with gamma = 0")
