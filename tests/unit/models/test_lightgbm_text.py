"""LightGBM's text as flat trees: walked in NumPy they give LightGBM's own margins."""

from __future__ import annotations

import lightgbm
import numpy as np
import numpy.typing as npt
import pytest

from models.errors import ExportError
from models.fitting.lightgbm_text import tree_spec
from models.specs import TreeEnsembleSpec


def trained(features: npt.NDArray[np.float32], clicked: npt.NDArray[np.bool_], **settings: object) -> lightgbm.Booster:
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "seed": 1, "min_data_in_leaf": 5} | settings
    categorical = [0] if settings.pop("categorical", False) else "auto"
    parameters.pop("categorical", None)
    return lightgbm.train(parameters, lightgbm.Dataset(features, clicked, categorical_feature=categorical), 20)


def walked(spec: TreeEnsembleSpec, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Margins by following one row at a time, the slow and obvious way."""
    roots = np.searchsorted(spec.tree, np.arange(spec.tree[-1] + 1))
    margins = np.zeros(len(features))
    for i, row in enumerate(features.astype(np.float64)):
        for root in roots:
            node = root
            while spec.column[node] >= 0:
                value = row[spec.column[node]]
                left = spec.missing_left[node] if np.isnan(value) else value <= spec.threshold[node]
                node = spec.left[node] if left else spec.right[node]
            margins[i] += spec.leaf_value[node]
    return margins


def made(seed: int, missing: bool) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    features = random.normal(size=(400, 3)).astype(np.float32)
    features[:, 1] = np.round(features[:, 1])
    clicked = random.random(400) < 1 / (1 + np.exp(1 - features[:, 0] - features[:, 1]))
    if missing:
        features[random.random((400, 3)) < 0.2] = np.nan
    return features, clicked


@pytest.mark.parametrize("missing_in_training", [True, False])
def test_flat_trees_give_lightgbms_margins(missing_in_training: bool) -> None:
    """Also for NaN that training never saw: LightGBM then reads it as 0."""
    features, clicked = made(1, missing_in_training)
    booster = trained(features, clicked)
    asked, _ = made(2, missing=True)

    spec = tree_spec(booster.model_to_string(), n_features=3, code_maps=())

    np.testing.assert_allclose(walked(spec, asked), booster.predict(asked, raw_score=True), rtol=0, atol=1e-12)


def test_values_within_lightgbms_zero_are_zero() -> None:
    """A split between negative numbers and 0 has the threshold -1e-35, and LightGBM reads -1e-35 itself as 0."""
    random = np.random.default_rng(0)
    features = random.choice([-1.0, 0.0, 1.0], size=(400, 1)).astype(np.float32)
    booster = trained(features, random.random(400) < 0.3 + 0.3 * features[:, 0])
    edge = np.float32(1e-35)
    around = [np.nextafter(edge, np.float32(0)), edge, np.nextafter(edge, np.float32(1))]
    asked = np.array([0.0, *around, *(-value for value in around)], dtype=np.float32).reshape(-1, 1)

    spec = tree_spec(booster.model_to_string(), n_features=1, code_maps=())

    assert (np.abs(spec.threshold[spec.column >= 0]) < 1e-34).any()
    np.testing.assert_allclose(walked(spec, asked), booster.predict(asked, raw_score=True), rtol=0, atol=1e-12)


def test_a_model_that_never_splits_is_one_leaf() -> None:
    """Constant columns still make a model: the base rate."""
    features, clicked = np.zeros((400, 2), np.float32), np.arange(400) % 4 == 0
    booster = trained(features, clicked)

    spec = tree_spec(booster.model_to_string(), n_features=2, code_maps=())

    np.testing.assert_allclose(walked(spec, features[:1]), [np.log(1 / 3)], atol=1e-9)


def test_categorical_splits_are_refused() -> None:
    """ONNX trees have no faithful form of them for unseen values."""
    random = np.random.default_rng(0)
    features = random.integers(0, 6, size=(400, 2)).astype(np.float32)
    booster = trained(features, features[:, 0] % 2 == 0, categorical=True)

    with pytest.raises(ExportError, match="categorical"):
        tree_spec(booster.model_to_string(), n_features=2, code_maps=())


def test_zero_as_missing_is_refused() -> None:
    """It exports without a word and answers wrong wherever a feature is 0."""
    features, clicked = made(1, missing=False)
    booster = trained(features, clicked, zero_as_missing=True)

    with pytest.raises(ExportError, match="zero_as_missing"):
        tree_spec(booster.model_to_string(), n_features=3, code_maps=())


def test_linear_leaves_are_refused() -> None:
    """A leaf that is a formula is not a number."""
    features, clicked = made(1, missing=False)
    booster = trained(features, clicked, linear_tree=True)

    with pytest.raises(ExportError, match="linear"):
        tree_spec(booster.model_to_string(), n_features=3, code_maps=())
