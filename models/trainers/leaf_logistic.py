"""Boosted trees whose leaves are weighed anew by logistic regression.

A tree ensemble is a linear model over its leaves: each row lies in one leaf of every tree. Boosting sets a leaf's value
once, while the trees after it do not exist yet; logistic regression sets the values of all leaves together. Here its
penalty pulls every leaf towards the value that boosting gave it, so a leaf moves as far as its clicks can carry. The
result is a tree ensemble again, exported, proven and planned as one.
The path is the number of trees; the strength of the penalty is frozen.

Source of the idea: He et al. 2014, "Practical Lessons from Predicting Clicks on Ads at Facebook", who learn the weights
from zero and on later rows; the pull towards the trees' own values lets both learn from all rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import lightgbm
import numpy as np
import numpy.typing as npt
from scipy import sparse

from models.encoder import Encoded
from models.evaluation.metrics import log_loss_of_logit
from models.fitting.category_codes import apply_codes, fit_codes
from models.fitting.dials import Real, Setting, Space
from models.fitting.lightgbm_text import tree_spec
from models.fitting.penalised_logistic import LinearSolution, LogisticProblem
from models.fitting.tree_settings import TREE_SETTINGS, TREE_SPACE
from models.specs import CodeMap, TreeEnsembleSpec
from models.trainers.trainer import Float64s, TrainingSet

ROUNDS = (10, 20, 40, 80, 160, 320)
STRENGTH = 1000.0
"""Chosen of 100, 1 000, 5 000 and 20 000 by the log loss of the last fifth of three small public logs, so figures on
just those rows flatter a little. The difference to boosting alone was below 0.4 % there, either way."""


@dataclass(frozen=True)
class LeafLogisticTrainer:
    """Trees and a logistic regression over their leaves, with frozen settings."""

    threads: int = 1
    strength: float = STRENGTH
    overrides: dict[str, float | int | str | bool] = field(default_factory=dict)
    """Of the trees, beside `TREE_SETTINGS`."""
    name: str = "gbdt-lr"

    @property
    def space(self) -> Space:
        """Those of trees, and how strongly leaves are pulled towards what boosting gave them."""
        return {**TREE_SPACE, "strength": Real(30.0, 30_000.0, STRENGTH)}

    def tuned(self, settings: Mapping[str, Setting]) -> LeafLogisticTrainer:
        """With these settings of LightGBM and of the penalty."""
        trees: dict[str, float | int | str | bool] = {
            name: value for name, value in settings.items() if name != "strength"
        }
        strength = float(settings.get("strength", self.strength))
        return replace(self, strength=strength, overrides=self.overrides | trees)

    def fit_path(self, fit: TrainingSet, held_out: TrainingSet, seed: int) -> LeafLogisticPath:
        """Boosts once, weighs the leaves of ever more trees anew, until `held_out` gets worse."""
        trees = _boosted(fit, ROUNDS[-1], self._parameters(seed))
        models: list[_Weighed] = []
        losses: list[float] = []
        for rounds in ROUNDS:
            models.append(_weighed(trees, rounds, fit, self.strength))
            losses.append(log_loss_of_logit(held_out.clicked, models[-1].margins(held_out.encoded)))
            if losses[-1] > min(losses):
                break
        return LeafLogisticPath(models, np.array(losses))

    def fit(self, data: TrainingSet, step: int, growth: float, seed: int) -> LeafLogisticModel:
        """Rounds grow by sqrt(growth), as those of plain trees do."""
        rounds = max(1, round(ROUNDS[step] * growth**0.5))
        parameters = self._parameters(seed)
        trees = _boosted(data, rounds, parameters)
        return LeafLogisticModel(
            _weighed(trees, rounds, data, self.strength),
            data,
            parameters | {"rounds": rounds, "strength": self.strength},
        )

    def _parameters(self, seed: int) -> dict[str, float | int | str | bool]:
        return TREE_SETTINGS | self.overrides | {"seed": seed, "num_threads": self.threads}


@dataclass(frozen=True, slots=True)
class _Trees:
    """A booster over [features | codes]."""

    booster: lightgbm.Booster
    code_maps: tuple[CodeMap, ...]
    training_codes: npt.NDArray[np.float32]
    """(n, m) of the rows it learnt from, each from the other rows' labels."""

    def leaves(self, matrix: npt.NDArray[np.float32], rounds: int) -> npt.NDArray[np.int64]:
        """(n, rounds) number of the leaf of each tree that a row lies in."""
        found = self.booster.predict(matrix, pred_leaf=True, num_iteration=rounds)
        return np.asarray(found, dtype=np.int64).reshape(len(matrix), -1)


