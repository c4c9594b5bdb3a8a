"""Score plans against a plain walk of the model and against ONNX Runtime, on random models and awkward rows.

Every example runs both kernels and, for trees, three distances between stored rows. `plans_agree` is what one example
checks; `tests/proofs/hot_path.py` runs it ten thousand times.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.calibrator import CalibratorMap, p_click_of
from models.encoder import Block, Columns, Encoded, Layout, Side
from models.errors import NoFactorisedForm, PlanError
from models.export.graph import export_graph
from models.fitting.net_margins import net_margins
from models.plans import factorised
from models.plans.agreement import agreement
from models.plans.factorised import FactorisedPlan, factorised_plan
from models.plans.generic import GenericPlan
from models.plans.kernel import KernelName, compiled_kernels_trouble, tree_kernel
from models.plans.parts import AdParts
from models.plans.plan import Scores
from models.plans.source import PlanSource, plan_source
from models.plans.tree_tables import MAX_LEAVES, tree_tables
from models.specs import DeepCrossSpec, TreeEnsembleSpec
from tests.ensembles import RandomModel, ensemble, grown, linear_models, tree_models, walked
from tests.nets import net_models

KERNELS: tuple[KernelName, ...] = ("numpy",) if compiled_kernels_trouble() else ("numpy", "compiled")
STRIDES = (1, 3, 16)
_IDENTITY = CalibratorMap.identity()

many, some = settings(max_examples=150), settings(max_examples=50)


@many
@given(tree_models(exact=True))
def test_exact_trees_are_reproduced_to_the_bit(model: RandomModel) -> None:
    """Where no sum rounds, walk, ONNX Runtime and every plan give one number, so they also give one order."""
    plans_agree(model)


@many
@given(tree_models(exact=False))
def test_any_trees_are_reproduced_within_the_bounds_of_a_proof(model: RandomModel) -> None:
    """ONNX Runtime answers float32; the plans add in double."""
    plans_agree(model)


@many
@given(linear_models())
def test_linear_models_are_reproduced_within_the_bounds_of_a_proof(model: RandomModel) -> None:
    """Lines, bins and tables, with edges at the same awkward points."""
    plans_agree(model)


@some
@given(net_models("two-tower"))
def test_two_towers_are_reproduced_within_the_bounds_of_a_proof(model: RandomModel) -> None:
    """Towers that read numbers, what is missing, hashes, some of these or nothing."""
    plans_agree(model)


@some
@given(net_models("dcn"))
def test_deep_cross_nets_answer_in_onnx_runtime_as_by_hand(model: RandomModel) -> None:
    """They have no other plan, and no part that could be one."""
    margins = np.array(walked(model, model.rows))
    segments = model.calibrator.segments_of(model.rows.features)
    wanted = Scores(margins, p_click_of(margins, model.correction, model.calibrator, segments))
    graph = _graph(model)

    answered = GenericPlan(graph).score(*model.rows)

    assert agreement(wanted, answered).holds
    np.testing.assert_allclose(answered.raw_logit, margins, rtol=1e-12, atol=1e-12)
    if isinstance(model.spec, DeepCrossSpec):
        np.testing.assert_allclose(net_margins(model.spec, model.rows), margins, rtol=1e-12, atol=1e-12)
        with pytest.raises(NoFactorisedForm):
            plan_source(graph)


@many
@given(
    st.one_of(tree_models(exact=True), linear_models(), net_models("two-tower")),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.booleans(),
)
def test_parts_of_all_sides_join_to_the_whole_row(
    model: RandomModel, seed: int, one_user: bool, one_context: bool
) -> None:
    """Users and contexts one each or one for all, ads from base and delta in any order, pairs on top: as whole rows.

    The segment comes from whichever side names it.
    """
    by_side = _sides(model)
    n = len(model.rows.features)
    for side, is_one in ((Side.USER, one_user), (Side.CONTEXT, one_context)):
        by_side[side] = _first(by_side[side]) if is_one else by_side[side]
    random = np.random.default_rng(seed)
    ad_of_pair, split = random.integers(0, n, size=n), int(random.integers(0, n + 1))
    pairs = _pairs_of(model, ad_of_pair, one_user, one_context)

    for plan in plans(plan_source(_graph(model)), model):
        shared = plan.shared(by_side[Side.USER], by_side[Side.CONTEXT])
        kept = plan.part(Side.AD, by_side[Side.AD])
        ads = AdParts(kept[:split].copy(), kept[split:].copy(), split, ad_of_pair)
        with_pairs = AdParts.of(plan.part(Side.PAIR, by_side[Side.PAIR], onto=ads.copied()))

        segments = None
        if plan.segment_side is not None:
            naming = by_side[plan.segment_side]
            is_ad = plan.segment_side is Side.AD
            segments = plan.segments_of(Block(naming.floats[ad_of_pair], naming.ids) if is_ad else naming)

        joined = plan.join(shared, with_pairs, segments)
        without_copy = plan.join(shared, ads, segments) if not model.layout.has_pairs else joined
        whole = plan.score(*pairs)

        np.testing.assert_allclose(joined.p_click, whole.p_click, rtol=1e-12, atol=1e-15, err_msg=plan.name)
        np.testing.assert_allclose(joined.raw_logit, walked(model, pairs), rtol=1e-12, atol=1e-12, err_msg=plan.name)
        np.testing.assert_array_equal(without_copy.raw_logit, joined.raw_logit, err_msg=plan.name)


def test_a_tree_of_65_leaves_is_refused() -> None:
    """Its leaves do not fit into one word, and a wrong mask would be a silent wrong answer."""
    random = np.random.default_rng(0)
    for n_leaves in (MAX_LEAVES, MAX_LEAVES + 1, 200):
        spec = ensemble(random, [grown(random, n_leaves, 1, np.arange(9.0))], 1, (), exact=True)

        if n_leaves == MAX_LEAVES:
            assert tree_tables(spec, 0, 0.0, _IDENTITY, stride=16).word == np.uint64
        else:
            with pytest.raises(PlanError, match=f"at most {MAX_LEAVES}"):
                tree_tables(spec, 0, 0.0, _IDENTITY, stride=16)


@pytest.mark.parametrize("kernel", KERNELS)
def test_tables_over_the_limit_double_their_stride_until_they_fit(
    kernel: KernelName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows grow with the square of the trees. The least doubling is taken, the plan tells it, and answers stay."""
    random = np.random.default_rng(0)
    trees = [grown(random, 31, 3, np.linspace(-1, 1, 50)) for _ in range(200)]
    spec = ensemble(random, trees, 3, (), exact=True)
    nothing = Columns(3, 0, 0, 0)
    layout = Layout((Columns(0, 3, 0, 0), nothing, nothing, nothing))
    source = plan_source(export_graph(spec, 0.0, _IDENTITY, 3, 0))
    rows = Encoded(random.normal(size=(40, 3)).astype(np.float32), np.empty((40, 0), np.int64))
    wanted = factorised_plan(source, layout, kernel).score(*rows)
    at = {s: tree_tables(spec, 0, 0.0, _IDENTITY, stride=s).rows.nbytes for s in (32, 64, 1 << 20)}

    for limit, stride in ((at[32], 32), (at[32] - 1, 64), (at[64], 64)):
        fitted = tree_tables(spec, 0, 0.0, _IDENTITY, stride=16, max_row_bytes=limit)
        monkeypatch.setattr(factorised, "MAX_TABLE_BYTES", limit)
        plan = factorised_plan(source, layout, kernel)

        assert fitted.stride == stride
        assert fitted.rows.nbytes <= limit
        assert plan.name == f"trees, {kernel}, stride {stride}"
        np.testing.assert_array_equal(plan.score(*rows).raw_logit, wanted.raw_logit)

    least = tree_tables(spec, 0, 0.0, _IDENTITY, stride=16, max_row_bytes=0)
    assert least.rows.nbytes == at[1 << 20], "no limit asks for less than two rows of each column"


