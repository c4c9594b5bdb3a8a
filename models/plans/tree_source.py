"""A tree ensemble read from its ONNX operator, whichever library was converted to it.

The operator names a node by tree and number, and may test `<=`, `<`, `>` or `>=`. All become one form,

    go left where x <= threshold, right otherwise; NaN goes left where `missing_left` says so,

exactly: `x < t` is `x <= (the next double below t)`, because x is a float32 widened to double, and a test for "greater"
is its opposite with the branches exchanged. Tests for equality and membership have no threshold and are refused.

What is read is the margin, before any `post_transform`. Of a classifier it is the score of the second of two classes,
as ONNX Runtime forms it: the sum of the weights, all given to one class, plus at most one base value. Averages are
sums of leaves divided by the number of trees; the base value is added after.

How many training rows came by each node (`nodes_hitrates`) is taken where it can be true: above 0, and as many at a
split as at its two children. Converters that do not know it write 1 everywhere.

Source: ai.onnx.ml 1 and 3, operators TreeEnsembleRegressor and TreeEnsembleClassifier; where the specification leaves
it open, ONNX Runtime 1.31 (`core/providers/cpu/ml/tree_ensemble_common.h`), held against it in tests.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.errors import PlanError
from models.plans.onnx_graph import Array, Node
from models.specs import CodeMap, Float64s, Int64s, TreeEnsembleSpec

TREE_OPERATORS = frozenset({"TreeEnsembleRegressor", "TreeEnsembleClassifier"})

_LARGEST_NAME = 1 << 62

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
        PlanError: it answers several numbers, compares for equality, takes a minimum or maximum, or its nodes form no
            trees.
    """
    listed = _listed(node)
    # Trees one after another, numbered from 0, as the specification promises its readers.
    order = np.lexsort((listed["nodeids"], listed["treeids"]))
    listed = {name: values[order] for name, values in listed.items()}
    modes = listed["modes"]
    unknown = sorted(set(modes.tolist()) - {_LEAF, *_TESTS})
    if unknown:
        raise PlanError(f"trees with tests {unknown} (equality, membership) have no thresholds and are not factorised")
    leaf, exchanged = modes == _LEAF, np.isin(modes, _EXCHANGED)
    nodes = _Nodes(listed["treeids"], listed["nodeids"])
    nodes.check_listing(order)
    if_true, if_false = (nodes.children(listed[f"{side}nodeids"], split=~leaf) for side in ("true", "false"))
    nodes.check_trees(np.where(leaf, -1, if_true), np.where(leaf, -1, if_false))
    threshold, column = listed["values"], listed["featureids"]
    if np.isnan(threshold[~leaf]).any():
        raise PlanError("a threshold is NaN")
    threshold = np.where(np.isin(modes, _WITHOUT_THRESHOLD), np.nextafter(threshold, -np.inf), threshold)
    n_columns = n_features + len(code_maps)
    if np.any((column[~leaf] < 0) | (column[~leaf] >= n_columns)):
        raise PlanError(f"the trees read columns {sorted(set(column[~leaf].tolist()))}, there are {n_columns}")
    left, right = np.where(exchanged, if_false, if_true), np.where(exchanged, if_true, if_false)
    return TreeEnsembleSpec(
        n_features=n_features,
        code_maps=code_maps,
        tree=nodes.tree,
        column=np.where(leaf, -1, column),
        threshold=np.where(leaf, 0.0, threshold),
        left=left,
        right=right,
        missing_left=((listed["tracks_true"] != 0) != exchanged) & ~leaf,
        leaf_value=_leaf_values(node, nodes, leaf),
        cover=_covers(node, order, left, right, split=~leaf),
    )


def _listed(node: Node) -> dict[str, Array]:
    """What the operator lists of each of its m nodes, (m,) each."""
    listed: dict[str, Array] = {
        name: node.array(f"nodes_{name}", "i")
        for name in ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
    }
    listed["modes"] = np.array(node.texts("nodes_modes"), dtype=np.str_)
    listed["values"] = _numbers(node, "nodes_values")
    tracks_true = "nodes_missing_value_tracks_true"
    if np.size(node.attributes.get(tracks_true, ())):
        listed["tracks_true"] = node.array(tracks_true, "i")
    else:
        listed["tracks_true"] = np.zeros(len(listed["modes"]), dtype=np.int64)
    lengths = {name: len(values) for name, values in listed.items()}
    if len(set(lengths.values())) != 1:
        raise PlanError(f"the tree operator's lists are of different lengths: {lengths}")
    return listed


