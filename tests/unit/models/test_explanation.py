"""Contributions: they add up to the answer, trees give LightGBM's own, and what cannot be known is refused."""

from __future__ import annotations

from dataclasses import replace

import lightgbm
import numpy as np
import pytest
from onnx import numpy_helper

from models.calibrator import CalibratorMap
from models.encoder import Encoded
from models.errors import ExplanationError
from models.explanation.contributions import Contributions, contributions_of, explained, why_unexplainable
from models.explanation.features import by_feature, explained_features
from models.export.graph import export_graph
from models.fitting.category_codes import apply_codes
from models.fitting.lightgbm_text import tree_spec
from models.plans.generic import GenericPlan
from models.plans.source import plan_source
from models.specs import FactorisationMachineSpec, LinearSpec, ModelSpec, TreeEnsembleSpec
from models.trainers import trainer_named
from models.trainers.gbdt import GbdtModel
from tests.learning import ADDITIVE_LEARNERS, made_impressions
from tests.tree_operators import regressor, spec_of

LOG = made_impressions(3_000, seed=1)
NEW = made_impressions(200, seed=2).encoded


def of_graph(spec: ModelSpec, n_features: int = 3, n_ids: int = 2) -> Contributions:
    """From the exported graph and nothing else."""
    graph = export_graph(spec, -1.0, CalibratorMap.identity(), n_features, n_ids)
    return contributions_of(plan_source(graph).spec, n_ids)


@pytest.mark.parametrize("learner", ADDITIVE_LEARNERS)
def test_contributions_add_up_to_what_the_trainer_answers(learner: str) -> None:
    """Of every learner, for rows it never saw, with missing numbers and unseen and missing ids."""
    model = trainer_named(learner).fit(LOG, 3, 1.0, seed=0)

    found = explained(of_graph(model.spec), NEW)

    assert found.contributions.shape == (200, 5)
    np.testing.assert_allclose(found.raw_logit, model.raw_logit(NEW), rtol=0, atol=1e-9)
    np.testing.assert_allclose(
        found.baseline + found.contributions.sum(axis=1), model.raw_logit(NEW), rtol=0, atol=1e-9
    )


def test_the_columns_of_ids_get_what_trees_learnt_from_their_codes() -> None:
    """Trees read numbers in place of hashes; whoever reads an explanation knows the id only."""
    model = trainer_named("gbdt").fit(LOG, 30, 1.0, seed=0)
    assert isinstance(model, GbdtModel)
    codes = apply_codes(model.spec.code_maps, NEW.ids)
    booster = lightgbm.Booster(model_str=model.text)
    wanted = np.asarray(booster.predict(np.hstack([NEW.features, codes]), pred_contrib=True))

    contributions = of_graph(model.spec)
    found = contributions.of(NEW)

    assert contributions.baseline == pytest.approx(wanted[0, -1], abs=1e-9)
    np.testing.assert_allclose(found[:, :3], wanted[:, :3], rtol=0, atol=1e-9)
    for place, code_map in enumerate(model.spec.code_maps):
        np.testing.assert_allclose(found[:, 3 + code_map.column], wanted[:, 3 + place], rtol=0, atol=1e-9)
    assert np.abs(found[:, 3]).max() > 0.1, "the site decides, and its column must say so"


@pytest.mark.parametrize("seed", range(6))
def test_contributions_of_trees_are_lightgbms_own(seed: int) -> None:
    """Its `pred_contrib` is the same method, written by others; up to 60 leaves, deep paths, missing values."""
    random = np.random.default_rng(seed)
    n, n_columns = 3_000, int(random.integers(1, 12))
    features = np.round(random.normal(size=(n, n_columns)), 1).astype(np.float32)
    clicked = random.random(n) < 1 / (1 + np.exp(1 - features[:, 0] * features[:, -1] - np.sin(features.sum(axis=1))))
    missing = random.random(features.shape) < 0.15
    if seed % 2:  # else LightGBM never saw a missing value, and reads one as 0
        features[missing] = np.nan
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 3, "seed": seed}
    leaves = {"num_leaves": int(random.integers(2, 61))}
    booster = lightgbm.train(parameters | leaves, lightgbm.Dataset(features, clicked), int(random.integers(1, 40)))
    asked = np.where(missing, np.float32(np.nan), features)[:200]
    wanted = np.asarray(booster.predict(asked, pred_contrib=True))

    contributions = of_graph(tree_spec(booster.model_to_string(), n_columns, ()), n_columns, 0)
    found = contributions.of(Encoded(asked, np.empty((200, 0), np.int64)))

    assert contributions.baseline == pytest.approx(wanted[0, -1], abs=1e-9)
    np.testing.assert_allclose(found, wanted[:, :-1], rtol=0, atol=1e-9)


def test_covers_change_no_answer() -> None:
    """They stand in an attribute that ONNX Runtime loads and no score depends on."""
    spec = trainer_named("gbdt").fit(LOG, 20, 1.0, seed=0).spec
    assert isinstance(spec, TreeEnsembleSpec)
    with_covers, without = (
        export_graph(some, 0.0, CalibratorMap.identity(), 3, 2) for some in (spec, replace(spec, cover=None))
    )
    read = plan_source(with_covers).spec

    assert isinstance(read, TreeEnsembleSpec)
    assert read.cover is not None
    assert spec.cover is not None
    np.testing.assert_array_equal(read.cover, spec.cover)
    assert read.cover[0] == pytest.approx(0.8 * 3_000, rel=0.05), "the rows that the first tree was grown on"
    for answer, other in zip(GenericPlan(with_covers).score(*NEW), GenericPlan(without).score(*NEW), strict=True):
        np.testing.assert_array_equal(answer, other)


