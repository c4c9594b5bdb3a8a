"""The parity proof: it holds for honest graphs and finds the faults it was made for."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import helper

from models.calibrator import CalibratorMap, Float64s
from models.encoder import Encoded
from models.errors import ExportError
from models.export.graph import core_sha256, export_graph
from models.export.proof import prove, random_rows
from models.plans.agreement import inversions
from models.plans.jumps import jump_rows
from models.random_streams import random_stream
from models.registry.manifest import Proof
from models.specs import TreeEnsembleSpec
from models.trainers import trainer_named
from models.trainers.trainer import TrainedModel
from tests.learning import EVERY_LEARNER, made_impressions

LOG = made_impressions(3_000, seed=1)
CALIBRATOR = CalibratorMap("platt", 0.3, np.empty(0), np.array([0.8]))
TREES = trainer_named("gbdt").fit(LOG, 20, 1.0, seed=0)


def proven(model: TrainedModel, spec: object = None) -> Proof:
    graph = export_graph(spec or model.spec, 0.0, CALIBRATOR, n_features=3, n_ids=2)  # type: ignore[arg-type]
    return prove(graph, model, 0.0, CALIBRATOR, LOG.encoded, seed=0)


@pytest.mark.parametrize("learner", EVERY_LEARNER)
def test_an_honest_graph_is_proven(learner: str) -> None:
    """On 100 000 random rows and at every point where the answer may jump."""
    model = trainer_named(learner).fit(LOG, 3, 1.0, seed=0)

    result = proven(model)

    assert result.holds
    assert result.rows == 100_000
    assert result.threshold_rows >= 3 * sum(len(cuts) for cuts in model.spec.cut_points().values())


def test_thresholds_rounded_to_float32_are_found() -> None:
    """The known fault of common converters: right almost everywhere, wrong exactly at the values that training saw."""
    spec = TREES.spec
    assert isinstance(spec, TreeEnsembleSpec)
    rounded = dataclasses.replace(spec, threshold=spec.threshold.astype(np.float32).astype(np.float64))

    assert not proven(TREES, rounded).holds


def test_a_wrong_way_for_missing_values_is_found() -> None:
    """Random rows carry NaN in every column."""
    spec = TREES.spec
    assert isinstance(spec, TreeEnsembleSpec)
    turned = dataclasses.replace(spec, missing_left=~spec.missing_left)

    assert not proven(TREES, turned).holds


def test_one_wrong_code_of_one_hash_is_found() -> None:
    """Each hash the model knows has its row."""
    spec = TREES.spec
    assert isinstance(spec, TreeEnsembleSpec)
    (first, *others) = spec.code_maps
    codes = first.codes.copy()
    codes[np.argmin(codes)] = codes.max() + 1
    wrong = dataclasses.replace(spec, code_maps=(dataclasses.replace(first, codes=codes), *others))

    assert not proven(TREES, wrong).holds


def test_an_answer_that_depends_on_the_size_of_the_batch_is_found() -> None:
    """Right to 1e-7 among thousands of rows, wrong for an ad that is asked about alone."""
    model = onnx.ModelProto.FromString(export_graph(TREES.spec, 0.0, CALIBRATOR, n_features=3, n_ids=2))
    (last,) = (node for node in model.graph.node if "p_click" in node.output)
    last.output[list(last.output).index("p_click")] = "p_alone"
    model.graph.node.extend(
        [
            helper.make_node("Shape", ["features"], ["size"], end=1),
            helper.make_node("Cast", ["size"], ["rows"], to=onnx.TensorProto.DOUBLE),
            helper.make_node("Constant", [], ["least"], value=helper.make_tensor("c", 11, [], [1e-3])),
            helper.make_node("Div", ["least", "rows"], ["other"]),
            helper.make_node("Add", ["p_alone", "other"], ["p_click"]),
        ]
    )

    result = prove(model.SerializeToString(), TREES, 0.0, CALIBRATOR, LOG.encoded, seed=0)

    assert result.max_p_error == pytest.approx(1e-3, rel=0.01)
    assert not result.holds


def test_a_forgotten_correction_is_found() -> None:
    """The scores order the same, the probabilities lie."""
    graph = export_graph(TREES.spec, 0.0, CALIBRATOR, n_features=3, n_ids=2)

    result = prove(graph, TREES, np.log(0.1), CALIBRATOR, LOG.encoded, seed=0)

    assert not result.holds
    assert result.max_logit_error <= result.logit_bound


def test_the_proof_names_its_core() -> None:
    """Or it could be carried over to another model."""
    graph = export_graph(TREES.spec, 0.0, CALIBRATOR, n_features=3, n_ids=2)

    assert prove(graph, TREES, 0.0, CALIBRATOR, LOG.encoded, seed=0).core_sha256 == core_sha256(graph)


@dataclasses.dataclass
class Forgetful:
    """A trainer's model whose prediction is not a number for some rows."""

    spec: TreeEnsembleSpec
    parameters: dict[str, float | int | str | bool]
    importance: dict[str, float]

    def raw_logit(self, encoded: Encoded) -> Float64s:
        margins = TREES.raw_logit(encoded)
        margins[7] = np.nan
        return margins


