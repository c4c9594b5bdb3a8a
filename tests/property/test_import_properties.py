"""Whatever dress a foreign graph wears, the import answers as it does."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from feature_store.definition import parse_project
from models.encoder import Encoded, Encoder
from models.importing import import_graph
from models.plans.generic import GenericPlan
from models.plans.source import plan_source
from tests.foreign import N_COLUMNS, listing

NAMES = ["banner.price", "member.taste[0]", "member.taste[1]", "context.hour", "member.age", "context.slot"]
FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64


@st.composite
def classifiers(draw: st.DrawFn) -> NodeProto:
    """A node from `matrix` to `label`, `scores` (n, 2): linear, or trees of depth 1."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        weights, intercept = random.normal(size=N_COLUMNS).astype(np.float32), float(np.float32(random.normal()))
        return helper.make_node(
            "LinearClassifier", ["matrix"], ["label", "scores"], domain="ai.onnx.ml", post_transform="LOGISTIC",
            coefficients=[*(-weights).tolist(), *weights.tolist()], intercepts=[-intercept, intercept],
            classlabels_ints=[0, 1],
        )  # fmt: skip
    n = draw(st.integers(1, 12))
    values = random.normal(size=(n, 2)).astype(np.float32)
    trees = np.repeat(np.arange(n), 3)
    return helper.make_node(
        "TreeEnsembleClassifier", ["matrix"], ["label", "scores"], domain="ai.onnx.ml", post_transform="LOGISTIC",
        nodes_treeids=trees.tolist(), nodes_nodeids=[0, 1, 2] * n,
        nodes_featureids=np.kron(random.integers(0, N_COLUMNS, n), [1, 0, 0]).tolist(),
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"] * n,
        nodes_values=np.kron(random.normal(size=n).astype(np.float32), [1, 0, 0]).tolist(),
        nodes_truenodeids=[1, 0, 0] * n, nodes_falsenodeids=[2, 0, 0] * n,
        nodes_missing_value_tracks_true=np.kron(random.integers(0, 2, n), [1, 0, 0]).tolist(),
        class_treeids=np.repeat(np.arange(n), 2).tolist(), class_nodeids=[1, 2] * n, class_ids=[0] * (2 * n),
        class_weights=values.ravel().tolist(), classlabels_int64s=[0, 1],
    )  # fmt: skip


@st.composite
def dressed(draw: st.DrawFn) -> tuple[bytes, str, str | None]:
    """A graph, the list of its columns, and what must be said of its output."""
    node = draw(classifiers())
    nodes, constants, shuffled = [], [], draw(st.permutations(NAMES))
    form = draw(st.sampled_from(["matrix", "double matrix", "columns", "flat columns"]))
    if "matrix" in form:
        kind = DOUBLE if "double" in form else FLOAT
        inputs = [helper.make_tensor_value_info("x", kind, ["n", N_COLUMNS])]
        nodes.append(helper.make_node("Cast", ["x"], ["matrix"], to=FLOAT))
        columns = f"columns = {list(shuffled)}\n"
    else:
        flat = form.startswith("flat")
        inputs = [helper.make_tensor_value_info(f"f{i}", FLOAT, ["n"] if flat else ["n", 1]) for i in range(N_COLUMNS)]
        constants.append(numpy_helper.from_array(np.array([-1, 1], np.int64), "upright"))
        nodes += [helper.make_node("Reshape", [f"f{i}", "upright"], [f"c{i}"]) for i in range(N_COLUMNS)]
        nodes.append(helper.make_node("Concat", [f"c{i}" for i in range(N_COLUMNS)], ["matrix"], axis=1))
        named = ", ".join(f"f{i} = '{name}'" for i, name in enumerate(shuffled))
        columns = f"columns = {{ {named} }}\n"
    nodes.append(node)
    output, answer = draw(st.sampled_from(["zipmap", "two", "flat", "upright"])), None
    if output == "zipmap":
        nodes.append(helper.make_node("ZipMap", ["scores"], ["out"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]))
        seen = ValueInfoProto(name="out")
        seen.type.sequence_type.elem_type.map_type.key_type = INT64
        seen.type.sequence_type.elem_type.map_type.value_type.tensor_type.elem_type = FLOAT
        answer = draw(st.sampled_from([None, "out:1", "out:0"]))
    elif output == "two":
        nodes.append(helper.make_node("Identity", ["scores"], ["out"]))
        seen, answer = helper.make_tensor_value_info("out", FLOAT, ["n", 2]), draw(st.sampled_from([None, "out:0"]))
    else:
        at = np.array(1 if output == "flat" else [1], np.int64)
        constants.append(numpy_helper.from_array(at, "second"))
        nodes.append(helper.make_node("Gather", ["scores", "second"], ["out"], axis=1))
        seen = helper.make_tensor_value_info("out", FLOAT, ["n"] if output == "flat" else ["n", 1])
    graph = helper.make_graph(nodes, "stranger", inputs, [seen], constants)
    opsets = [helper.make_opsetid("", draw(st.sampled_from([13, 17, 21]))), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, ir_version=10, opset_imports=opsets).SerializeToString(), columns, answer


@settings(deadline=None, max_examples=25)
@given(dressed())
def test_every_dress_of_a_graph_answers_as_the_graph(stranger: tuple[bytes, str, str | None]) -> None:
    """Inputs as a matrix or by name, answers as ZipMap, two columns or one: the proof holds, and holds for all rows."""
    content, columns, asked = stranger
    project = parse_project(listing(columns.replace("'", '"'), default=0.25), origin="features.toml")

    found = import_graph(content, "stranger.onnx", project, asked, lambda what, share: None)

    assert found.proof.holds
    assert found.proof.rows >= 50_000
    encoder = Encoder(found.inputs)
    random = np.random.default_rng(0)
    some = Encoded(
        random.normal(size=(64, len(encoder.float_names))).astype(np.float32),
        np.zeros((64, len(encoder.id_names)), dtype=np.int64),
    )
    scores = GenericPlan(found.graph).score(some.features, some.ids)
    assert np.isfinite(scores.raw_logit).all()
    assert np.all((scores.p_click > 0) & (scores.p_click < 1))
    if found.described.form != "original":
        plan_source(found.graph)  # a model written anew can be read back
