"""Imported models answer as the trainers that strangers fitted them with."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest

from feature_store.definition import Project, parse_project
from models.calibrator import CalibratorMap, p_click_of
from models.encoder import Block, Side
from models.errors import PlanError
from models.export.graph import core_sha256, with_calibrator
from models.importing import import_graph, publish_imported
from models.plans.choice import PlanChoice
from models.plans.generic import GenericPlan
from models.registry.gate import Gate
from models.registry.predictor import Predictor
from models.registry.registry import Registry
from service.candidates import GivenAds
from tests.foreign import TRAINERS, Exported, answered, catboost, clicks, listing, logistic, random_forest, rows

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


def differences(n_floats: int) -> bytes:
    """A graph that answers the sum of each number minus itself: 0, but for infinite numbers."""
    value, floats = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    nodes = [
        onnx.helper.make_node("Sub", ["features", "features"], ["zeros"]),
        onnx.helper.make_node("ReduceSum", ["zeros", "axis"], ["raw_logit"], keepdims=0),
        onnx.helper.make_node("Identity", ["raw_logit"], ["p_click"]),
    ]
    answers = [value(name, floats, ["n"]) for name in ("raw_logit", "p_click")]
    axis = onnx.numpy_helper.from_array(np.array([1]), "axis")
    graph = onnx.helper.make_graph(nodes, "g", [value("features", floats, ["n", n_floats])], answers, [axis])
    return onnx.helper.make_model(
        graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 21)]
    ).SerializeToString()


def test_a_graph_that_gives_no_probability_is_an_error_and_no_answer(tmp_path: Path) -> None:
    """A NaN among probabilities would be taken for a candidate that was not scored, and is no JSON."""
    registry = published(logistic(), listing(default=0.0), tmp_path)
    predictor = Predictor(registry.get(registry.newest()), PlanChoice(plan="generic"))
    layout = predictor.encoder.layout
    predictor.generic = GenericPlan(differences(layout.n_floats))
    user, ads, context = (
        Block(np.full((n, layout[side].n_floats), np.inf, np.float32), np.zeros((n, layout[side].n_ids), np.uint32))
        for side, n in ((Side.USER, 1), (Side.AD, 3), (Side.CONTEXT, 1))
    )

    with pytest.raises(PlanError, match="the graph gives 3 of 3 rows no probability"):
        predictor.score_ads(user, context, GivenAds(ads))


def test_inputs_named_as_in_a_data_frame_are_fed_by_name(tmp_path: Path) -> None:
    """skl2onnx gives each column an input of its own, whole numbers as int64."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    matrix = rows(4_000, 1)
    matrix[:, 3] = np.rint(matrix[:, 3] * 20)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(matrix, clicks(matrix, 2))
    types = [("price", FloatTensorType([None, 1])), ("taste", FloatTensorType([None, 2])),
             ("hour", Int64TensorType([None, 1])), ("rest", FloatTensorType([None, 2]))]  # fmt: skip
    content = to_onnx(model, initial_types=types).SerializeToString()
    columns = """columns = { taste = "member.taste", rest = ["member.age", "context.slot"],
        price = "banner.price", hour = "context.hour" }
        """.replace("\n", " ")
    exported = Exported(content, lambda asked: model.predict_proba(asked)[:, 1], takes_missing=False)

    registry = published(exported, listing(columns + "\n", default=0.0), tmp_path)

    predictor = registry.load(registry.newest())
    assert predictor.manifest.imported is not None
    assert len(predictor.manifest.imported.filled) == 6
    assert np.abs(answered(predictor, matrix) - exported.predict(matrix)).max() <= AGREED
    assert np.abs(answered(predictor, matrix, generic=True) - exported.predict(matrix)).max() <= AGREED


def test_a_recalibrated_forest_keeps_its_operators(tmp_path: Path) -> None:
    """Its graph is of old operators, behind which a calibrator of ours must still mean what it says."""
    registry = published(random_forest(), listing(default=0.0), tmp_path)
    artifact = registry.get(registry.newest())
    bent = CalibratorMap("piecewise", 0.1, np.array([-2.0, 0.0]), np.array([0.5, 1.2, 0.7]))

    graph = with_calibrator(artifact.graph, 0.0, bent)

    golden = artifact.golden
    scores = GenericPlan(graph).score(golden.features, golden.ids)
    assert core_sha256(graph) == artifact.manifest.core_sha256
    np.testing.assert_array_equal(scores.raw_logit, golden.raw_logit)
    np.testing.assert_allclose(scores.p_click, p_click_of(golden.raw_logit, 0.0, bent), atol=1e-12)
    assert np.isfinite(golden.raw_logit).all()


UNTAUGHT = ("GradientBoosting", "RandomForest")
"""The first was never shown a missing number, the second's converter drops where they go."""


@pytest.mark.parametrize("default", [None, 0.0])
@pytest.mark.parametrize("trainer", ["GradientBoosting", "RandomForest", "HistGradientBoosting", "XGBoost", "LightGBM"])
def test_trees_that_know_nothing_of_missing_numbers_are_told_of(trainer: str, default: float | None) -> None:
    """Their answer to a row with NaN is one, but nobody's; a default for each number keeps such rows away."""
    found = import_graph(
        TRAINERS[trainer]().content, "stranger.onnx", project(listing(default=default)), None, lambda what, share: None
    )

    assert len(found.warnings) == (trainer in UNTAUGHT and default is None)
    assert all("give each a default" in warning for warning in found.warnings)
