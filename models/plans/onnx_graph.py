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
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Graph:
    """Operators in the order they run, and constants by name."""

    nodes: tuple[Node, ...]
    constants: dict[str, Array]
    widths: dict[str, int]
    """Number of columns of each input (n, d)."""

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
        widths = dict(_width(_fields(part)) for part in graph[11])
    except (IndexError, ValueError, struct.error) as error:
        raise PlanError(f"the bytes are not an ONNX model: {error}") from error
    return Graph(nodes, constants, widths)


def _fields(message: memoryview) -> Fields:
    """The fields of one message, in order."""
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
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _text(value: memoryview) -> str:
    return bytes(value).decode()


def _node(fields: Fields) -> Node:
    return Node(
        op=_text(fields[4][-1]),
        name=_text(fields[3][-1]) if fields[3] else "",
        inputs=tuple(map(_text, fields[1])),
        outputs=tuple(map(_text, fields[2])),
        attributes=dict(_attribute(_fields(part)) for part in fields[5]),
    )


def _width(value_info: Fields) -> tuple[str, int]:
    """Name of an input and its number of columns: name, type, tensor type, shape, last dimension, value."""
    shape = _fields(_fields(_fields(value_info[2][-1])[1][-1])[2][-1])
    return _text(value_info[1][-1]), _fields(shape[1][-1])[1][-1]


def _attribute(fields: Fields) -> tuple[str, Any]:
    name = _text(fields[1][-1])
    kind = fields[20][-1] if fields[20] else 0
    if kind == 1:  # FLOAT
        return name, struct.unpack("<f", fields[2][-1])[0]
    if kind == 2:  # INT; zero may be left out
        return name, _signed(fields[3][-1]) if fields[3] else 0
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
    kind = fields[2][-1]
    if kind not in _DTYPES or fields[13]:
        raise PlanError(f"constant {name!r} is of a type ({kind}) or in a place that no plan reads")
    if fields[9]:
        values = np.frombuffer(fields[9][-1], _DTYPES[kind])
    elif kind in _TYPED_DATA:
        number, packed = _TYPED_DATA[kind]
        values = _packed(fields[number], packed) if packed else _varints(fields[number])
    else:
        raise PlanError(f"constant {name!r} keeps its values in a form that no plan reads")
    return name, values.reshape(shape)


def _packed(parts: list[memoryview], dtype: str) -> Array:
    """Numbers of fixed width, packed or one by one."""
    return np.frombuffer(b"".join(parts), dtype)


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