def plans_agree(model: RandomModel) -> None:
    """Walk, ONNX Runtime, and the plan read from the graph answer alike, in every kernel and stride."""
    margins = np.array(walked(model, model.rows))
    segments = model.calibrator.segments_of(model.rows.features)
    wanted = Scores(margins, p_click_of(margins, model.correction, model.calibrator, segments))
    graph = _graph(model)
    is_exact = isinstance(model.spec, TreeEnsembleSpec) and np.all(model.spec.leaf_value * 1024 % 1 == 0)

    assert agreement(wanted, GenericPlan(graph).score(*model.rows)).holds
    for plan in plans(plan_source(graph), model):
        answered = plan.score(*model.rows)
        if is_exact:
            np.testing.assert_array_equal(answered.raw_logit, margins, err_msg=plan.name)
        else:
            np.testing.assert_allclose(answered.raw_logit, margins, rtol=1e-12, atol=1e-12, err_msg=plan.name)
        np.testing.assert_allclose(answered.p_click, wanted.p_click, rtol=1e-12, atol=1e-15, err_msg=plan.name)
        assert agreement(wanted, answered).inversions == 0, plan.name


def plans(source: PlanSource, model: RandomModel) -> Iterator[FactorisedPlan]:
    """The plan in every kernel, and of trees at every stride."""
    segments = source.calibrator.segments
    for kernel in KERNELS:
        if not isinstance(source.spec, TreeEnsembleSpec):
            yield factorised_plan(source, model.layout, kernel)
            continue
        for stride in STRIDES:
            tables = tree_tables(source.spec, model.layout.n_ids, source.correction, source.calibrator, stride=stride)
            made, neutral = tree_kernel(kernel, tables), int(np.iinfo(tables.word).max)
            name = f"trees, {kernel}, stride {stride}"
            yield FactorisedPlan(made, model.layout, tables.n_trees, tables.word, neutral, name, segments)


def _graph(model: RandomModel) -> bytes:
    return export_graph(model.spec, model.correction, model.calibrator, model.layout.n_floats, model.layout.n_ids)


def _sides(model: RandomModel) -> dict[Side, Block]:
    """The model's rows, column block by column block."""
    return {
        side: Block(
            np.ascontiguousarray(model.rows.features[:, at.first_float : at.first_float + at.n_floats]),
            np.ascontiguousarray(model.rows.ids[:, at.first_id : at.first_id + at.n_ids]).astype(np.uint32),
        )
        for side, at in zip(Side, model.layout.sides, strict=True)
    }


def _pairs_of(model: RandomModel, ad_of_pair: np.ndarray, one_user: bool, one_context: bool) -> Encoded:
    """Whole rows: user and context of the first row or of each, the ads that are named, the pairs as they lie."""
    features, ids = (matrix.copy() for matrix in model.rows)
    first, own = np.zeros_like(ad_of_pair), np.arange(len(ad_of_pair))
    user, context = (first if is_one else own for is_one in (one_user, one_context))
    for side, rows in ((Side.USER, user), (Side.CONTEXT, context), (Side.AD, ad_of_pair)):
        at = model.layout[side]
        floats, hashes = slice(at.first_float, at.first_float + at.n_floats), slice(at.first_id, at.first_id + at.n_ids)
        features[:, floats], ids[:, hashes] = model.rows.features[rows, floats], model.rows.ids[rows, hashes]
    return Encoded(features, ids)


def _first(block: Block) -> Block:
    return Block(block.floats[:1], block.ids[:1])
