"""Tree operators read as one form, beside what ONNX Runtime makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from models.errors import PlanError
from models.plans.source import plan_source
from tests.tree_operators import STUMP, TARGETS, answers, classifier, margins, regressor, spec_of

THRESHOLDS = (0.0, -0.0, 1.0, 0.1, -3.5, 1e-45, -1e-45, 3.0e38, -3.0e38)


def around(threshold: float) -> np.ndarray:
    """(n, 1) the nearest float32, one step to either side, two further ones, both zeros, and NaN."""
    nearest = np.float32(threshold)
    beside = [np.nextafter(nearest, np.float32(side)) for side in (-np.inf, np.inf)]
    return np.array([[nearest], *([x] for x in beside), [-5.0], [5.0], [0.0], [-0.0], [np.nan]], dtype=np.float32)


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("tracks_true", [None, 0, 1])
@pytest.mark.parametrize("mode", ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GT", "BRANCH_GTE"])
def test_every_comparison_branches_as_in_onnx_runtime(mode: str, tracks_true: int | None, threshold: float) -> None:
    """At the threshold, one step beside it, at both zeros, and for a missing value that may follow either branch."""
    tracking = None if tracks_true is None else [tracks_true, 0, 0]
    model = regressor(
        nodes_modes=[mode, "LEAF", "LEAF"],
        nodes_values=[threshold, 0.0, 0.0],
        nodes_missing_value_tracks_true=tracking,
    )
    rows = around(threshold)

    given = margins(spec_of(model), rows)

    np.testing.assert_array_equal(given, answers(model, rows)[:, 0])


@pytest.mark.parametrize("mode", ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GT", "BRANCH_GTE"])
def test_infinite_thresholds_branch_as_in_onnx_runtime(mode: str) -> None:
    """Some libraries mark "always" and "never" by them."""
    for threshold in (np.inf, -np.inf):
        model = regressor(nodes_modes=[mode, "LEAF", "LEAF"], nodes_values=[threshold, 0.0, 0.0])
        rows = around(1.0)

        np.testing.assert_array_equal(margins(spec_of(model), rows), answers(model, rows)[:, 0])


@pytest.mark.parametrize("mode", ["BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER"])
def test_equality_and_membership_are_refused_by_name(mode: str) -> None:
    """They have no threshold to sort by; the reason says which test it was."""
    with pytest.raises(PlanError, match=f"tests \\['{mode}'\\] \\(equality, membership\\) have no thresholds"):
        spec_of(regressor(nodes_modes=[mode, "LEAF", "LEAF"]))


@pytest.mark.parametrize(
    ("attributes", "aggregate"),
    [
        ({}, "SUM"),
        ({"base_values": [0.5]}, "SUM"),
        ({"base_values": [0.5]}, "AVERAGE"),
        ({}, "AVERAGE"),
        ({"target_nodeids": [1], "target_weights": [0.25], "target_treeids": [0], "target_ids": [0]}, "SUM"),
    ],
    ids=["sum", "base value", "average with base value", "average", "a leaf without value"],
)
def test_leaves_add_up_as_in_onnx_runtime(attributes: dict[str, Any], aggregate: str) -> None:
    """Two trees; an average divides the leaves and not the base value."""
    lists = {n: v for n, v in (STUMP | TARGETS | attributes).items() if n.startswith(("nodes_", "target_"))}
    second = {name: [1] * len(values) if name.endswith("treeids") else values for name, values in lists.items()}
    twice = {name: values + second[name] for name, values in lists.items()}
    base = {name: value for name, value in attributes.items() if name == "base_values"}
    model = regressor(**twice, **base, aggregate_function=aggregate)
    rows = around(0.5)

    np.testing.assert_allclose(margins(spec_of(model), rows), answers(model, rows)[:, 0], rtol=1e-7)


def test_double_tensors_keep_their_thresholds() -> None:
    """0.1 lies below its nearest float32, which therefore goes right."""
    model = regressor(
        nodes_values=None,
        target_weights=None,
        nodes_values_as_tensor=numpy_helper.from_array(np.array([0.1, 0.0, 0.0]), "t"),
        target_weights_as_tensor=numpy_helper.from_array(np.array([0.25, 1 / 3]), "w"),
    )

    spec = spec_of(model)

    assert spec.threshold[0] == 0.1
    assert spec.leaf_value.tolist() == [0.0, 0.25, 1 / 3]
    assert margins(spec, np.array([[0.1]], np.float32)).tolist() == [1 / 3]


@pytest.mark.parametrize("post_transform", ["NONE", "LOGISTIC"])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"class_weights": [0.25, 0.75]},
        {"base_values": [0.5]},
        {"class_ids": [1, 1]},
        {"class_ids": [1, 1], "class_weights": [0.25, 0.75]},
        {"classlabels_int64s": None, "classlabels_strings": ["no", "yes"]},
    ],
    ids=["first class", "all weights above 0", "base value", "second class", "second class above 0", "text labels"],
)
def test_a_classifiers_margin_is_the_score_of_its_second_class(attributes: dict[str, Any], post_transform: str) -> None:
    """However ONNX Runtime fills the first column: 1 - s, -s or 0. The margin is what comes before the sigmoid."""
    model = classifier(**attributes, post_transform=post_transform)
    rows = around(0.5)

    margin = margins(spec_of(model), rows)

    wanted = margin if post_transform == "NONE" else 1 / (1 + np.exp(-margin))
    np.testing.assert_allclose(answers(model, rows)[:, 1], wanted, rtol=1e-6)


@pytest.mark.parametrize(
    "attributes",
    [
        {"class_ids": [0, 1]},
        {"classlabels_int64s": [0, 1, 2]},
        {"classlabels_int64s": [1]},
        {"class_ids": [2, 2]},
        {"base_values": [0.1, 0.2]},
        {"class_ids": [1, 1], "base_values": [0.1]},
    ],
    ids=["both classes", "three labels", "one label", "no such class", "two base values", "base of an empty class"],
)
def test_a_classifier_of_another_form_is_refused(attributes: dict[str, Any]) -> None:
    """ONNX Runtime gives each of these a meaning of its own, or ignores a part of it; none is one margin."""
    with pytest.raises(PlanError, match="several"):
        spec_of(classifier(**attributes))


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"n_targets": 2}, "several numbers"),
        ({"target_ids": [0, 1]}, "several numbers"),
        ({"base_values": [0.1, 0.2]}, "several base values"),
        ({"aggregate_function": "MAX"}, "only the MAX counts"),
        ({"nodes_values": [float("nan"), 0.0, 0.0]}, "threshold is NaN"),
        ({"nodes_featureids": [1, 0, 0]}, r"columns \[1\], there are 1"),
        ({"nodes_featureids": [-1, 0, 0]}, r"columns \[-1\]"),
        ({"nodes_featureids": [2**31, 0, 0]}, "there are 1"),
        ({"nodes_modes": ["BRANCH_LEQ", "LEAF"]}, "different lengths"),
        ({"nodes_modes": None}, "no list of texts 'nodes_modes'"),
        ({"nodes_treeids": None}, "no list of numbers 'nodes_treeids'"),
        ({"nodes_values": None}, "no list of numbers 'nodes_values'"),
        ({"nodes_truenodeids": [7, 0, 0]}, "does not have"),
        ({"nodes_truenodeids": [-1, 0, 0]}, "does not have"),
        ({"nodes_truenodeids": [2**62, 0, 0]}, "does not have"),
        ({"nodes_truenodeids": [0, 0, 0]}, "form no trees"),
        ({"nodes_truenodeids": [2, 0, 0]}, "form no trees"),
        ({"nodes_nodeids": [0, 1, 1]}, "one number"),
        ({"nodes_nodeids": [0, 1, -2]}, "numbers that no node has"),
        ({"nodes_nodeids": [0, 1, 2**62]}, "numbers that no node has"),
        ({"nodes_nodeids": [2, 1, 0], "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [0, 0, 0]}, "root first"),
        ({"nodes_treeids": [0, 1, 0]}, "one piece"),
        ({"nodes_treeids": [0, 0, 1]}, "does not have"),
        ({"target_nodeids": [1, 1]}, "two values"),
        ({"target_nodeids": [1, 0]}, "a split carries a value"),
        ({"target_nodeids": [1, 9]}, "does not have"),
        ({"target_treeids": [0, 5]}, "does not have"),
        ({"target_weights": [0.25]}, "1 values of leaves for 2 trees"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_an_operator_that_is_no_sum_of_trees_is_refused(attributes: dict[str, Any], reason: str) -> None:
    """With the reason; ONNX Runtime refuses some of these and answers something to others."""
    with pytest.raises(PlanError, match=reason):
        spec_of(regressor(**attributes))


def test_nodes_in_a_circle_beside_the_tree_are_refused() -> None:
    """Each has one parent and the root has none, so counting parents alone would let them pass."""
    with pytest.raises(PlanError, match="form no trees"):
        spec_of(
            regressor(
                nodes_treeids=[0] * 5,
                nodes_nodeids=[0, 1, 2, 3, 4],
                nodes_featureids=[0] * 5,
                nodes_modes=["LEAF", "BRANCH_LEQ", "LEAF", "BRANCH_LEQ", "LEAF"],
                nodes_values=[0.0] * 5,
                nodes_truenodeids=[0, 3, 0, 1, 0],
                nodes_falsenodeids=[0, 2, 0, 4, 0],
                target_nodeids=[0, 2],
            )
        )


def listed_in(order: list[int]) -> onnx.ModelProto:
    """Two stumps, of trees 0 and 7, their nodes listed in another order; the margins are 5, 9 and 10."""
    nodes = {name: values * 2 for name, values in STUMP.items()}
    nodes |= {"nodes_treeids": [0, 0, 0, 7, 7, 7], "nodes_values": [0.5, 0.0, 0.0, -1.0, 0.0, 0.0]}
    targets = {name: values * 2 for name, values in TARGETS.items() if name != "n_targets"}
    targets |= {"target_treeids": [0, 0, 7, 7], "target_weights": [1.0, 2.0, 4.0, 8.0]}
    return regressor(**{name: [values[i] for i in order] for name, values in nodes.items()}, **targets)


TWO_STUMPS_AT = np.array([[-2.0], [0.0], [1.0], [np.nan]], np.float32)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [3, 4, 5, 0, 1, 2], [0, 2, 1, 3, 5, 4]], ids=str)
def test_trees_may_be_listed_in_any_order_and_nodes_behind_their_root(order: list[int]) -> None:
    """ONNX Runtime goes by names then, and so does a plan."""
    model = listed_in(order)

    given = margins(spec_of(model), TWO_STUMPS_AT)

    assert given.tolist() == answers(model, TWO_STUMPS_AT)[:, 0].tolist() == [5.0, 9.0, 10.0, 10.0]


@pytest.mark.parametrize("order", [[0, 3, 1, 4, 2, 5], [1, 0, 2, 3, 4, 5]], ids=["trees mixed", "root not first"])
def test_nodes_listed_before_their_root_or_among_another_tree_are_refused(order: list[int]) -> None:
    """ONNX Runtime takes the first node of each run for a root and answers no sum of trees; no plan could agree."""
    model = listed_in(order)

    with pytest.raises(PlanError, match="one piece with its root first"):
        spec_of(model)
    assert answers(model, TWO_STUMPS_AT)[:, 0].tolist() != [5.0, 9.0, 10.0, 10.0]


def test_a_transformed_answer_is_no_margin() -> None:
    """A plan calibrates the margin; taking a probability for it would be wrong everywhere."""
    model = regressor(post_transform="LOGISTIC")
    model.graph.node[0].output[0] = "raw_logit"
    constants = {"correction": 0.0, "slope": 1.0, "offset": 0.0}
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v), n) for n, v in constants.items())
    for op, inputs, output in (
        ("Add", ["raw_logit", "correction"], "corrected"),
        ("Mul", ["corrected", "slope"], "sloped"),
        ("Add", ["sloped", "offset"], "line"),
        ("Sigmoid", ["line"], "p_click"),
    ):
        model.graph.node.append(helper.make_node(op, inputs, [output]))

    with pytest.raises(PlanError, match="after LOGISTIC"):
        plan_source(model.SerializeToString())
