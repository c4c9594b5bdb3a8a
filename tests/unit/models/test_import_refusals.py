"""What is not imported, and that the message says why and what to do."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from feature_store.definition import parse_project
from feature_store.errors import SchemaError
from models.encoder import Encoder
from models.errors import ImportRefused
from models.importing import ImportedGraph, import_graph
from models.plans.generic import GenericPlan
from tests.foreign import MATRIX, N_COLUMNS, listing, logistic, random_forest, rows

WEIGHTS = np.linspace(-1, 1, N_COLUMNS, dtype=np.float32)[:, None]


def made(
    nodes: list, outputs: dict[str, list], *, width: int = N_COLUMNS, batch: object = "n", **model: object
) -> bytes:
    """A graph over one matrix `x` and the weights `w`, which need not be valid."""
    weights = numpy_helper.from_array(WEIGHTS, "w")
    graph = helper.make_graph(
        nodes,
        "stranger",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, width])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [weights],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("acme", 1)]
    return helper.make_model(graph, ir_version=10, opset_imports=opsets, **model).SerializeToString()


MARGIN = helper.make_node("MatMul", ["x", "w"], ["margin"])
SIGMOID = helper.make_node("Sigmoid", ["margin"], ["p"])
GOOD = made([MARGIN, SIGMOID], {"p": ["n", 1]})


def imported(
    content: bytes, *, columns: str = MATRIX, default: float | None = 0.0, asked: str | None = None
) -> ImportedGraph:
    project = parse_project(listing(columns, default=default), origin="features.toml")
    return import_graph(content, "stranger.onnx", project, asked, lambda what, share: None)


def test_a_plain_graph_is_imported() -> None:
    """What the refused ones below differ from in one thing."""
    found = imported(GOOD)

    assert found.proof.holds
    assert found.described.form == "original"


def branch(name: str) -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node("Identity", ["margin"], [name])], name, [], [helper.make_tensor_value_info(name, 1, None)]
    )


CONTROL_FLOW = [
    MARGIN,
    helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("yes", TensorProto.BOOL, [], [True])),
    helper.make_node("If", ["yes"], ["chosen"], then_branch=branch("a"), else_branch=branch("b")),
    helper.make_node("Sigmoid", ["chosen"], ["p"]),
]
SOFTMAX_OF_THREE = [
    helper.make_node("Concat", ["x", "x"], ["wide"], axis=1),
    helper.make_node("Softmax", ["wide"], ["p"]),
]


def beside(*nodes: onnx.NodeProto) -> bytes:
    """A sigmoid behind the sum of each row's own margin and `other`, which `nodes` make."""
    sums = [helper.make_node("Add", ["margin", "other"], ["sum"]), helper.make_node("Sigmoid", ["sum"], ["p"])]
    return made([MARGIN, FIRST_AXIS, *nodes, *sums], {"p": ["n", 1]})


ZERO = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
FIRST_AXIS = helper.make_node("Constant", [], ["first_axis"], value=ZERO)