class _Nodes:
    """Nodes sorted by tree and number: from a name (tree, number) to the place in the arrays."""

    def __init__(self, treeids: Int64s, number: Int64s) -> None:
        self._names, self.tree = np.unique(treeids, return_inverse=True)
        self._stride = int(number.max(initial=0)) + 1
        if not len(number) or number.min() < 0 or len(self._names) * self._stride > _LARGEST_NAME:
            raise PlanError("the ensemble has no nodes, or numbers that no node has")
        self._keys = self.tree * self._stride + number
        if np.any(np.diff(self._keys) == 0):
            raise PlanError("two nodes of one tree have one number")

    def check_listing(self, order: Int64s) -> None:
        """Raises PlanError unless each tree was listed in one piece, its root first.

        ONNX Runtime takes the first node of each piece for a root, and answers with half trees where there are more.

        order: (m,) where each node was listed.
        """
        listed_tree = np.empty_like(self.tree)
        listed_tree[order] = self.tree
        pieces = np.flatnonzero(np.diff(listed_tree, prepend=-1))
        if not np.array_equal(pieces, np.sort(order[self._is_root()])):
            raise PlanError("a tree is not listed in one piece with its root first")

    def _is_root(self) -> npt.NDArray[np.bool_]:
        return np.diff(self.tree, prepend=-1) > 0

    def place(self, tree: Int64s, number: Int64s) -> Int64s:
        """(n,) places of nodes; `tree` counts from 0."""
        keys = tree * self._stride + number
        at = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        if np.any((self._keys[at] != keys) | (number < 0) | (number >= self._stride)):
            raise PlanError("a tree names a node that it does not have")
        return at.astype(np.int64)

    def children(self, number: Int64s, *, split: npt.NDArray[np.bool_]) -> Int64s:
        """(m,) places of one child of every split, 0 elsewhere."""
        found = np.zeros(len(split), dtype=np.int64)
        found[split] = self.place(self.tree[split], number[split])
        return found

    def check_trees(self, *children: Int64s) -> None:
        """Raises PlanError unless all nodes hang on the first node of their tree, each on one parent.

        children: (m,) places, -1 for none.
        """
        is_root = self._is_root()
        named = np.concatenate(children)
        parents = np.bincount(named[named >= 0], minlength=len(self.tree))
        reached = 0
        # With one parent each and none for roots, no node is met twice, so the walk ends.
        level = np.flatnonzero(is_root) if np.array_equal(parents, ~is_root) else np.empty(0, dtype=np.int64)
        while len(level):
            reached += len(level)
            level = np.concatenate([of[level] for of in children])
            level = level[level >= 0]
        if reached != len(self.tree):
            raise PlanError("the nodes form no trees: each has one parent, except the first, on which all others hang")

    def tree_of_name(self, treeids: Int64s) -> Int64s:
        """(n,) trees counted from 0; one past the last where there is no such tree."""
        at = np.searchsorted(self._names, treeids).clip(max=len(self._names) - 1)
        return np.where(self._names[at] == treeids, at, len(self._names))


def _leaf_values(node: Node, nodes: _Nodes, leaf: npt.NDArray[np.bool_]) -> Float64s:
    """(m,) values of leaves, 0 elsewhere; a base value, added to every answer, goes into the first tree."""
    kind = "class" if node.op == "TreeEnsembleClassifier" else "target"
    answers = set(node.array(f"{kind}_ids", "i").tolist())
    if kind == "class":
        labels = max(np.size(node.attributes.get(f"classlabels_{name}", ())) for name in ("int64s", "strings"))
        is_one_number = labels == 2 and answers in ({0}, {1})
    else:
        is_one_number = node.whole("n_targets", 1) == 1 and answers == {0}
    if not is_one_number:
        raise PlanError("trees that answer several numbers are not factorised")
    treeids, nodeids = node.array(f"{kind}_treeids", "i"), node.array(f"{kind}_nodeids", "i")
    weights = _numbers(node, f"{kind}_weights")
    if not len(treeids) == len(nodeids) == len(weights):
        raise PlanError(f"{len(weights)} values of leaves for {len(treeids)} trees and {len(nodeids)} nodes")
    place = nodes.place(nodes.tree_of_name(treeids), nodeids)
    if len(np.unique(place)) < len(place):
        raise PlanError("a leaf has two values")
    if not leaf[place].all():
        raise PlanError("a split carries a value; only leaves do")
    value = np.zeros(len(leaf))
    value[place] = weights / _divisor(node, n_trees=int(nodes.tree[-1]) + 1)
    value[leaf & (nodes.tree == 0)] += _base_value(node, answers)
    return value


def _covers(node: Node, order: Int64s, left: Int64s, right: Int64s, *, split: npt.NDArray[np.bool_]) -> Float64s | None:
    """(m,) training rows that came by each node; None where they were not listed, or cannot be what was counted."""
    name = "nodes_hitrates"
    if not any(np.size(node.attributes.get(key, ())) for key in (name, f"{name}_as_tensor")):
        return None
    listed = _numbers(node, name)
    if len(listed) != len(order):
        return None
    cover = listed[order]
    children = cover[left[split]] + cover[right[split]]
    # Lists of float32 round counts beyond 16 million.
    counted = np.isfinite(cover).all() and (cover > 0).all() and np.allclose(cover[split], children, rtol=1e-6, atol=0)
    return cover if counted else None


def _divisor(node: Node, n_trees: int) -> int:
    aggregate = node.text("aggregate_function", "SUM")
    if aggregate not in ("SUM", "AVERAGE"):
        raise PlanError(f"trees of which only the {aggregate} counts are not factorised")
    return n_trees if aggregate == "AVERAGE" else 1


def _base_value(node: Node, answers: set[int]) -> float:
    name = "base_values"
    if not any(np.size(node.attributes.get(key, ())) for key in (name, f"{name}_as_tensor")):
        return 0.0
    base = _numbers(node, name)
    # ONNX Runtime gives a classifier's only base value to its first class, whose score is then the margin.
    if len(base) != 1 or answers != {0}:
        raise PlanError("trees with several base values, or one for a class without leaves, are not factorised")
    return float(base[0])


def _numbers(node: Node, name: str) -> Float64s:
    """Doubles, wherever the operator keeps them: as a tensor, or as a list of float32."""
    tensor = f"{name}_as_tensor"
    return node.array(tensor if tensor in node.attributes else name, "f").astype(np.float64)
