"""A tree ensemble read from its ONNX operator, whichever library was converted to it.

The operator names a node by tree and number, and may test `<=`, `<`, `>` or `>=`. All become one form,

    go left where x <= threshold, right otherwise; NaN goes left where `missing_left` says so,

exactly: `x < t` is `x <= (the next double below t)`, because x is a float32 widened to double, and a test for "greater"
is its opposite with the branches exchanged. Tests for equality and membership have no threshold and are refused.

Source: ai.onnx.ml 1 and 3, operators TreeEnsembleRegressor and TreeEnsembleClassifier.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import PlanError
from models.plans.onnx_graph import Array, Node
from models.specs import CodeMap, Float64s, Int64s, TreeEnsembleSpec

TREE_OPERATORS = frozenset({"TreeEnsembleRegressor", "TreeEnsembleClassifier"})

_LEAF = "LEAF"
_EXCHANGED = ("BRANCH_GT", "BRANCH_GTE")
_WITHOUT_THRESHOLD = ("BRANCH_LT", "BRANCH_GTE")
"""Tests whose threshold itself goes right, after the exchange."""
_TESTS = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GT", "BRANCH_GTE")


def tree_spec(node: Node, n_features: int, code_maps: tuple[CodeMap, ...]) -> TreeEnsembleSpec:
    """The ensemble of one operator.

    Args:
        n_features: number of float columns, which come before the code maps.
    Raises:
        PlanError: it has several outputs, averages, compares for equality, or its nodes form no trees.
    """
    given = node.attributes
    if given.get("aggregate_function", "SUM") != "SUM" or given.get("n_targets", 1) != 1:
        raise PlanError("trees that are not simply added up, or answer several numbers, are not factorised")
    # Trees one after another, numbered from 0, as the specification promises its readers.
    order = np.lexsort((given["nodes_nodeids"], given["nodes_treeids"]))
    modes = np.array(given["nodes_modes"])[order]
    unknown = sorted(set(modes.tolist()) - {_LEAF, *_TESTS})
    if unknown:
        raise PlanError(f"trees with tests {unknown} (equality, membership) have no thresholds and are not factorised")
    leaf, exchanged = modes == _LEAF, np.isin(modes, _EXCHANGED)
    nodes = _Nodes(given["nodes_treeids"][order], given["nodes_nodeids"][order])
    if_true, if_false = (
        nodes.children(given[f"nodes_{side}nodeids"][order], split=~leaf, side=side) for side in ("true", "false")
    )
    nodes.check_trees(np.concatenate([if_true[~leaf], if_false[~leaf]]))
    threshold = _numbers(given, "nodes_values")[order]
    threshold = np.where(np.isin(modes, _WITHOUT_THRESHOLD), np.nextafter(threshold, -np.inf), threshold)
    tracks_true = given.get("nodes_missing_value_tracks_true", np.zeros(len(order)))[order] != 0
    column = np.where(leaf, -1, given["nodes_featureids"][order])
    if column.max(initial=-1) >= n_features + len(code_maps):
        raise PlanError(f"the trees read column {column.max()} of {n_features + len(code_maps)}")
    return TreeEnsembleSpec(
        n_features=n_features,
        code_maps=code_maps,
        tree=nodes.tree,
        column=column,
        threshold=threshold,
        left=np.where(exchanged, if_false, if_true),
        right=np.where(exchanged, if_true, if_false),
        missing_left=(tracks_true != exchanged) & ~leaf,
        leaf_value=_leaf_values(given, nodes, leaf),
    )


class _Nodes:
    """Nodes sorted by tree and number: from a name (tree, number) to the place in the arrays."""

    def __init__(self, treeids: Int64s, number: Int64s) -> None:
        self._names, self.tree = np.unique(treeids, return_inverse=True)
        self._stride = int(number.max(initial=0)) + 1
        self._keys = self.tree * self._stride + number
        if not len(number) or number.min() < 0 or np.any(np.diff(self._keys) <= 0):
            raise PlanError("the ensemble has no nodes, or two nodes of one name")

    def place(self, tree: Int64s, number: Int64s) -> Int64s:
        """(n,) places of nodes; `tree` counts from 0."""
        keys = tree * self._stride + number
        at = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        if np.any((self._keys[at] != keys) | (number < 0) | (number >= self._stride)):
            raise PlanError("a tree names a node that it does not have")
        return at.astype(np.int64)

    def children(self, number: Int64s, *, split: npt.NDArray[np.bool_], side: str) -> Int64s:
        """(m,) places of one child of every split, 0 elsewhere."""
        found = np.zeros(len(split), dtype=np.int64)
        found[split] = self.place(self.tree[split], number[split])
        return found

    def check_trees(self, children: Int64s) -> None:
        """Raises PlanError unless the first node of each tree is its root and all others have one parent."""
        parents = np.bincount(children, minlength=len(self.tree))
        first = np.concatenate([[True], np.diff(self.tree) > 0])
        if not np.array_equal(parents, np.where(first, 0, 1)):
            raise PlanError("the nodes form no trees: each has one parent, except the first, which is the root")

    def tree_of_name(self, treeids: Int64s) -> Int64s:
        """(n,) trees counted from 0."""
        return np.searchsorted(self._names, treeids).astype(np.int64)


def _leaf_values(given: dict[str, Any], nodes: _Nodes, leaf: npt.NDArray[np.bool_]) -> Float64s:
    """(m,) values of leaves, 0 elsewhere; a base value, added to every answer, goes into the first tree."""
    kind = "class" if "class_treeids" in given else "target"
    treeids, weights = given[f"{kind}_treeids"], _numbers(given, f"{kind}_weights")
    if len(np.unique(given[f"{kind}_ids"])) > 1:
        raise PlanError("trees that answer several numbers are not factorised")
    value = np.zeros(len(leaf))
    np.add.at(value, nodes.place(nodes.tree_of_name(treeids), given[f"{kind}_nodeids"]), weights)
    if np.any(value[~leaf]):
        raise PlanError("a split carries a value; only leaves do")
    base = given.get("base_values_as_tensor", given.get("base_values", np.empty(0)))
    if len(base) > 1:
        raise PlanError("trees with several base values are not factorised")
    value[leaf & (nodes.tree == 0)] += base.sum()
    return value


def _numbers(given: dict[str, Any], name: str) -> Array:
    """Doubles, wherever the operator keeps them: as a tensor, or as a list of float32."""
    values = given.get(f"{name}_as_tensor", given.get(name))
    if values is None:
        raise PlanError(f"the tree operator has no {name}")
    return np.asarray(values, dtype=np.float64)
