"""Trees of other libraries, converted by the usual converters: the plan answers as ONNX Runtime does.

Needs onnxmltools and skl2onnx, and XGBoost for its own trees; without them these tests are skipped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from models.plans.agreement import LOGIT_BOUND
from models.plans.kernel import KernelName, compiled_kernels_trouble
from tests.tree_operators import alone, answers, margins, rows_at_jumps, spec_of

N_FEATURES = 4
KERNELS: tuple[KernelName, ...] = ("numpy",) if compiled_kernels_trouble() else ("numpy", "compiled")
IGNORED = pytest.mark.filterwarnings("ignore")
"""What converters and learners warn about is between the two."""


def made_rows() -> tuple[np.ndarray, np.ndarray]:
    """2 000 rows of 4 numbers, one of them whole, and a label that depends on two."""
    random = np.random.default_rng(0)
    x = random.normal(size=(2_000, N_FEATURES)).astype(np.float32)
    x[:, 3] = x[:, 3].round()
    return x, (x[:, 0] + np.sin(3 * x[:, 1]) + random.normal(size=len(x)) > 0).astype(np.int64)


ROWS, CLICKED = made_rows()
WITH_HOLES = np.where(np.random.default_rng(1).random(ROWS.shape) < 0.1, np.float32(np.nan), ROWS)


def lightgbm_model(objective: str, **parameters: Any) -> onnx.ModelProto:
    """50 trees of 31 leaves, through onnxmltools."""
    lightgbm = pytest.importorskip("lightgbm")
    onnxmltools = pytest.importorskip("onnxmltools", reason="onnxmltools converts LightGBM's trees")
    settings = {"objective": objective, "num_leaves": 31, "verbosity": -1, "num_threads": 1} | parameters
    booster = lightgbm.train(settings, lightgbm.Dataset(WITH_HOLES, CLICKED), 50)
    return onnxmltools.convert_lightgbm(booster, initial_types=_types(), zipmap=False, target_opset=15)


def xgboost_model(name: str, **parameters: Any) -> onnx.ModelProto:
    """30 trees of depth 5, through onnxmltools."""
    xgboost = pytest.importorskip("xgboost", reason="xgboost makes the trees")
    onnxmltools = pytest.importorskip("onnxmltools", reason="onnxmltools converts XGBoost's trees")
    learner = getattr(xgboost, name)(n_estimators=30, max_depth=5, n_jobs=1, **parameters)
    return onnxmltools.convert_xgboost(learner.fit(WITH_HOLES, CLICKED), initial_types=_types(), target_opset=15)


def sklearn_model(name: str, **parameters: Any) -> onnx.ModelProto:
    """Through skl2onnx."""
    ensemble = pytest.importorskip("sklearn.ensemble")
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx converts scikit-learn's trees")
    learner = getattr(ensemble, name)(random_state=0, **parameters)
    return skl2onnx.to_onnx(learner.fit(ROWS, CLICKED), ROWS[:1], target_opset=15)


def _types() -> list[tuple[str, object]]:
    types = pytest.importorskip("onnxmltools.convert.common.data_types", reason="onnxmltools names the input types")
    return [("features", types.FloatTensorType([None, N_FEATURES]))]


@IGNORED
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("make", "name", "parameters"),
    [
        (lightgbm_model, "binary", {}),
        (lightgbm_model, "binary", {"use_missing": False}),
        (lightgbm_model, "regression", {}),
        (xgboost_model, "XGBClassifier", {}),
        (xgboost_model, "XGBClassifier", {"base_score": 0.2}),
        (xgboost_model, "XGBClassifier", {"tree_method": "exact"}),
        (xgboost_model, "XGBRegressor", {}),
        (sklearn_model, "GradientBoostingClassifier", {"n_estimators": 30}),
        (sklearn_model, "GradientBoostingRegressor", {"n_estimators": 30}),
        (sklearn_model, "HistGradientBoostingClassifier", {"max_iter": 30}),
        (sklearn_model, "HistGradientBoostingRegressor", {"max_iter": 30}),
        (sklearn_model, "RandomForestClassifier", {"n_estimators": 20, "max_leaf_nodes": 32}),
        (sklearn_model, "RandomForestRegressor", {"n_estimators": 20, "max_leaf_nodes": 32}),
        (sklearn_model, "ExtraTreesRegressor", {"n_estimators": 10, "max_leaf_nodes": 64}),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_converted_trees_are_reproduced_at_every_jump(
    make: Any, name: str, parameters: dict[str, Any], kernel: KernelName
) -> None:
    """At each threshold, one step beside it, and where values are missing; ONNX Runtime adds in float32 here."""
    model = alone(make(name, **parameters), N_FEATURES)
    spec = spec_of(model, N_FEATURES)
    rows = rows_at_jumps(spec, ROWS)

    given = margins(spec, rows, kernel)

    wanted = answers(model, rows)[:, -1]
    assert len(rows) > 2 * len(ROWS)
    assert np.max(np.abs(given - wanted) / np.maximum(1.0, np.abs(wanted))) <= LOGIT_BOUND


@IGNORED
def test_a_converted_graph_does_not_say_that_zeros_were_missing() -> None:
    """Why `zero_as_missing` is refused by the trainer and by `lightgbm_text`: no reader of the graph could see it."""
    plain, zeros = (lightgbm_model("binary", zero_as_missing=zeros) for zeros in (False, True))

    kinds = [{node.op_type for node in model.graph.node} for model in (plain, zeros)]

    assert kinds[0] == kinds[1]
    assert spec_of(alone(zeros, N_FEATURES), N_FEATURES).n_features == N_FEATURES
