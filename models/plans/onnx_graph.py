"""Reads an ONNX file as plain values: nodes, their attributes, and constants as NumPy arrays.

Score plans are derived from the graph while a worker starts. The `onnx` package would do, but it brings 35 MB of
image, 11 MB of every worker and half a second of its start for the one thing needed here: a few field numbers of a
format that is frozen. Only what the graphs of this domain use is read; anything else raises, and the caller then leaves
the graph to ONNX Runtime. Held against the `onnx` package in tests.

Source: field numbers, onnx.proto3 of IR 10 (github.com/onnx/onnx); wire format, protobuf.dev.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models.errors import PlanError

Array = npt.NDArray[Any]
Fields = dict[int, list[Any]]
"""Values of a message by field number: whole numbers, or the bytes of everything else."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_DTYPES = {1: "<f4", 6: "<i4", 7: "<i8", 9: "?", 11: "<f8"}
"""TensorProto.DataType of what a scoring graph holds."""
_TYPED_DATA = {1: (4, "<f4"), 7: (7, None), 11: (10, "<f8")}
"""Where a tensor of that type keeps its values if not as raw bytes; None: packed varints."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator. attributes: numbers, texts, arrays of numbers, tuples of texts, or tensors as arrays."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    def input(self, at: int) -> str:
        """The name of one input.

        Raises:
            PlanError: there are fewer.
        """
        if at >= len(self.inputs):
            raise PlanError(f"operator {self.op} reads {len(self.inputs)} values, a plan expects {at + 1} or more")
        return self.inputs[at]

    def array(self, name: str, kind: Literal["i", "f"]) -> Array:
        """(n,) whole or real numbers that the operator must have.

        Raises:
            PlanError: it has none of that name, or of another kind.
        """
        values = self.attributes.get(name)
        if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind != kind:
            raise PlanError(f"operator {self.op} has no list of numbers {name!r}")
        return values

    def whole(self, name: str, default: int) -> int:
        """A whole number that the operator may leave out.

        Raises:
            PlanError: it has something else of that name.
        """
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise PlanError(f"{name!r} of operator {self.op} is no whole number")
        return value

    def text(self, name: str, default: str) -> str:
        """A text that the operator may leave out.

        Raises:
            PlanError: it has something else of that name.
        """
        value = self.attributes.get(name, default)
        if not isinstance(value, str):
            raise PlanError(f"{name!r} of operator {self.op} is no text")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Texts that the operator must have.

        Raises:
            PlanError: it has none of that name, or of another kind.
        """
        values = self.attributes.get(name)
        if not isinstance(values, tuple):
            raise PlanError(f"operator {self.op} has no list of texts {name!r}")
        return values


@dataclass(frozen=True, slots=True)
class Graph:
    """Operators in the order they run (so none waits for itself), and constants by name."""

    nodes: tuple[Node, ...]
    constants: dict[str, Array]
    widths: dict[str, int]
    """Number of columns of each input (n, d); inputs of another shape are left out."""

    def maker_of(self, value: str) -> Node:
        """The operator that makes a value.

        Raises:
            PlanError: none does; it is an input or a constant.
        """
        for node in self.nodes:
            if value in node.outputs:
                return node
        raise PlanError(f"no operator of the graph makes {value!r}")

    def constant(self, name: str) -> Array:
        """A constant's values.

        Raises:
            PlanError: it is computed while the graph runs.
        """
        if name not in self.constants:
            raise PlanError(f"{name!r} is not a constant of the graph")
        return self.constants[name]

    def number(self, name: str) -> float:
        """A constant of one value.

        Raises:
            PlanError: it is not a constant, or has several values.
        """
        values = self.constant(name)
        if values.size != 1:
            raise PlanError(f"constant {name!r} has {values.size} values, a plan expects one")
        return float(values.item())


def read_graph(content: bytes) -> Graph:
    """Parses a serialised model.

    Raises:
        PlanError: not a model, or it holds something that no plan understands.
    """
    try:
        model = _fields(memoryview(content))
        graph = _fields(model[7][-1])
        nodes = tuple(_node(_fields(part)) for part in graph[1])
        constants = dict(_tensor(_fields(part)) for part in graph[5])
        inputs = dict(_width(_fields(part)) for part in graph[11])
    except (IndexError, ValueError, struct.error) as error:
        raise PlanError(f"the bytes are not an ONNX model: {error}") from error
    _check_order(nodes, {"", *constants, *inputs})
    return Graph(nodes, constants, {name: width for name, width in inputs.items() if width is not None})


