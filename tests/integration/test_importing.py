"""Imported models answer as the trainers that strangers fitted them with."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from feature_store.definition import Project, parse_project
from models.importing import import_graph, publish_imported
from models.plans.choice import PlanChoice
from models.registry.gate import Gate
from models.registry.predictor import Predictor
from models.registry.registry import Registry
from tests.foreign import TRAINERS, Exported, answered, catboost, listing, rows

pytestmark = pytest.mark.filterwarnings("ignore")  # converters and trainers warn about each other

PLANS = {
    "LogisticRegression": "linear",
    "GradientBoosting": "trees",
    "RandomForest": "generic",
    "HistGradientBoosting": "trees",
    "XGBoost": "trees",
    "LightGBM": "trees",
}
AGREED = 1e-6


def project(text: str) -> Project:
    return parse_project(text, origin="features.toml")


def published(exported: Exported, text: str, folder: Path) -> Registry:
    registry = Registry(folder / "registry")
    found = import_graph(exported.content, "stranger.onnx", project(text), None, lambda what, share: None)
    publish_imported(found, registry, Gate(), created_ms=1)
    return registry


def check(exported: Exported, folder: Path, plan: str) -> None:
    registry = published(exported, listing(default=None if exported.takes_missing else 0.0), folder)
    artifact = registry.get(registry.newest())
    predictor = Predictor(artifact)
    asked = rows(10_000, 77, missing=0.1 if exported.takes_missing else 0.0)

    wanted = exported.predict(asked)

    assert predictor.plan.name.startswith(plan)
    assert np.abs(answered(predictor, asked) - wanted).max() <= AGREED
    assert np.abs(answered(predictor, asked, generic=True) - wanted).max() <= AGREED
    assert Predictor(artifact, PlanChoice(plan="generic")).plan.name == "generic, onnxruntime"


@pytest.mark.parametrize("zipmap", [True, False], ids=["zipmap", "two columns"])
@pytest.mark.parametrize("trainer", TRAINERS)
def test_an_import_answers_as_its_trainer_does(trainer: str, zipmap: bool, tmp_path: Path) -> None:
    """The promise: |Δp| ≤ 1e-6 on 10 000 rows, with missing numbers where the trainer takes them."""
    if trainer == "XGBoost" and zipmap:
        pytest.skip("its converter writes no ZipMap")

    exported = TRAINERS[trainer](zipmap=zipmap)

    check(exported, tmp_path, PLANS[trainer])


def test_an_import_answers_as_catboost_does(tmp_path: Path) -> None:
    """Its export gives each class a margin of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("catboost", reason="catboost is no dependency; install it to run this test")

    check(catboost(tmp_path), tmp_path, "trees")
