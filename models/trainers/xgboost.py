"""Gradient-boosted trees (XGBoost) on numbers and category codes.

The path is the number of trees. As `gbdt.py` in all that is not XGBoost's own, so that the two can be compared:
category codes, early stopping, growth of rounds. XGBoost sums margins in float32; here the leaves that it finds are
summed in float64, which is what the exported graph does, so scores that differ in the seventh digit keep their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import xgboost

from models.encoder import Encoded
from models.fitting.category_codes import apply_codes, fit_codes
from models.fitting.dials import Real, Setting, Space, Whole
from models.fitting.xgboost_json import tree_spec
from models.specs import CodeMap, TreeEnsembleSpec
from models.trainers.trainer import Float64s, TrainingSet

MAX_ROUNDS = 1_000
PATIENCE = 30
"""Rounds without progress on the held-out rows after which the path ends."""
SCORED_ROWS = 65_536

SETTINGS: dict[str, float | int | str | bool] = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "grow_policy": "lossguide",
    "max_depth": 0,
    "max_leaves": 15,
    "eta": 0.07,
    "min_child_weight": 5.0,
    "lambda": 10.0,
    "colsample_bytree": 0.5,
    "subsample": 0.8,
    "verbosity": 0,
}
"""Those of `tree_settings.py` in the words of XGBoost; a leaf holds a least sum of p (1 - p), not a least count."""


SPACE: Space = {
    "eta": Real(0.02, 0.2, 0.07),
    "max_leaves": Whole(7, 63, 15),
    "min_child_weight": Real(0.5, 100.0, 5.0),
    "lambda": Real(0.1, 100.0, 10.0),
    "colsample_bytree": Real(0.3, 1.0, 0.5, log=False),
}
"""`TREE_SPACE` in the words of XGBoost."""


@dataclass(frozen=True)
class XgboostTrainer:
    """Boosted trees with frozen settings; `overrides` are a search's or an experiment's and land in the manifest."""

    threads: int = 1
    overrides: dict[str, float | int | str | bool] = field(default_factory=dict)
    name: str = "xgboost"

    @property
    def space(self) -> Space:
        """See `SPACE`."""
        return SPACE

    def tuned(self, settings: Mapping[str, Setting]) -> XgboostTrainer:
        """With these settings of XGBoost."""
        return replace(self, overrides=self.overrides | dict(settings))

    def fit_path(self, fit: TrainingSet, held_out: TrainingSet, seed: int) -> XgboostPath:
        """Boosts on `fit` until `held_out` has not improved for a while."""
        code_maps, codes = fit_codes(fit.encoded.ids, fit.clicked, seed)
        valid = _rows(_matrix(held_out.encoded, apply_codes(code_maps, held_out.encoded.ids)), held_out)
        history: dict[str, dict[str, list[float]]] = {}
        booster = xgboost.train(
            self._parameters(seed) | {"eval_metric": "logloss"},
            _rows(_matrix(fit.encoded, codes), fit),
            MAX_ROUNDS,
            evals=[(valid, "held_out")],
            early_stopping_rounds=PATIENCE,
            evals_result=history,
            verbose_eval=False,
        )
        trees = _Trees(booster, code_maps, len(fit.float_names), len(history["held_out"]["logloss"]))
        return XgboostPath(trees, np.array(history["held_out"]["logloss"]))

    def fit(self, data: TrainingSet, step: int, growth: float, seed: int) -> XgboostModel:
        """Boosts for `step + 1` rounds, and more where there is more to learn from: rounds grow by sqrt(growth)."""
        rounds = max(1, round((step + 1) * growth**0.5))
        code_maps, codes = fit_codes(data.encoded.ids, data.clicked, seed)
        parameters = self._parameters(seed)
        booster = xgboost.train(parameters, _rows(_matrix(data.encoded, codes), data), rounds)
        names = data.float_names + tuple(data.id_names[code_map.column] for code_map in code_maps)
        trees = _Trees(booster, code_maps, len(data.float_names), rounds)
        return XgboostModel(trees, names, parameters | {"rounds": rounds, "library": f"xgboost {xgboost.__version__}"})

    def _parameters(self, seed: int) -> dict[str, float | int | str | bool]:
        return SETTINGS | self.overrides | {"seed": seed, "nthread": self.threads}


class _Trees:
    """A booster, its code maps and its neutral form. `spec` starts every tree with its root, node by node as it is."""

    def __init__(self, booster: xgboost.Booster, code_maps: tuple[CodeMap, ...], n_features: int, rounds: int) -> None:
        self.booster, self.code_maps = booster, code_maps
        self.spec: TreeEnsembleSpec = tree_spec(bytes(booster.save_raw("json")), rounds, n_features, code_maps)
        self._starts = np.searchsorted(self.spec.tree, np.arange(rounds))

    def margins(self, encoded: Encoded, rounds: int) -> Float64s:
        """(n,) sums of the leaves that XGBoost finds in the first trees."""
        matrix = _matrix(encoded, apply_codes(self.code_maps, encoded.ids))
        parts = [matrix[start : start + SCORED_ROWS] for start in range(0, len(matrix), SCORED_ROWS)]
        return np.concatenate([np.empty(0), *(self._margins(part, rounds) for part in parts)])

    def _margins(self, matrix: npt.NDArray[np.float32], rounds: int) -> Float64s:
        rows = xgboost.DMatrix(matrix)
        leaves = self.booster.predict(rows, pred_leaf=True, iteration_range=(0, rounds)).reshape(len(matrix), -1)
        margins: Float64s = self.spec.leaf_value[leaves.astype(np.int64) + self._starts[:rounds]].sum(axis=1)
        return margins


class XgboostPath:
    """A booster and its held-out loss after each round."""

    def __init__(self, trees: _Trees, held_out_loss: Float64s) -> None:
        self._trees = trees
        self.held_out_loss = held_out_loss

    def raw_logit(self, step: int, encoded: Encoded) -> Float64s:
        """(n,) margins of the first `step + 1` trees."""
        return self._trees.margins(encoded, step + 1)


class XgboostModel:
    """A finished booster and its neutral form."""

    def __init__(self, trees: _Trees, names: tuple[str, ...], parameters: dict[str, float | int | str | bool]) -> None:
        self._trees, self._rounds = trees, int(parameters["rounds"])
        self.spec = trees.spec
        self.parameters = parameters
        score = trees.booster.get_score(importance_type="total_gain")  # by f0, f1, …; columns never used are left out
        gain = {int(name[1:]): float(np.sum(value)) for name, value in score.items()}
        total = sum(gain.values()) or 1.0
        self.importance = {names[column]: gain[column] / total for column in sorted(gain)}

    def raw_logit(self, encoded: Encoded) -> Float64s:
        """(n,) margins, summed in float64 over the leaves that XGBoost finds."""
        return self._trees.margins(encoded, self._rounds)


def _matrix(encoded: Encoded, codes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """[features | codes], (n, d) and (n, m) -> (n, d + m) float32."""
    return np.hstack([encoded.features, codes])


def _rows(matrix: npt.NDArray[np.float32], data: TrainingSet) -> xgboost.DMatrix:
    return xgboost.DMatrix(matrix, label=data.clicked.astype(np.float32))