def _boosted(data: TrainingSet, rounds: int, parameters: dict[str, float | int | str | bool]) -> _Trees:
    seed = int(parameters["seed"])
    code_maps, codes = fit_codes(data.encoded.ids, data.clicked, seed)
    train = lightgbm.Dataset(np.hstack([data.encoded.features, codes]), data.clicked.astype(np.float32))
    return _Trees(lightgbm.train(parameters, train, rounds), code_maps, codes)


@dataclass(frozen=True, slots=True)
class _Weighed:
    """The first trees with other leaf values.

    starts: (rounds,) place of each tree's first leaf among all leaves. own: (leaves,) what boosting gave them.
    """

    trees: _Trees
    starts: npt.NDArray[np.int64]
    own: Float64s
    correction: LinearSolution

    def margins(self, encoded: Encoded) -> Float64s:
        """(n,) float64."""
        matrix = np.hstack([encoded.features, apply_codes(self.trees.code_maps, encoded.ids)])
        values = self.own + self.correction.weights
        places = self.trees.leaves(matrix, len(self.starts)) + self.starts
        margins: Float64s = values[places].sum(axis=1) + self.correction.intercept
        return margins


def _weighed(trees: _Trees, rounds: int, data: TrainingSet, strength: float) -> _Weighed:
    """Learns corrections of the leaf values from the rows that the trees learnt from."""
    spec = _spec_of(trees, rounds, len(data.float_names))
    is_leaf = spec.column < 0
    sizes = np.bincount(spec.tree[is_leaf])
    starts = np.cumsum(sizes) - sizes
    own = spec.leaf_value[is_leaf]
    leaves = trees.leaves(np.hstack([data.encoded.features, trees.training_codes]), rounds) + starts
    n, n_trees = leaves.shape
    ends = np.arange(n + 1) * n_trees
    design = sparse.csr_array((np.ones(leaves.size), leaves.ravel(), ends), shape=(n, len(own)))
    problem = LogisticProblem(design, data.clicked, offset=own[leaves].sum(axis=1))
    return _Weighed(trees, starts, own, problem.solve(strength, start=None))


def _spec_of(trees: _Trees, rounds: int, n_features: int) -> TreeEnsembleSpec:
    return tree_spec(trees.booster.model_to_string(num_iteration=rounds), n_features, trees.code_maps)


class LeafLogisticPath:
    """The models of ever more trees and their held-out loss."""

    def __init__(self, models: list[_Weighed], held_out_loss: Float64s) -> None:
        self._models = models
        self.held_out_loss = held_out_loss

    def raw_logit(self, step: int, encoded: Encoded) -> Float64s:
        """(n,) margins at that number of trees."""
        return self._models[step].margins(encoded)


class LeafLogisticModel:
    """Finished trees and their neutral form."""

    def __init__(self, weighed: _Weighed, data: TrainingSet, parameters: dict[str, float | int | str | bool]) -> None:
        self._weighed = weighed
        spec = _spec_of(weighed.trees, len(weighed.starts), len(data.float_names))
        value = spec.leaf_value.copy()
        value[spec.column < 0] += weighed.correction.weights
        value[(spec.column < 0) & (spec.tree == 0)] += weighed.correction.intercept
        self.spec: TreeEnsembleSpec = replace(spec, leaf_value=value)
        self.parameters = parameters
        gain = weighed.trees.booster.feature_importance("gain")
        names = data.float_names + tuple(data.id_names[code_map.column] for code_map in weighed.trees.code_maps)
        total = gain.sum() or 1.0
        self.importance = {name: float(g / total) for name, g in zip(names, gain, strict=True) if g > 0}

    def raw_logit(self, encoded: Encoded) -> Float64s:
        """(n,) margins, summed in float64 over the leaves that LightGBM finds."""
        return self._weighed.margins(encoded)
