"""Reading XGBoost's JSON: every row goes the way that XGBoost sends it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from models.encoder import Encoded
from models.errors import ExportError
from models.fitting.xgboost_json import tree_spec
from models.specs import TreeEnsembleSpec
from models.trainers.xgboost import XgboostTrainer
from tests.learning import made_impressions

LOG = made_impressions(3_000, seed=1)


def walked(spec: TreeEnsembleSpec, matrix: np.ndarray) -> np.ndarray:
    """The spec by its definition, one row and one node at a time."""
    roots = np.searchsorted(spec.tree, np.arange(spec.tree[-1] + 1))
    sums = np.zeros(len(matrix))
    for row, values in enumerate(matrix.astype(np.float64)):
        for node in roots:
            while spec.column[node] >= 0:
                value = values[spec.column[node]]
                left = spec.missing_left[node] if np.isnan(value) else value <= spec.threshold[node]
                node = spec.left[node] if left else spec.right[node]
            sums[row] += spec.leaf_value[node]
    return sums


def test_rows_at_every_threshold_and_beside_it_go_as_xgboost_sends_them() -> None:
    """Below in float32 goes left, equal goes right: one unit in the last place decides."""
    numbers_only = made_impressions(3_000, seed=1)
    model = XgboostTrainer().fit(numbers_only, 20, 1.0, seed=0)
    rows = []
    for column, cuts in model.spec.cut_points().items():
        for cut in cuts.astype(np.float32):
            for value in (cut, np.nextafter(cut, np.float32(np.inf)), np.float32(np.nan)):
                row = LOG.encoded.features[len(rows) % len(LOG)].copy()
                row[column] = value
                rows.append(row)
    ids = LOG.encoded.ids[np.arange(len(rows)) % len(LOG)]
    encoded = Encoded(np.array(rows), ids)

    codes = np.column_stack([code_map.apply(ids[:, code_map.column]) for code_map in model.spec.code_maps])

    np.testing.assert_allclose(
        walked(model.spec, np.hstack([encoded.features, codes])), model.raw_logit(encoded), rtol=0, atol=1e-12
    )
    assert len(rows) > 300


def test_margins_are_those_of_xgboost() -> None:
    """Which sums in float32: its base score and every leaf are there."""
    import xgboost

    model = XgboostTrainer().fit(LOG, 20, 1.0, seed=0)
    codes = np.column_stack([code_map.apply(LOG.encoded.ids[:, code_map.column]) for code_map in model.spec.code_maps])
    rows = xgboost.DMatrix(np.hstack([LOG.encoded.features, codes]))

    own = model._trees.booster.predict(rows, output_margin=True)

    np.testing.assert_allclose(model.raw_logit(LOG.encoded), own, rtol=0, atol=2e-6)


def document(**changes: Any) -> dict[str, Any]:
    tree = {
        "left_children": [1, -1, -1],
        "right_children": [2, -1, -1],
        "split_indices": [0, 0, 0],
        "split_conditions": [0.5, -1.0, 1.0],
        "default_left": [1, 0, 0],
        "sum_hessian": [9.0, 2.0, 6.0],
        "split_type": [0, 0, 0],
        "tree_param": {"num_deleted": "0"},
    }
    return {
        "learner": {
            "learner_model_param": {"base_score": "[5E-1]"},
            "objective": {"name": changes.get("objective", "binary:logistic")},
            "gradient_booster": {
                "name": changes.get("booster", "gbtree"),
                "model": {"trees": [tree | changes.get("tree", {})] * changes.get("n", 1)},
            },
        }
    }


def test_a_tree_by_hand() -> None:
    """Below 0.5 left, from 0.5 on right, missing left; a base score of one half adds nothing."""
    spec = tree_spec(json.dumps(document()).encode(), 1, 1, ())

    below = np.nextafter(np.float32(0.5), np.float32(0))
    assert walked(spec, np.array([[below], [0.5], [np.nan]], np.float32)).tolist() == [-1.0, 1.0, -1.0]
    assert spec.cover is not None
    assert spec.cover.tolist() == [8.0, 2.0, 6.0]  # rounding of a split's own sum is not taken over


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "no trees"),
        ({"booster": "dart"}, "booster 'dart'"),
        ({"objective": "rank:ndcg"}, "objective 'rank:ndcg'"),
        ({"tree": {"split_type": [1, 0, 0]}}, "categorical splits"),
        ({"tree": {"tree_param": {"num_deleted": "2"}}}, "removed nodes"),
    ],
)
def test_what_has_no_faithful_form_is_refused(changes: dict[str, Any], message: str) -> None:
    """Rather than exported wrong."""
    with pytest.raises(ExportError, match=message):
        tree_spec(json.dumps(document(**changes)).encode(), 1, 1, ())
