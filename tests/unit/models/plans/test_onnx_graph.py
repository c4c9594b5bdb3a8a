"""The reader of ONNX files against the `onnx` package, and against bytes that are no model."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import onnx
import pytest
from google.protobuf.internal.encoder import _VarintBytes
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from models.calibrator import CalibratorMap
from models.errors import PlanError
from models.export.graph import export_graph
from models.plans.onnx_graph import read_graph
from models.plans.source import plan_source
from models.segments import SegmentLines
from models.specs import CodeMap, FactorisationMachineSpec, LinearSpec, TreeEnsembleSpec

TREES = TreeEnsembleSpec(
    n_features=1,
    code_maps=(CodeMap(0, np.array([5, 9]), np.array([-0.5, 0.5], dtype=np.float32)),),
    tree=np.array([0, 0, 0, 1]),
    column=np.array([0, -1, -1, -1]),
    threshold=np.array([0.1, 0, 0, 0.0]),
    left=np.array([1, 0, 0, 0]),
    right=np.array([2, 0, 0, 0]),
    missing_left=np.array([True, False, False, False]),
    leaf_value=np.array([0, 0.25, -0.5, 1.0]),
)
LINEAR = LinearSpec(
    intercept=-1.0,
    mean=np.array([0.5]),
    spread=np.array([2.0]),
    slope=np.array([0.3]),
    limit=5.0,
    edges=np.array([[0.0, np.inf]]),
    bin_weights=np.array([[0.1, 0.2, 0.4, 0.8]]),
    id_sizes=np.array([4]),
    id_offsets=np.array([0]),
    id_weights=np.array([0.0, 1.0, 2.0, 3.0]),
)
MACHINE = FactorisationMachineSpec(
    LINEAR, np.array([[0.5, -1.0]]), np.array([[0.0, 0.1], [1.0, 0.2], [2.0, 0.3], [3.0, 0.4]])
)
PIECEWISE = CalibratorMap("piecewise", 0.1, np.array([-2.0, 0.0, 1.0]), np.array([0.5, 1.2, 0.3, 2.0]))
SEGMENTED = replace(PIECEWISE, segments=SegmentLines(0, np.array([1.0, 0.5]), np.array([0.0, 0.7])))
GRAPHS = tuple(
    export_graph(spec, -0.5, calibrator, 1, 1)
    for spec, calibrator in ((TREES, PIECEWISE), (LINEAR, PIECEWISE), (MACHINE, PIECEWISE), (TREES, SEGMENTED))
)


def model(
    *nodes: onnx.NodeProto, constants: tuple[TensorProto, ...] = (), shape: tuple[int | str, ...] = ("n", 3)
) -> bytes:
    """A serialised model around these nodes, which need not make sense."""
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, shape)]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, [], constants)).SerializeToString()


@pytest.mark.parametrize("graph", GRAPHS, ids=["trees", "linear", "factorisation machine", "segments"])
def test_our_own_graphs_read_as_the_onnx_package_reads_them(graph: bytes) -> None:
    """Every node, attribute, constant and width."""
    wanted = onnx.ModelProto.FromString(graph).graph

    read = read_graph(graph)

    assert [(n.op, n.name, n.inputs, n.outputs) for n in read.nodes] == [
        (n.op_type, n.name, tuple(n.input), tuple(n.output)) for n in wanted.node
    ]
    for node, other in zip(read.nodes, wanted.node, strict=True):
        assert node.attributes.keys() == {attribute.name for attribute in other.attribute}
        for attribute in other.attribute:
            _assert_reads_as(node.attributes[attribute.name], attribute)
    assert read.constants.keys() == {tensor.name for tensor in wanted.initializer}
    for tensor in wanted.initializer:
        np.testing.assert_array_equal(read.constants[tensor.name], numpy_helper.to_array(tensor), strict=True)
    assert read.widths == {"features": 1, "ids": 1}


@pytest.mark.parametrize(
    "value",
    [0.1, 0, 7, -1, -(2**63), 2**63 - 1, "text", "", [0.1, float("nan")], [1, -1, 0], ["a", ""]],
    ids=repr,
)
def test_attributes_of_every_kind_that_is_read(value: object) -> None:
    """As the `onnx` package writes them, which packs numbers in a row or writes them one by one as it likes."""
    node = helper.make_node("Any", ["features"], ["y"], value=value)

    read = read_graph(model(node)).nodes[0].attributes["value"]

    _assert_reads_as(read, node.attribute[0])


def test_a_whole_number_of_zero_may_be_left_out() -> None:
    """Protocol buffers of syntax 3 leave out zeros; ONNX files are written in both syntaxes."""
    node = helper.make_node("Any", ["features"], ["y"])
    node.attribute.append(AttributeProto(name="axis", type=AttributeProto.INT))

    assert read_graph(model(node)).nodes[0].attributes == {"axis": 0}


@pytest.mark.parametrize("packed", [True, False])
def test_lists_packed_and_one_by_one_are_one_list(packed: bool) -> None:
    """A reader of protocol buffers must take both, whatever the schema says."""
    numbers = [0, 1, 127, 128, 300, -1, 2**62]
    varints = [_VarintBytes(number % 2**64) for number in numbers]
    # Field 8, `ints`: wire type 2 with all of them, or wire type 0 with each.
    ints = b"\x42" + _VarintBytes(len(b"".join(varints))) + b"".join(varints)
    each = b"".join(b"\x40" + varint for varint in varints)
    kind = b"\xa0\x01" + _VarintBytes(AttributeProto.INTS)
    attribute = b"\x0a\x04list" + (ints if packed else each) + kind
    node = b"\x22\x03Any" + b"\x2a" + _VarintBytes(len(attribute)) + attribute
    graph = b"\x0a" + _VarintBytes(len(node)) + node

    read = read_graph(b"\x3a" + _VarintBytes(len(graph)) + graph)

    assert read.nodes[0].attributes["list"].tolist() == numbers


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(TensorProto.FLOAT, np.float32), (TensorProto.DOUBLE, np.float64), (TensorProto.INT64, np.int64)],
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0)], ids=str)
def test_constants_raw_and_typed(raw: bool, kind: int, dtype: type, shape: tuple[int, ...]) -> None:
    """Exporters choose freely between bytes and a typed list; empty ones and single numbers keep their shape."""
    values = (np.arange(np.prod(shape, dtype=int)) - 1).astype(dtype).reshape(shape)
    content = values.tobytes() if raw else values.ravel().tolist()
    tensor = helper.make_tensor("c", kind, shape, content, raw=raw)

    read = read_graph(model(constants=(tensor,)))

    if content or raw:
        np.testing.assert_array_equal(read.constants["c"], values, strict=True)
    assert read.constants["c"].shape == shape


@pytest.mark.parametrize("values", [np.array([True, False]), np.array([1, -2], np.int32)], ids=["bool", "int32"])
def test_small_types_are_read_from_bytes(values: np.ndarray) -> None:
    """Masks and short indices; their typed form is one that no exporter of these graphs writes, and is refused."""
    tensor = numpy_helper.from_array(values, "c")
    typed = helper.make_tensor("c", tensor.data_type, values.shape, values.tolist())

    np.testing.assert_array_equal(read_graph(model(constants=(tensor,))).constants["c"], values, strict=True)
    with pytest.raises(PlanError, match="form that no plan reads"):
        read_graph(model(constants=(typed,)))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.STRING, TensorProto.COMPLEX64])
def test_a_constant_of_another_type_is_refused_by_name(kind: int) -> None:
    """A plan never needs one, and a guess at its bytes would be wrong silently."""
    tensor = TensorProto(name="odd", data_type=kind, dims=[1], raw_data=b"\0" * 8)

    with pytest.raises(PlanError, match="constant 'odd' is of a type"):
        read_graph(model(constants=(tensor,)))


def test_values_in_another_file_are_refused() -> None:
    """The reader gets bytes and no folder; an absent value must not become an empty one."""
    tensor = numpy_helper.from_array(np.ones(3), "far")
    onnx.external_data_helper.set_external_data(tensor, "elsewhere.bin")
    tensor.ClearField("raw_data")

    with pytest.raises(PlanError, match="'far'"):
        read_graph(model(constants=(tensor,)))


def test_a_graph_within_a_graph_is_refused_by_name() -> None:
    """Branches and loops have no factorised form."""
    inner = helper.make_graph([], "inner", [], [])

    with pytest.raises(PlanError, match="'then_branch' is of a kind"):
        read_graph(model(helper.make_node("If", ["features"], ["y"], then_branch=inner)))


@pytest.mark.parametrize("shape", [("n", "d"), (3,), ("n", 3, 4), ()], ids=str)
def test_an_input_without_a_known_width_is_left_out(shape: tuple[int | str, ...]) -> None:
    """Whoever needs the width says so; a graph with one more input is no damaged file."""
    assert read_graph(model(shape=shape)).widths == {}


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("Cast", ["a"], ["a"])],
        [helper.make_node("Cast", ["b"], ["a"]), helper.make_node("Cast", ["a"], ["b"])],
        [helper.make_node("Cast", ["features"], ["a"]), helper.make_node("Cast", ["features"], ["a"])],
    ],
    ids=["reads itself", "circle", "made twice"],
)
def test_operators_out_of_order_are_refused(nodes: list[onnx.NodeProto]) -> None:
    """Walking back from the answer would never end."""
    with pytest.raises(PlanError, match="before it is made, or makes"):
        read_graph(model(*nodes))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x3a",
        b"not a model at all",
        b"\x38\x05",  # the graph as a number
        b"\x3a\x02\x08\x05",  # a node as a number
        b"\x3a\x04\x0a\x02\x20\x05",  # an operator's name as a number: bytes(5) would be five zeros
        b"\x3a\x0b\x0a\x09\x20" + b"\xff" * 7 + b"\x7f",  # …or no memory at all
        b"\xff" * 11,
        b"\x3a\x06\x2a\x04\x10\x01\x4a\x00",  # a constant without shape or values
    ],
    ids=lambda content: content.hex() or "empty",
)
def test_bytes_that_are_no_model_are_refused(content: bytes) -> None:
    """One error for all of them, so that the caller leaves the graph to ONNX Runtime."""
    with pytest.raises(PlanError):
        plan_source(content)


@given(st.sampled_from(GRAPHS), st.floats(0, 1, exclude_max=True))
def test_a_truncated_graph_is_refused(graph: bytes, share: float) -> None:
    """At whatever byte of the graph it ends; what follows the graph are version numbers."""
    whole = onnx.ModelProto.FromString(graph)
    whole.ClearField("opset_import")
    content = whole.SerializeToString()

    with pytest.raises(PlanError):
        plan_source(content[: int(share * len(content))])


@settings(max_examples=500)
@given(
    st.sampled_from(GRAPHS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4),
)
def test_a_damaged_graph_is_read_or_refused(graph: bytes, flips: list[tuple[float, int]]) -> None:
    """Nothing else comes out: no other error, no endless walk."""
    damaged = bytearray(graph)
    for place, flip in flips:
        damaged[int(place * len(damaged))] ^= flip

    with suppress(PlanError):
        plan_source(bytes(damaged))


@pytest.mark.parametrize("graph", GRAPHS, ids=["trees", "linear", "factorisation machine", "segments"])
@pytest.mark.parametrize(
    "value", [None, 7, -1, 0.5, "odd", [], [3], [-(2**63)] * 4, [0.5], ["LEAF"], np.ones((2, 2))], ids=repr
)
def test_an_attribute_of_another_kind_is_read_or_refused(graph: bytes, value: object) -> None:
    """A file may be whole and still make no sense; each attribute in turn is taken away or exchanged."""
    whole = onnx.ModelProto.FromString(graph)
    places = [(i, j) for i, node in enumerate(whole.graph.node) for j in range(len(node.attribute))]
    for i, j in places:
        changed = onnx.ModelProto.FromString(graph)
        name = changed.graph.node[i].attribute[j].name
        del changed.graph.node[i].attribute[j]
        if value is not None:
            other = numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
            kind = AttributeProto.INTS if isinstance(value, list) and not value else None
            changed.graph.node[i].attribute.append(helper.make_attribute(name, other, attr_type=kind))

        with suppress(PlanError):
            plan_source(changed.SerializeToString())


@pytest.mark.parametrize("graph", GRAPHS, ids=["trees", "linear", "factorisation machine", "segments"])
@pytest.mark.parametrize(
    "value",
    [np.zeros(0), np.ones(2), np.ones((3, 1)), np.full(1, -1), np.full(1, 2**62), np.array(np.nan)],
    ids=["empty", "two", "table", "below 0", "huge", "NaN"],
)
def test_a_constant_of_another_shape_is_read_or_refused(graph: bytes, value: np.ndarray) -> None:
    """The same for constants: shapes that do not fit each other, indices beyond every table."""
    for i in range(len(onnx.ModelProto.FromString(graph).graph.initializer)):
        changed = onnx.ModelProto.FromString(graph)
        changed.graph.initializer[i].CopyFrom(numpy_helper.from_array(value, changed.graph.initializer[i].name))

        with suppress(PlanError):
            plan_source(changed.SerializeToString())


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_garbage_is_refused(content: bytes) -> None:
    """Random bytes, also behind the first byte of a model."""
    for start in (b"", b"\x3a" + bytes([len(content) % 128])):
        with pytest.raises(PlanError):
            plan_source(start + content)


def _assert_reads_as(read: object, attribute: AttributeProto) -> None:
    wanted = helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.TENSOR:
        np.testing.assert_array_equal(read, numpy_helper.to_array(wanted), strict=True)
    elif attribute.type in (AttributeProto.STRING, AttributeProto.STRINGS):
        texts = (wanted,) if isinstance(wanted, bytes) else wanted
        assert (read if isinstance(read, tuple) else (read,)) == tuple(text.decode() for text in texts)
    else:
        np.testing.assert_array_equal(read, wanted)