FIRST_AXIS = helper.make_node(
    "Constant", [], ["first_axis"], value=helper.make_tensor("a", TensorProto.INT64, [1], [0])
)
SIZE = [
    helper.make_node("Shape", ["x"], ["size"], end=1),
    helper.make_node("Cast", ["size"], ["rows"], to=TensorProto.FLOAT),
    helper.make_node("Reciprocal", ["rows"], ["other"]),
]
DEPENDENT = {
    "mean of the batch": beside(helper.make_node("ReduceMean", ["margin", "first_axis"], ["other"])),
    "largest of the batch": beside(helper.make_node("ReduceMax", ["margin", "first_axis"], ["other"])),
    "sum of the rows before": beside(helper.make_node("CumSum", ["margin", "first_axis"], ["other"])),
    "number of rows": beside(*SIZE),
}
TWO_ANSWERS = [MARGIN, SIGMOID, helper.make_node("Identity", ["p"], ["q"])]
REFUSED = {
    "raw margin": (made([MARGIN], {"margin": ["n", 1]}), "raw margin or a regression"),
    "two raw columns": (
        made([MARGIN, SIGMOID, helper.make_node("Concat", ["p", "p"], ["both"], axis=1)], {"both": ["n", 2]}),
        "add up to",
    ),
    "multi-class": (made(SOFTMAX_OF_THREE, {"p": ["n", 12]}), "has 12 columns"),
    "custom operator": (
        made([helper.make_node("Magic", ["x"], ["p"], domain="acme")], {"p": ["n", 1]}),
        r"acme\.Magic are of a custom domain",
    ),
    "control flow": (made(CONTROL_FLOW, {"p": ["n", 1]}), "operator If holds an inner graph"),
    "random numbers": (
        made([helper.make_node("RandomUniformLike", ["x"], ["p"])], {"p": ["n", N_COLUMNS]}),
        "draws random numbers",
    ),
    "several outputs": (made(TWO_ANSWERS, {"p": ["n", 1], "q": ["n", 1]}), "such as --probability q;"),
    "one row at a time": (made([MARGIN, SIGMOID], {"p": [1, 1]}, batch=1), "for any number n of rows"),
    "opset from the future": (GOOD.replace(b"\x10\x15", b"\x10\x7f"), r"opset ai\.onnx 127, newer than"),
    "no file of this kind": (b"not an ONNX file", "no ONNX model"),
    "half a file": (GOOD[: len(GOOD) // 2], "ONNX"),
    "nothing": (b"", "no ONNX graph"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_served_truly_is_refused_with_its_reason(case: str) -> None:
    """A wrong number served fast is worse than none."""
    content, reason = REFUSED[case]

    with pytest.raises(ImportRefused, match=reason):
        imported(content)


def test_the_output_that_is_suggested_is_taken() -> None:
    """skl2onnx with zipmap="columns" writes an output for each class; the second one's is the click's."""
    exported = logistic(zipmap="columns")

    with pytest.raises(ImportRefused, match="could each be the probability") as caught:
        imported(exported.content)
    (suggested,) = re.findall(r"such as --probability ([^; ]+)", str(caught.value))
    found = imported(exported.content, asked=suggested)

    asked = rows(100, 5)
    encoder = Encoder(found.inputs)
    features = np.zeros((100, len(encoder.float_names)), dtype=np.float32)
    features[:, [encoder.float_names.index(name) for name in found.described.columns["X"]]] = asked
    scores = GenericPlan(found.graph).score(features, np.zeros((100, len(encoder.id_names)), dtype=np.int64))
    np.testing.assert_allclose(scores.p_click, exported.predict(asked), atol=1e-6)


def double_zipmap() -> bytes:
    """LogisticRegression over doubles, as skl2onnx writes it: its ZipMap takes float32 alone."""
    doubles = helper.make_node("Cast", ["x"], ["doubles"], to=TensorProto.DOUBLE)
    zipped = helper.make_node("ZipMap", ["doubles"], ["p"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    model = onnx.ModelProto.FromString(made([doubles, zipped], {"p": ["n", 2]}))
    model.graph.output[0].type.sequence_type.elem_type.map_type.key_type = TensorProto.INT64
    model.graph.output[0].type.sequence_type.elem_type.map_type.value_type.tensor_type.elem_type = TensorProto.DOUBLE
    return model.SerializeToString()


UNLOADABLE = {
    "a ZipMap of doubles": (double_zipmap(), "'zipmap': False"),
    "a flipped byte in a node mode": (random_forest().content.replace(b"BRANCH_LEQ", b"BRANCH_LEP", 1), "onnx.checker"),
}


@pytest.mark.parametrize("case", UNLOADABLE)
def test_another_opset_is_advised_only_where_the_opset_is_too_new(case: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The runtime's own words say what is wrong, once: nothing of them goes to stderr beside the refusal."""
    content, advice = UNLOADABLE[case]

    with pytest.raises(ImportRefused, match="ONNX Runtime cannot load the graph") as caught:
        imported(content)

    assert advice in str(caught.value)
    assert "opset" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("case", DEPENDENT)
def test_a_graph_whose_answers_depend_on_the_other_rows_is_refused(case: str) -> None:
    """Served, an ad's probability would depend on which other ads were asked about."""
    with pytest.raises(ImportRefused, match="depends on the other rows of the batch"):
        imported(DEPENDENT[case])


def test_weights_in_another_file_are_never_opened(tmp_path: object) -> None:
    """A path in a graph from elsewhere could name any file of this machine."""
    model = onnx.ModelProto.FromString(GOOD)
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="/etc/passwd")

    with pytest.raises(ImportRefused, match="lie in another file, which is not opened"):
        imported(model.SerializeToString())


def test_the_named_one_of_several_outputs_is_taken() -> None:
    """The way out that the refusal names."""
    content = REFUSED["several outputs"][0]

    assert imported(content, asked="q:0").described.output == "q"
    assert imported(content, asked="q").described.column == 0
    with pytest.raises(ImportRefused, match="it has one; say --probability q"):
        imported(content, asked="q:1")
    with pytest.raises(ImportRefused, match="no such output"):
        imported(content, asked="r:0")


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ('columns = ["banner.price", "member.age"]\n', "reads 6 numbers, the list has 2"),
        (MATRIX.replace("member.age", "member.agee"), "did you mean 'member.age'"),
        (MATRIX.replace("member.age", "banner.theme"), "is a category"),
        ('columns = { y = "member.age" }\n', "none is called 'y'"),
        ("", "model.columns: is missing"),
        ("columns = []\n", "expected a list of texts"),
        (MATRIX.replace("member.age", "banner.price"), r"'banner\.price' is named twice.*not named is 'member\.age'"),
        (MATRIX.replace('"member.age"', '"member.taste[0]"'), r"'member\.taste\[0\]' is named twice"),
    ],
)
def test_a_list_that_does_not_fit_the_graph_is_told_with_its_path(columns: str, complaint: str) -> None:
    """A column in the wrong place is the mistake that no proof can find."""
    with pytest.raises(SchemaError, match=complaint):
        imported(GOOD, columns=columns)


def test_a_graph_that_cannot_miss_a_number_needs_defaults() -> None:
    """Rows expire and users are new: without a default its answer would be NaN."""
    with pytest.raises(SchemaError, match=r"has no answer where 'member\.age'"):
        imported(GOOD, default=None)

    assert imported(GOOD, default=2.5).described.filled["member.age"] == 2.5


def named(*names: str, width: int = 1) -> bytes:
    """A graph that reads inputs of these names."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name in names]
    nodes = [
        helper.make_node("Concat", list(names), ["beside"], axis=1),
        helper.make_node("ReduceSum", ["beside", "axis"], ["margin"]),
        SIGMOID,
    ]
    axis = numpy_helper.from_array(np.array([1]), "axis")
    output = helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", 1])
    graph = helper.make_graph(nodes, "stranger", inputs, [output], [axis])
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)]).SerializeToString()


def test_two_inputs_of_one_number_do_not_read_the_same_feature() -> None:
    """Columns of a data frame have names of their own; one written twice is a slip."""
    with pytest.raises(SchemaError, match=r"'member\.age' is named twice"):
        imported(named("a", "b"), columns='columns = { a = "member.age", b = "member.age" }\n')


def test_two_matrices_may_share_features() -> None:
    """As those of a wide and a deep part do."""
    columns = 'columns = { wide = ["member.age", "banner.price"], deep = ["member.age", "context.hour"] }\n'

    assert imported(named("wide", "deep", width=2), columns=columns).proof.holds


@pytest.mark.parametrize("n_inputs", [2, 3, 4, 9])
def test_an_example_says_that_there_are_more_inputs(n_inputs: int) -> None:
    """Whoever pastes three of nine is told so."""
    with pytest.raises(SchemaError, match="name the feature of each: columns") as caught:
        imported(named(*(f"f{i}" for i in range(n_inputs))))

    assert ("…" in str(caught.value)) == (n_inputs > 3)