def _check_order(nodes: tuple[Node, ...], known: set[str]) -> None:
    """Raises PlanError unless each operator reads only what was there before it; whoever walks back then ends."""
    for node in nodes:
        early = [value for value in node.inputs if value not in known]
        again = [value for value in node.outputs if value and value in known]
        if early or again:
            raise PlanError(f"operator {node.op} reads {early} before it is made, or makes {again} anew")
        known.update(node.outputs)


def _sized(value: Any) -> memoryview:
    if isinstance(value, int):
        raise ValueError(f"the number {value} in place of a text or a message")
    view: memoryview = value
    return view


def _whole(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError("a text or a message in place of a number")
    return value


def _fields(message: Any) -> Fields:
    """The fields of one message, in order."""
    message = _sized(message)
    fields: Fields = defaultdict(list)
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, at = _varint(message, at)
            fields[number].append(value)
            continue
        if wire_type == _BYTES:
            size, at = _varint(message, at)
        elif wire_type in (_FIXED64, _FIXED32):
            size = 8 if wire_type == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire_type}")
        if at + size > end:
            raise ValueError("it ends in the middle of a field")
        fields[number].append(message[at : at + size])
        at += size
    return fields


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _text(value: Any) -> str:
    return bytes(_sized(value)).decode()


def _node(fields: Fields) -> Node:
    return Node(
        op=_text(fields[4][-1]),
        name=_text(fields[3][-1]) if fields[3] else "",
        inputs=tuple(map(_text, fields[1])),
        outputs=tuple(map(_text, fields[2])),
        attributes=dict(_attribute(_fields(part)) for part in fields[5]),
    )


def _width(value_info: Fields) -> tuple[str, int | None]:
    """Name of an input, and its number of columns if it is a matrix of a known width."""
    name = _text(value_info[1][-1])
    shape: list[Any] = value_info[2]
    for step in (1, 2):  # tensor type, shape
        shape = _fields(shape[-1])[step] if shape else []
    dimensions = _fields(shape[-1])[1] if shape else []
    width = _fields(dimensions[1])[1] if len(dimensions) == 2 else []
    return name, _whole(width[-1]) if width else None


def _attribute(fields: Fields) -> tuple[str, Any]:
    name = _text(fields[1][-1])
    kind = _whole(fields[20][-1]) if fields[20] else 0
    if kind == 1:  # FLOAT
        return name, struct.unpack("<f", _sized(fields[2][-1]))[0]
    if kind == 2:  # INT; zero may be left out
        return name, _signed(_whole(fields[3][-1])) if fields[3] else 0
    if kind == 3:  # STRING
        return name, _text(fields[4][-1]) if fields[4] else ""
    if kind == 4:  # TENSOR
        return name, _tensor(_fields(fields[5][-1]))[1]
    if kind == 6:  # FLOATS
        return name, _packed(fields[7], "<f4")
    if kind == 7:  # INTS
        return name, _varints(fields[8])
    if kind == 8:  # STRINGS
        return name, tuple(map(_text, fields[9]))
    raise PlanError(f"attribute {name!r} is of a kind ({kind}) that no plan understands")


def _tensor(fields: Fields) -> tuple[str, Array]:
    name = _text(fields[8][-1]) if fields[8] else ""
    shape = _varints(fields[1])
    kind = _whole(fields[2][-1])
    if kind not in _DTYPES or fields[13]:
        raise PlanError(f"constant {name!r} is of a type ({kind}) or in a place that no plan reads")
    if np.any(shape < 0):
        raise ValueError(f"constant {name!r} of shape {shape.tolist()}")
    if fields[9]:
        values = np.frombuffer(_sized(fields[9][-1]), _DTYPES[kind]).copy()  # within the file it lies unaligned
    elif kind in _TYPED_DATA:
        number, packed = _TYPED_DATA[kind]
        values = _packed(fields[number], packed) if packed else _varints(fields[number])
    else:
        raise PlanError(f"constant {name!r} keeps its values in a form that no plan reads")
    return name, values.reshape(shape)


def _packed(parts: list[memoryview], dtype: str) -> Array:
    """Numbers of fixed width, packed or one by one."""
    return np.frombuffer(b"".join(map(_sized, parts)), dtype)


def _varints(parts: list[Any]) -> Array:
    """Whole numbers, packed or one by one."""
    values = []
    for part in parts:
        if isinstance(part, int):
            values.append(_signed(part))
            continue
        at = 0
        while at < len(part):
            value, at = _varint(part, at)
            values.append(_signed(value))
    return np.array(values, dtype=np.int64)
