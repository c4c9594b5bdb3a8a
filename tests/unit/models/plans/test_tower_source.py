"""A graph of two towers is read back as it was exported, and one that was changed is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models.calibrator import CalibratorMap
from models.encoder import Columns, Encoded, Layout
from models.errors import PlanError
from models.export.graph import export_graph
from models.plans.derivation import derived_plan
from models.plans.factorised import factorised_plan
from models.plans.generic import GenericPlan
from models.plans.source import PlanSource, plan_source
from models.specs import LinearSpec, NetInputs, TwoTowerSpec
from tests.nets import drawn_net

LAYOUT = Layout((Columns(0, 2, 0, 1), Columns(2, 2, 1, 1), Columns(4, 0, 2, 0), Columns(4, 1, 2, 0)))
NONE = np.empty(0, dtype=np.int64)


def towers(query_ids: tuple[int, ...] = (0,), ad_numbers: tuple[int, ...] = (2, 3)) -> TwoTowerSpec:
    """Over five numbers and two hashes."""
    tables = {"id_sizes": np.array([4, 8]), "id_offsets": np.array([0, 4]), "id_weights": np.arange(12.0)}
    linear = replace(LinearSpec.constant(0.25, 5, 2), **tables)
    query = NetInputs(np.array([0, 1]), np.array([1]), np.array(query_ids, dtype=np.int64), 3)
    ad = NetInputs(np.array(ad_numbers, dtype=np.int64), NONE, np.array([1]), 3)
    spec = drawn_net("two-tower", np.random.default_rng(0), linear, [query, ad])
    assert isinstance(spec, TwoTowerSpec)
    return spec


def graph(spec: TwoTowerSpec) -> bytes:
    return export_graph(spec, 0.0, CalibratorMap.identity(), 5, 2)


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    """The graph with another value of one constant."""
    model = onnx.ModelProto.FromString(graph(towers()))
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == f"core/{name}")
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    return bytes(model.SerializeToString())


def test_towers_are_read_back_to_the_bit() -> None:
    """What was learnt is float32, and stays it."""
    spec = towers()

    found = plan_source(graph(spec)).spec

    assert isinstance(found, TwoTowerSpec)
    np.testing.assert_array_equal(found.id_vectors, spec.id_vectors)
    for mine, theirs in ((found.query, spec.query), (found.ad, spec.ad)):
        assert [c.tolist() for c in (mine.inputs.numbers, mine.inputs.missing, mine.inputs.ids)] == [
            c.tolist() for c in (theirs.inputs.numbers, theirs.inputs.missing, theirs.inputs.ids)
        ]
        for layer in ("hidden", "out"):
            for part in ("weights", "bias"):
                values = getattr(getattr(mine, layer), part)
                np.testing.assert_array_equal(values, getattr(getattr(theirs, layer), part))
                assert values.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("query_numbers_at", lambda at: at + 4, "the query tower reads columns"),
        ("ad_ids_at", lambda at: at - 2, "the ad tower reads columns"),
        ("ad_hidden_weights", lambda w: w[:-1], "of the ad tower, expected"),
        ("query_vector_bias", lambda b: b[:0], "of the query tower, expected"),
        ("id_vectors", lambda v: v[:-1], "a table that ends after the last of 11 vectors"),
        ("id_vectors", lambda v: v.astype(np.float64), "a plan expects a table of float32"),
        ("ad_vector_weights", lambda w: w.astype(np.float64), "a plan expects float32"),
    ],
)
def test_towers_whose_parts_do_not_fit_are_refused(
    name: str, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    """ONNX Runtime would find out while it runs, or read beside the table."""
    with pytest.raises(PlanError, match=message):
        plan_source(changed(name, change))


def test_other_operators_are_refused_by_name() -> None:
    """A tower with another bend would answer otherwise."""
    model = onnx.ModelProto.FromString(graph(towers()))
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Tanh"

    with pytest.raises(PlanError, match=r"Tanh.* beside a linear model are no net that plans know"):
        plan_source(bytes(model.SerializeToString()))


def test_a_tower_that_reads_the_other_side_has_no_plan() -> None:
    """An ad's vector that reads the user cannot be kept."""
    for spec, tower in ((towers(query_ids=(0, 1)), "query"), (towers(ad_numbers=(1, 2)), "ad")):
        with pytest.raises(PlanError, match=f"the {tower} tower reads columns that are not of its own side"):
            factorised_plan(plan_source(graph(spec)), LAYOUT, "numpy")


def test_one_weight_that_differs_is_found() -> None:
    """Whatever was read wrongly, the plan must answer as ONNX Runtime before it serves."""
    spec = towers()
    random = np.random.default_rng(1)
    rows = Encoded(random.normal(size=(50, 5)).astype(np.float32), random.integers(0, 1 << 32, size=(50, 2)))
    reference = GenericPlan(graph(spec))
    source = plan_source(graph(spec))

    honest = derived_plan(source, LAYOUT, "numpy", reference, rows)
    bias = spec.ad.out.bias + np.float32(1e-3)
    other = replace(spec, ad=replace(spec.ad, out=replace(spec.ad.out, bias=bias)))

    assert honest.name == "two towers, numpy"
    with pytest.raises(PlanError, match="answers otherwise"):
        derived_plan(PlanSource(other, source.correction, source.calibrator), LAYOUT, "numpy", reference, rows)
