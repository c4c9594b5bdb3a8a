"""Somebody else's ONNX file: whether it may be run at all, and what it answers.

A graph from elsewhere is a program. It is run only where every operator is one of ONNX's own, reads nothing but its
inputs and the file itself, and has no inner graph: those can be neither looped nor told to open a file. The file is
parsed from its bytes, so that weights "in another file" are never looked for.

The original is then run as it is, in ONNX Runtime, and is the reference of every proof of an import. Only the number of
its file format is lowered where it is newer than ONNX Runtime reads: it says nothing about the meaning of operators.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # onnx brings it, without types
from onnx import helper
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from models.errors import ImportRefused, PlanError
from models.export.graph import IR_VERSION, OPSET
from models.plans.generic import opened_session

Array = npt.NDArray[Any]

STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_DEFAULT_DOMAINS = ("", "ai.onnx")
_DTYPES: dict[str, type[np.number[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_RUN_ERRORS = (ort_errors.Fail, ort_errors.InvalidArgument, ort_errors.RuntimeException, ort_errors.NotImplemented)
_GRAPH_KINDS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


class ForeignInput(NamedTuple):
    """One input. width: its columns; None where the graph does not say. flat: (n,) instead of (n, w)."""

    name: str
    dtype: type[np.number[Any]]
    width: int | None
    flat: bool

    @property
    def is_whole(self) -> bool:
        """Whether it reads whole numbers, none of which can say "missing"."""
        return issubclass(self.dtype, np.integer)


class Answers(NamedTuple):
    """What an output said of n rows. columns: (n, c) float64. labels: the class of each, where classes are named."""

    columns: npt.NDArray[np.float64]
    labels: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Producer:
    """Who wrote the file."""

    name: str
    version: str

    def described(self) -> str:
        """`skl2onnx 1.20.0`."""
        return f"{self.name or 'an unnamed converter'} {self.version}".strip()


class ForeignGraph:
    """A graph that may be run, in ONNX Runtime."""

    def __init__(self, content: bytes) -> None:
        """Raises ImportRefused where the bytes are no graph, or one that is not run here."""
        self.model = _parsed(content)
        _refuse_unsafe(self.model)
        self.producer = Producer(self.model.producer_name, self.model.producer_version)
        self.content = content
        if self.model.ir_version > IR_VERSION:
            self.model.ir_version = IR_VERSION
            self.content = self.model.SerializeToString()
        try:
            self._session = opened_session(self.content, quiet=True)  # what it would write, the refusal says
        except PlanError as error:
            said = " ".join(str(error).split())  # the runtime's own words may go over several lines
            raise ImportRefused(f"{said.removesuffix('.')}; {_way_out(self.model, said)}") from error
        self.inputs = tuple(_input(tensor) for tensor in self._session.get_inputs())
        self.outputs = tuple(tensor.name for tensor in self._session.get_outputs() if _may_answer(tensor))
        """Those that could hold probabilities: real numbers, or a number by class."""
        self.other_outputs = tuple(
            tensor.name for tensor in self._session.get_outputs() if tensor.name not in self.outputs
        )

    def answers(self, output: str, fed: Mapping[str, Array]) -> Answers:
        """What one output says.

        Args:
            fed: every input.
        Raises:
            ImportRefused: ONNX Runtime cannot run these rows, or the output is no vector and no matrix.
        """
        try:
            (answer,) = self._session.run([output], dict(fed))
        except _RUN_ERRORS as error:
            raise ImportRefused(f"ONNX Runtime cannot run the graph: {str(error).splitlines()[0]}") from error
        if isinstance(answer, list):  # ZipMap: a dictionary for each row
            labels = tuple(answer[0]) if answer else ()
            return Answers(np.array([[row[label] for label in labels] for row in answer], dtype=np.float64), labels)
        matrix = np.asarray(answer, dtype=np.float64)
        n = len(next(iter(fed.values())))
        if matrix.ndim == 1:
            matrix = matrix[:, None]
        if matrix.ndim != 2 or len(matrix) != n:
            raise ImportRefused(
                f"output {output!r} has shape {np.shape(answer)} for {n} rows; export a graph that answers (n,) or "
                "(n, 2) for any number of rows"
            )
        return Answers(matrix, ())


def _parsed(content: bytes) -> onnx.ModelProto:
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ImportRefused(
            f"the file is no ONNX model, or a damaged one ({error}); export it again, and copy it as binary"
        ) from error
    if not model.graph.node:
        raise ImportRefused("the file holds no ONNX graph; export the model again")
    return model


def _opsets(model: onnx.ModelProto) -> list[Any]:
    return list({(imported.domain, imported.version): imported for imported in model.opset_import}.values())


def _way_out(model: onnx.ModelProto, said: str) -> str:
    """What to do about a graph that ONNX Runtime does not load."""
    too_new = [
        f"{imported.domain or 'ai.onnx'} {imported.version}" for imported in _opsets(model) if not _is_taken(imported)
    ]
    if too_new:
        return (
            f"it is written in opset {', '.join(too_new)}, newer than this version of ONNX Runtime takes: export it "
            'again with an older target_opset, such as {"": 21, "ai.onnx.ml": 3}'
        )
    if "ZipMap" in said:  # skl2onnx puts it behind double probabilities, though it takes float32 alone
        return "its ZipMap stands in the way: export it again without (skl2onnx: options={'zipmap': False})"
    return "check the file with onnx.checker, copy it as binary, or export it again"


def _is_taken(opset: Any) -> bool:
    """Whether ONNX Runtime loads the smallest graph of that opset."""
    shape = helper.make_tensor_value_info
    smallest = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "smallest", [shape("x", 1, ["n"])], [shape("y", 1, ["n"])]
    )
    asked = [helper.make_opsetid(opset.domain, opset.version)]
    if opset.domain not in _DEFAULT_DOMAINS:
        asked.append(helper.make_opsetid("", OPSET))
    model = helper.make_model(smallest, ir_version=IR_VERSION, opset_imports=asked)
    try:
        opened_session(model.SerializeToString(), quiet=True)
    except PlanError:
        return False
    return True


def _refuse_unsafe(model: onnx.ModelProto) -> None:
    """Raises ImportRefused where the graph could do anything but arithmetic on its inputs."""
    nodes, tensors = list(model.graph.node), list(model.graph.initializer)
    custom = Counter(f"{node.domain}.{node.op_type}" for node in nodes if node.domain not in STANDARD_DOMAINS)
    if custom:
        raise ImportRefused(
            f"operators {', '.join(sorted(custom))} are of a custom domain and not run: their code is not part of "
            "ONNX; export with standard operators only (ai.onnx, ai.onnx.ml)"
        )
    if model.functions:
        names = sorted(function.name for function in model.functions)
        raise ImportRefused(
            f"it defines functions of its own ({', '.join(names)}); inline them with onnx.inliner."
            "inline_local_functions and import the result"
        )
    for node in nodes:
        if any(attribute.type in _GRAPH_KINDS for attribute in node.attribute):
            raise ImportRefused(
                f"operator {node.op_type} holds an inner graph (a branch or a loop) and is not run: how long it "
                "takes depends on its input; export a graph without control flow"
            )
        if node.op_type in _RANDOM:
            raise ImportRefused(f"operator {node.op_type} draws random numbers; export the model for inference")
        tensors += [attribute.t for attribute in node.attribute if attribute.type == onnx.AttributeProto.TENSOR]
        tensors += [tensor for attribute in node.attribute for tensor in attribute.tensors]
    outside = [t.name for t in tensors if t.data_location == onnx.TensorProto.EXTERNAL or t.external_data]
    if outside:
        raise ImportRefused(
            f"weights {', '.join(outside[:3])} lie in another file, which is not opened; save the model as one file "
            "with onnx.save(onnx.load(FILE), OTHER, save_as_external_data=False)"
        )
    if model.graph.sparse_initializer:
        raise ImportRefused("it holds sparse weights; export it with dense ones")


def _input(tensor: Any) -> ForeignInput:
    if tensor.type not in _DTYPES:
        raise ImportRefused(
            f"input {tensor.name!r} reads {tensor.type}; features are numbers here, so encode texts and categories as "
            "numbers before the graph, and export it with inputs float32, double, int64 or int32"
        )
    shape = tensor.shape
    if len(shape) not in (1, 2) or isinstance(shape[0], int):
        raise ImportRefused(
            f"input {tensor.name!r} has shape {shape}; export the graph with (n, columns) for any number n of rows"
        )
    width = 1 if len(shape) == 1 else shape[1] if isinstance(shape[1], int) else None
    return ForeignInput(tensor.name, _DTYPES[tensor.type], width, len(shape) == 1)


def _may_answer(tensor: Any) -> bool:
    return tensor.type in ("tensor(float)", "tensor(double)") or tensor.type.startswith("seq(map(")