def test_a_nan_is_no_small_error() -> None:
    """NaN compares as within every bound; it must count as out of them."""
    result = proven(Forgetful(TREES.spec, {}, {}))  # type: ignore[arg-type]

    assert result.max_logit_error == np.inf
    assert not result.holds


def test_random_rows_know_their_columns() -> None:
    """Seen, beyond, missing; known, unseen, missing: a generator of noise would test one branch only."""
    rows = random_rows(LOG.encoded, TREES.spec, 20_000, random_stream(0, "test"))

    for column in range(3):
        values, seen = rows.features[:, column], LOG.encoded.features[:, column]
        assert 0.05 < np.isnan(values).mean() < 0.25
        assert np.isin(values, seen).mean() > 0.3
        assert (values > np.nanmax(seen)).any()
        assert (values < np.nanmin(seen)).any()
    for column in range(2):
        assert (rows.ids[:, column] == 0).any()
        assert (~np.isin(rows.ids[:, column], LOG.encoded.ids[:, column])).any()
    assert np.isfinite(rows.features[~np.isnan(rows.features)]).all()


def test_huge_columns_make_no_infinities() -> None:
    """The range beyond the largest float32 is cut off: a graph never meets an infinity."""
    huge = Encoded(np.array([[3e38, 0, 0], [-3e38, 0, 0]], np.float32), np.zeros((2, 2), np.int64))

    rows = random_rows(huge, TREES.spec, 1_000, random_stream(0, "test"))

    assert not np.isinf(rows.features).any()


def test_every_cut_has_both_its_neighbours() -> None:
    """One float32 step to either side is where a wrong comparison shows."""
    rows = jump_rows(LOG.encoded, TREES.spec, random_stream(0, "test"))

    for column, cuts in TREES.spec.cut_points().items():
        nearest = cuts.astype(np.float32)
        for value in (np.nextafter(nearest, np.float32(-9)), nearest, np.nextafter(nearest, np.float32(9))):
            assert np.isin(value, rows.features[:, column]).all()


def test_inversions_are_counted_only_between_clearly_different_scores() -> None:
    """Two scores within 1e-6 may change places; three that differ by more may not."""
    reference = np.array([1.0, 1.0 + 5e-7, 2.0, 3.0])

    assert inversions(reference, np.array([1.1, 1.0, 2.0, 3.0])) == 0
    assert inversions(reference, np.array([1.0, 1.0, 3.0, 2.0])) == 1
    assert inversions(reference, np.array([4.0, 1.0, 2.0, 3.0])) == 2


def test_a_proof_without_examples_is_refused() -> None:
    """Nothing is known of the columns then."""
    graph = export_graph(TREES.spec, 0.0, CALIBRATOR, n_features=3, n_ids=2)

    with pytest.raises(ExportError, match="example rows"):
        prove(graph, TREES, 0.0, CALIBRATOR, LOG.encoded._replace(features=np.empty((0, 3), np.float32)), seed=0)
