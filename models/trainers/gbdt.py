"""Gradient-boosted trees (LightGBM) on numbers and category codes.

The path is the number of trees. Deterministic: the same data, seed and thread count give the same trees. Columns are
float32, as the served graph gets them, so a threshold found here lies between two values that serving can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import lightgbm
import numpy as np
import numpy.typing as npt

from models.encoder import Encoded
from models.errors import TrainingError
from models.fitting.category_codes import apply_codes, fit_codes
from models.fitting.dials import Setting, Space
from models.fitting.lightgbm_text import tree_spec
from models.fitting.tree_settings import TREE_SETTINGS, TREE_SPACE
from models.specs import CodeMap, TreeEnsembleSpec
from models.trainers.trainer import Float64s, TrainingSet

MAX_ROUNDS = 1_000
PATIENCE = 30
"""Rounds without progress on the held-out rows after which the path ends."""


@dataclass(frozen=True)
class GbdtTrainer:
    """Boosted trees with frozen settings; `overrides` are a search's or an experiment's and land in the manifest."""

    threads: int = 1
    overrides: dict[str, float | int | str | bool] = field(default_factory=dict)
    name: str = "gbdt"

    def __post_init__(self) -> None:
        if self.overrides.get("zero_as_missing"):
            raise TrainingError("zero_as_missing is refused: it exports silently wrong; leave zeros as numbers")

    @property
    def space(self) -> Space:
        """See `tree_settings.py`."""
        return TREE_SPACE

    def tuned(self, settings: Mapping[str, Setting]) -> GbdtTrainer:
        """With these settings of LightGBM."""
        return replace(self, overrides=self.overrides | dict(settings))

    def fit_path(self, fit: TrainingSet, held_out: TrainingSet, seed: int) -> GbdtPath:
        """Boosts on `fit` until `held_out` has not improved for a while."""
        code_maps, codes = fit_codes(fit.encoded.ids, fit.clicked, seed)
        train = lightgbm.Dataset(_matrix(fit.encoded, codes), fit.clicked.astype(np.float32))
        held_codes = apply_codes(code_maps, held_out.encoded.ids)
        valid = train.create_valid(_matrix(held_out.encoded, held_codes), held_out.clicked.astype(np.float32))
        history: dict[str, dict[str, list[float]]] = {}
        booster = lightgbm.train(
            self._parameters(seed) | {"metric": "binary_logloss"},
            train,
            MAX_ROUNDS,
            valid_sets=[valid],
            valid_names=["held_out"],
            callbacks=[
                lightgbm.early_stopping(PATIENCE, verbose=False),
                lightgbm.record_evaluation(history),
            ],
        )
        return GbdtPath(booster, code_maps, np.array(history["held_out"]["binary_logloss"]))

    def fit(self, data: TrainingSet, step: int, growth: float, seed: int) -> GbdtModel:
        """Boosts for `step + 1` rounds, and more where there is more to learn from: rounds grow by sqrt(growth)."""
        rounds = max(1, round((step + 1) * growth**0.5))
        code_maps, codes = fit_codes(data.encoded.ids, data.clicked, seed)
        train = lightgbm.Dataset(_matrix(data.encoded, codes), data.clicked.astype(np.float32))
        parameters = self._parameters(seed)
        booster = lightgbm.train(parameters, train, rounds)
        names = data.float_names + tuple(data.id_names[code_map.column] for code_map in code_maps)
        return GbdtModel(booster, code_maps, len(data.float_names), names, parameters | {"rounds": rounds})

    def _parameters(self, seed: int) -> dict[str, float | int | str | bool]:
        return TREE_SETTINGS | self.overrides | {"seed": seed, "num_threads": self.threads}


class GbdtPath:
    """A booster and its held-out loss after each round."""

    def __init__(
        self, booster: lightgbm.Booster, code_maps: tuple[CodeMap, ...], held_out_loss: npt.NDArray[np.float64]
    ) -> None:
        self._booster, self._code_maps = booster, code_maps
        self.held_out_loss = held_out_loss

    def raw_logit(self, step: int, encoded: Encoded) -> Float64s:
        """(n,) margins of the first `step + 1` trees; a path that ended earlier answers with all it has."""
        return _margins(self._booster, self._code_maps, encoded, rounds=step + 1)


class GbdtModel:
    """A finished booster, its code maps and its neutral form; `text` is the booster as LightGBM writes it."""

    def __init__(
        self,
        booster: lightgbm.Booster,
        code_maps: tuple[CodeMap, ...],
        n_features: int,
        names: tuple[str, ...],
        parameters: dict[str, float | int | str | bool],
    ) -> None:
        self._booster, self._code_maps = booster, code_maps
        self.text: str = booster.model_to_string()
        self.spec: TreeEnsembleSpec = tree_spec(self.text, n_features, code_maps)
        self.parameters = parameters
        gain = booster.feature_importance("gain")
        total = gain.sum() or 1.0
        self.importance = {name: float(g / total) for name, g in zip(names, gain, strict=True) if g > 0}

    def raw_logit(self, encoded: Encoded) -> Float64s:
        """(n,) margins, summed by LightGBM in float64."""
        return _margins(self._booster, self._code_maps, encoded, rounds=-1)


def _matrix(encoded: Encoded, codes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """[features | codes], (n, d) and (n, m) -> (n, d + m) float32."""
    return np.hstack([encoded.features, codes])


def _margins(booster: lightgbm.Booster, maps: tuple[CodeMap, ...], encoded: Encoded, rounds: int) -> Float64s:
    matrix = _matrix(encoded, apply_codes(maps, encoded.ids))
    return np.asarray(booster.predict(matrix, raw_score=True, num_iteration=rounds), dtype=np.float64)
