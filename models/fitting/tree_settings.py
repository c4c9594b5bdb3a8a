"""Settings of boosted trees, for all learners that grow them.

Frozen: they were chosen on the first part of small and large logs by time and do not depend on the log at hand, except
that leaves must hold a fair share of a small log. Names and meanings are LightGBM's.
"""

from __future__ import annotations

from models.fitting.dials import Real, Space, Whole

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

TREE_SPACE: Space = {
    "learning_rate": Real(0.02, 0.2, 0.07),
    "num_leaves": Whole(7, 63, 15),
    "min_data_in_leaf": Whole(10, 500, 50),
    "lambda_l2": Real(0.1, 100.0, 10.0),
    "feature_fraction": Real(0.3, 1.0, 0.5, log=False),
}
"""What a search may turn, to either side of the defaults. Rounds are no dial, because held-out rows end them."""
