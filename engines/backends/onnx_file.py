"""A bundle's ONNX graphs as plain nodes and arrays, for the backends that run them node by node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from avsl.engines.errors import UserError


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
    shapes: dict[str, tuple[int | None, ...]]
    """Of inputs and outputs; None where a side may be any, nothing where none is said."""
    nodes: tuple[Node, ...]
    constants: dict[str, NDArray[Any]]


def read_graph(path: Path) -> OnnxGraph:
    """Reads a graph whose weights are inside the file.

    Raises:
        UserError: it is no ONNX file.
    """
    try:
        graph = onnx.load(path, load_external_data=False).graph
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    except (DecodeError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not an ONNX graph that can be read here ({error})") from None
    if not graph.node or not graph.output:
        raise UserError(f"{path}: not an ONNX graph, or not the whole of one")
    return OnnxGraph(
        tuple(value.name for value in graph.input),
        tuple(value.name for value in graph.output),
        {value.name: _shape(value) for value in (*graph.input, *graph.output)},
        tuple(
            Node(
                node.op_type,
                tuple(node.input),
                tuple(node.output),
                {a.name: _plain(helper.get_attribute_value(a)) for a in node.attribute},
            )
            for node in graph.node
        ),
        constants,
    )


def _shape(value: Any) -> tuple[int | None, ...]:
    sides = value.type.tensor_type.shape.dim
    return tuple(side.dim_value if side.HasField("dim_value") else None for side in sides)


def _plain(value: Any) -> Any:
    """Text for bytes, a list for what protobuf repeats."""
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, int | float | str) else list(value)
