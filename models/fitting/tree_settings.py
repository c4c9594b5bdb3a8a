"""Settings of boosted trees, for all learners that grow them.

Frozen: they were chosen on the first part of small and large logs by time and do not depend on the log at hand, except
that leaves must hold a fair share of a small log. Names and meanings are LightGBM's.
"""

from __future__ import annotations

TREE_SETTINGS: dict[str, float | int | str | bool] = {
    "objective": "binary",
    "learning_rate": 0.07,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "lambda_l2": 10.0,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "feature_pre_filter": False,
    "verbosity": -1,
}