@pytest.mark.parametrize(
    ("hitrates", "is_counted"),
    [
        ([5.0, 2.0, 3.0], True),
        ([1.0, 1.0, 1.0], False),
        ([5.0, 2.0, 2.0], False),
        ([5.0, 0.0, 5.0], False),
        ([np.nan, 2.0, 3.0], False),
        ([5.0, 2.0], False),
        (None, False),
    ],
)
def test_only_covers_that_were_counted_are_taken(hitrates: list[float] | None, is_counted: bool) -> None:
    """Converters write 1 for every node where they know nothing; shares made of that would look like knowledge."""
    spec = spec_of(regressor(nodes_hitrates=hitrates))

    assert (spec.cover is not None) == is_counted
    if not is_counted:
        assert "nodes_hitrates" in (why_unexplainable(spec) or "")
        with pytest.raises(ExplanationError, match="train and publish it again"):
            contributions_of(spec, 0)
        assert "train and publish" not in (why_unexplainable(spec, is_imported=True) or "")


def test_exchanged_branches_keep_their_own_covers() -> None:
    """A test for "greater" is read as its opposite, with left and right exchanged."""
    covers = numpy_helper.from_array(np.array([10.0, 1.0, 9.0]), "t")
    values = numpy_helper.from_array(np.array([0.5, 0.0, 0.0]), "v")
    weights = numpy_helper.from_array(np.array([0.25, 0.75]), "w")
    model = regressor(
        nodes_modes=["BRANCH_GT", "LEAF", "LEAF"],
        nodes_values=None,
        nodes_values_as_tensor=values,
        target_weights=None,
        target_weights_as_tensor=weights,
        nodes_hitrates_as_tensor=covers,
    )

    contributions = contributions_of(spec_of(model), 0)

    assert contributions.baseline == pytest.approx(0.1 * 0.25 + 0.9 * 0.75)
    above, below = contributions.of(Encoded(np.array([[1.0], [0.0]], np.float32), np.empty((2, 0), np.int64)))
    assert [*above, *below] == pytest.approx([0.25 - contributions.baseline, 0.75 - contributions.baseline])


LINEAR = LinearSpec(
    intercept=-1.0,
    mean=np.array([np.log(3.0), 0.0]),
    spread=np.array([2.0, 1.0]),
    slope=np.array([0.3, 0.5]),
    limit=5.0,
    edges=np.array([[0.0, np.inf], [1.0, 2.0]]),
    bin_weights=np.array([[0.1, 0.2, 0.4, 0.8], [0.0, 0.05, 0.06, 0.07]]),
    id_sizes=np.array([4]),
    id_offsets=np.array([0]),
    id_weights=np.array([0.0, 1.0, 2.0, 3.0]),
)


def test_the_baseline_of_a_linear_model_is_a_row_of_averages() -> None:
    """2 is the average of the first number (log 3 in signed logarithms), 0 of the second; hash 4 has weight 0."""
    contributions = of_graph(LINEAR, 2, 1)
    rows = Encoded(np.array([[2.0, 0.0], [2.0, np.nan], [2.0, 1.5]], np.float32), np.array([[4], [4], [6]]))

    found = contributions.of(rows)

    assert contributions.baseline == pytest.approx(-1.0 + 0.4 + 0.05)
    wanted = [[0, 0, 0], [0, -0.05, 0], [0, 0.5 * np.log(2.5) + 0.06 - 0.05, 2.0]]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-7)


def test_what_two_columns_say_together_is_shared_in_halves() -> None:
    """Neither of them could have said it alone."""
    spec = FactorisationMachineSpec(
        replace(LINEAR, slope=np.zeros(2), bin_weights=np.zeros((2, 4)), id_weights=np.zeros(4)),
        number_vectors=np.array([[0.0, 0.0], [2.0, 0.0]]),
        id_vectors=np.array([[0.0, 0.0], [3.0, 1.0], [0.0, 0.0], [0.0, 5.0]]),
    )
    rows = Encoded(np.array([[7.0, np.e - 1], [7.0, np.e - 1]], np.float32), np.array([[1], [3]]))

    found = of_graph(spec, 2, 1).of(rows)

    np.testing.assert_allclose(found, [[0, 3, 3], [0, 0, 0]], rtol=0, atol=1e-6)


def test_the_columns_of_a_vector_are_one_feature() -> None:
    """Nobody reads what the 37th number of an embedding did."""
    features = explained_features(("user.age", "ad.emb[0]", "ad.emb[1]", "pair.fit"), ("ad.brand",))
    contributions = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])

    assert [feature.name for feature in features] == ["user.age", "ad.emb", "pair.fit", "ad.brand"]
    assert by_feature(contributions, features).tolist() == [[1.0, 5.0, 4.0, 5.0]]
