"""LightGBM's model text as flat arrays: thresholds and leaf values exactly as the learner holds them (17 digits).

What the text means, from LightGBM's `tree.h`: node i of a tree sends a value left where value <= threshold[i]; a child
>= 0 is another inner node, a child c < 0 is the leaf ~c. Bits of `decision_type`: 1 categorical, 2 missing goes left,
and two bits for what counts as missing (0 nothing, 4 zero, 8 NaN). Where nothing counts as missing, LightGBM reads NaN
as 0. It also reads every |value| <= 1e-35 as 0, so a threshold that close to 0 stands for the edge of that zone.
`internal_count` and `leaf_count` say how many training rows came by each node.
Categorical splits and zero-as-missing have no faithful ONNX form and are refused.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.errors import ExportError
from models.specs import CodeMap, TreeEnsembleSpec

_CATEGORICAL, _DEFAULT_LEFT, _MISSING_KIND = 1, 2, 12
_MISSING_NONE, _MISSING_NAN = 0, 8
_ZERO_ZONE = float(np.float32(1e-35))
"""LightGBM's `kZeroThreshold`."""


def tree_spec(model_text: str, n_features: int, code_maps: tuple[CodeMap, ...]) -> TreeEnsembleSpec:
    """Reads all trees of a model text.

    Raises:
        ExportError: a tree has categorical splits, linear leaves, or takes zero for missing.
    """
    blocks = model_text.split("end of trees", maxsplit=1)[0].split("\nTree=")[1:]
    trees = [_read_tree(block) for block in blocks]
    if not trees:
        raise ExportError("the model has no trees; train with at least one round")
    sizes = np.array([len(tree["column"]) for tree in trees])
    starts = np.cumsum(sizes) - sizes
    joined = {name: np.concatenate([tree[name] for tree in trees]) for name in trees[0]}
    offset = np.repeat(starts, sizes)
    return TreeEnsembleSpec(
        n_features=n_features,
        code_maps=code_maps,
        tree=np.repeat(np.arange(len(trees)), sizes),
        column=joined["column"],
        threshold=joined["threshold"],
        left=joined["left"] + offset,
        right=joined["right"] + offset,
        missing_left=joined["missing_left"],
        leaf_value=joined["leaf_value"],
        cover=joined["cover"],
    )


def _read_tree(block: str) -> dict[str, npt.NDArray[np.generic]]:
    """One tree's nodes: inner nodes first (the root is the first of them), then leaves; a stump is one leaf."""
    fields = dict(line.split("=", maxsplit=1) for line in block.splitlines() if "=" in line)
    leaf_value = np.array(fields["leaf_value"].split(), dtype=np.float64)
    if fields.get("is_linear", "0") != "0":
        raise ExportError("trees with linear leaves cannot be exported; train with linear_tree=false")
    n_inner, n_leaves = len(leaf_value) - 1, len(leaf_value)
    if n_inner == 0:
        column = left = right = np.empty(0, dtype=np.int64)
        threshold, missing_left = np.empty(0), np.empty(0, dtype=np.bool_)
        cover = np.ones(1)  # LightGBM does not count the rows of a stump, and all of them come by
    else:
        decision = np.array(fields["decision_type"].split(), dtype=np.int64)
        _refuse_unfaithful(decision)
        column = np.array(fields["split_feature"].split(), dtype=np.int64)
        threshold = np.array(fields["threshold"].split(), dtype=np.float64)
        left, right = (
            np.where(child >= 0, child, n_inner + ~child)
            for child in (np.array(fields[name].split(), dtype=np.int64) for name in ("left_child", "right_child"))
        )
        reads_nan_as_zero = decision & _MISSING_KIND == _MISSING_NONE
        missing_left = np.where(reads_nan_as_zero, threshold >= 0.0, decision & _DEFAULT_LEFT != 0)
        threshold = _around_zero(threshold)
        cover = np.array([*fields["internal_count"].split(), *fields["leaf_count"].split()], dtype=np.float64)
    no_child, no_value = np.zeros(n_leaves, dtype=np.int64), np.zeros(n_inner)
    return {
        "column": np.concatenate([column, np.full(n_leaves, -1)]),
        "threshold": np.concatenate([threshold, np.zeros(n_leaves)]),
        "left": np.concatenate([left, no_child]),
        "right": np.concatenate([right, no_child]),
        "missing_left": np.concatenate([missing_left, np.zeros(n_leaves, dtype=np.bool_)]),
        "leaf_value": np.concatenate([no_value, leaf_value]),
        "cover": cover,
    }


def _around_zero(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Thresholds that send the whole zone of zeros the way LightGBM sends 0."""
    edge = np.where(threshold >= 0.0, _ZERO_ZONE, np.nextafter(-_ZERO_ZONE, -np.inf))
    moved: npt.NDArray[np.float64] = np.where(np.abs(threshold) <= _ZERO_ZONE, edge, threshold)
    return moved


def _refuse_unfaithful(decision: npt.NDArray[np.int64]) -> None:
    if np.any(decision & _CATEGORICAL):
        raise ExportError("categorical splits cannot be exported faithfully; give hashes to the trees as codes")
    if not np.isin(decision & _MISSING_KIND, (_MISSING_NONE, _MISSING_NAN)).all():
        raise ExportError("zero_as_missing exports silently wrong (zeros take another branch); train without it")
