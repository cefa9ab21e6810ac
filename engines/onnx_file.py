"""Reading a bundle's ONNX graphs with numpy alone: the backends that run them need no `onnx`.

An ONNX file is a protobuf message; the field numbers are those of onnx.proto (ONNX 1.18).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl.engines.errors import UserError

DTYPES = {1: np.float32, 6: np.int32, 7: np.int64, 10: np.float16}
"""TensorProto.DataType, those that weights and shapes have."""


@dataclass(frozen=True)
class Node:
    """One operation. An input that was left out is named ""."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class OnnxGraph:
    """Nodes in the order in which they can run, and the constants among their inputs."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: dict[str, NDArray[Any]]


def read_graph(path: Path) -> OnnxGraph:
    """Reads a graph whose weights are inside the file.

    Raises:
        UserError: it is no ONNX file, or says what this reader doesn't know.
    """
    try:
        (graph,) = _fields(path.read_bytes())[7]
        fields = _fields(graph)
        constants = dict(map(_tensor, fields.get(5, [])))
        nodes = tuple(map(_node, fields.get(1, [])))
        inputs, outputs = (tuple(_name(v, 1) for v in fields[field]) for field in (11, 12))
    except (KeyError, ValueError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise UserError(f"{path}: not an ONNX graph that can be read here ({error!r})") from None
    return OnnxGraph(inputs, outputs, nodes, constants)


def _fields(data: memoryview | bytes) -> dict[int, list[Any]]:
    """The fields of one message by their numbers: ints, and the bytes of all else."""
    found: dict[int, list[Any]] = {}
    data, at = memoryview(data), 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        value: Any
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 2, 5):
            size = {1: 8, 5: 4}.get(kind, 0)
            if kind == 2:
                size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("it ends too soon")
            value, at = data[at : at + size], at + size
        else:
            raise ValueError(f"wire type {kind}")
        found.setdefault(key >> 3, []).append(value)
    return found


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return (value - (1 << 64) if value >> 63 else value), at


def _ints(values: list[Any]) -> Iterator[int]:
    """Repeated integers, packed into one field or not."""
    for value in values:
        if isinstance(value, int):
            yield value
        else:
            at = 0
            while at < len(value):
                one, at = _varint(value, at)
                yield one


def _text(value: memoryview) -> str:
    return bytes(value).decode()


def _name(message: memoryview, field: int) -> str:
    return _text(_fields(message)[field][0])


def _node(message: memoryview) -> Node:
    fields = _fields(message)
    inputs, outputs = (tuple(map(_text, fields.get(field, []))) for field in (1, 2))
    return Node(_text(fields[4][0]), inputs, outputs, dict(map(_attribute, fields.get(5, []))))


def _attribute(message: memoryview) -> tuple[str, Any]:
    fields = _fields(message)
    value: Any
    match fields[20][0]:
        case 1:
            (value,) = struct.unpack("<f", fields[2][0])
        case 2:
            value = fields.get(3, [0])[0]
        case 3:
            value = _text(fields[4][0])
        case 7:
            value = list(_ints(fields.get(8, [])))
        case kind:
            raise ValueError(f"attribute type {kind}")
    return _text(fields[1][0]), value


def _tensor(message: memoryview) -> tuple[str, NDArray[Any]]:
    fields = _fields(message)
    dtype = np.dtype(DTYPES[fields[2][0]]).newbyteorder("<")
    values = np.frombuffer(fields.get(9, [b""])[0], dtype).reshape(list(_ints(fields.get(1, []))))
    return _text(fields[8][0]), values
