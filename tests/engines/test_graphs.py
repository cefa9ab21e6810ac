"""Census of the exported graphs: precisions, casts, inputs and outputs, and operations that
TensorRT's ONNX parser takes; no GPU is needed for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="graphs are read with the extra: pip install '.[train]'")

from exported import KINDS, NAMED  # noqa: E402

from avsl.engines import Bundle, load_bundle  # noqa: E402

FLOAT, HALF, UINT8, INT32, INT64 = (
    getattr(onnx.TensorProto, name) for name in ("FLOAT", "FLOAT16", "UINT8", "INT32", "INT64")
)
BOTH = {FLOAT, HALF}

PARSED = {
    "Add": BOTH,
    "ArgMax": BOTH,
    "AveragePool": BOTH,  # two or three dimensions only
    # UINT8 as a network's input only, since 8.5; INT64 is what ArgMax gives, INT32 in TensorRT
    "Cast": {FLOAT, HALF, UINT8, INT64},
    "Clip": BOTH,
    "Concat": BOTH,
    "Conv": BOTH,
    "ConvTranspose": BOTH,
    "Div": BOTH,
    "Gemm": BOTH,
    "Greater": BOTH,
    "Log": BOTH,
    "MatMul": BOTH,
    "Max": BOTH,
    "MaxPool": BOTH,  # two or three dimensions only
    "Mul": BOTH,
    "Pad": BOTH,
    "Pow": BOTH,
    "Reciprocal": BOTH,
    "ReduceMax": BOTH,
    "ReduceMean": BOTH,
    "ReduceProd": BOTH,
    "ReduceSum": BOTH,
    "Relu": BOTH,
    "Reshape": BOTH,
    "Resize": BOTH,
    "Sigmoid": BOTH,
    "Slice": BOTH,  # `axes` must be an initializer
    "Softmax": BOTH,
    "Split": BOTH,
    "Sqrt": BOTH,
    "Sub": BOTH,
    "Transpose": BOTH,
    "Unsqueeze": BOTH,
}
"""What TensorRT's ONNX parser takes, and in which of our types: docs/operators.md of
onnx/onnx-tensorrt as it was for TensorRT 8.5, the newest that was at hand. The changelog beside it,
up to 10.6, takes none of them away. Only what our graphs have is here; what is new in them must be
looked up before it is added."""

FIXED = {"log-mel": 2, "wave": 0, "vggish": 2, "soundnet": 1}
"""Convolutions of a sound encoder's front, which stay in single precision."""
CASTS = {"log-mel": 2, "wave": 2, "vggish": 4, "soundnet": 4}
"""Into half and back; and where the paper's encoders take a largest value, back and into half, for
ONNX Runtime has no ReduceMax in half."""


@pytest.fixture(params=[kind for kind in KINDS if kind not in (NAMED, "DMT's", "imported")])
def bundle(
    request: pytest.FixtureRequest, bundle_of_kind: Callable[[str], Bundle]
) -> tuple[Path, list[str]]:
    """A bundle's folder, and the sound encoders in it."""
    found = bundle_of_kind(request.param)
    networks = found.meta.get("networks", [{}])
    return found.folder, [network.get("sound", "log-mel") for network in networks]


def typed_graph(path: Path) -> tuple[onnx.GraphProto, dict[str, int]]:
    """A graph, and the type of each tensor in it."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True)
    graph = model.graph
    types = {t.name: t.data_type for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    return graph, types


def test_inputs_and_outputs_are_as_designed(bundle: tuple[Path, list[str]]) -> None:
    folder, _ = bundle
    spec = load_bundle(folder)
    samples = ("samples", FLOAT, ["batch", spec.window.length])
    embedding = ("embedding", FLOAT, ["batch", spec.embedding_size])
    picture = ("picture", UINT8, ["batch", *spec.picture_size, 3])
    found = {}
    for name in ("sound", "picture"):
        graph, types = typed_graph(folder / f"{name}.onnx")
        found[name] = [
            (
                value.name,
                types[value.name],
                [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
            )
            for value in (*graph.input, *graph.output)
        ]
    assert found["sound"] == [samples, embedding]
    assert found["picture"] == [picture, embedding, ("map", FLOAT, ["batch", *spec.map_size])]


def test_encoders_are_half_precision_and_fronts_single(bundle: tuple[Path, list[str]]) -> None:
    folder, sounds = bundle
    for name, single in (("sound", sum(FIXED[sound] for sound in sounds)), ("picture", 0)):
        graph, types = typed_graph(folder / f"{name}.onnx")
        layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
        weights = Counter(types[tensor] for node in layers for tensor in node.input[1:2])
        assert weights[FLOAT] == single
        assert weights[HALF] > 5 * len(sounds)
        assert not {types[name] for node in layers for name in node.output} - BOTH
        sizes = Counter[int]()
        for tensor in graph.initializer:
            sizes[tensor.data_type] += int(np.prod(tensor.dims))
        assert name == "sound" or sizes[FLOAT] < 30, "scalars only"


def test_casts_are_where_they_should_be(bundle: tuple[Path, list[str]]) -> None:
    """The picture's is its first, and the only thing that takes uint8; one into half; one back for
    each network."""
    folder, sounds = bundle
    graph, types = typed_graph(folder / "picture.onnx")
    takes = [node for node in graph.node if UINT8 in [types.get(name) for name in node.input]]
    assert [(node.op_type, list(node.input)) for node in takes] == [("Cast", ["picture"])]
    assert graph.node[0].op_type == "Cast"
    assert sum(node.op_type == "Cast" for node in graph.node) == 2 + len(sounds)
    graph, _ = typed_graph(folder / "sound.onnx")
    expected = sum(CASTS[sound] for sound in sounds)
    assert sum(node.op_type == "Cast" for node in graph.node) == expected


def test_tensorrt_s_parser_takes_every_operation(bundle: tuple[Path, list[str]]) -> None:
    parsed(bundle[0])


def parsed(folder: Path) -> None:
    for name in ("sound.onnx", "picture.onnx"):
        graph, types = typed_graph(folder / name)
        constants = {tensor.name for tensor in graph.initializer}
        for node in graph.node:
            assert node.domain == ""
            assert node.op_type in PARSED, f"{node.op_type}: look it up, STFT and DFT are not"
            given = {types[x] for x in node.input if x and x not in constants}
            assert given <= PARSED[node.op_type], f"{node.op_type} of {given}"
            of = {attribute.name: attribute for attribute in node.attribute}
            if "Pool" in node.op_type:
                assert len(of["kernel_shape"].ints) in (2, 3)
            if node.op_type == "Resize":
                assert of["mode"].s in (b"nearest", b"linear")
                assert of["nearest_mode"].s in (b"floor", b"ceil", b"round_prefer_floor")
            if node.op_type == "Unsqueeze":
                assert node.input[1] in constants
            if node.op_type == "Slice":
                assert node.input[3] in constants
            if node.op_type == "ConvTranspose":
                assert node.input[1] in constants


def test_graphs_with_kinds_are_as_designed(tmp_path: Path) -> None:
    """Sides that may be any are counted in steps, and nothing asks for their length: TensorRT takes
    uint8 into a cast and nothing else."""
    pytest.importorskip("torch", reason="exporting needs the extra: pip install '.[train]'")
    from kinds_networks import STEP, kinds_bundle

    spec = kinds_bundle(tmp_path / "engine")
    parsed(spec.folder)
    shapes = {}
    for name in ("sound", "picture"):
        graph, types = typed_graph(spec.folder / f"{name}.onnx")
        assert "Shape" not in {node.op_type for node in graph.node}
        for value in (*graph.input, *graph.output):
            sides = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            shapes[value.name] = types[value.name], sides
    any_size = [f"{STEP}*rows", f"{STEP}*columns"]
    assert shapes["samples"] == (FLOAT, ["batch", spec.window.length])
    assert shapes["heard"] == (FLOAT, ["batch", 3])
    assert shapes["picture"] == (UINT8, ["batch", *any_size, 3])
    assert (shapes["map"][0], shapes["kind"][0]) == (FLOAT, INT32)
    assert shapes["map"][1] == shapes["kind"][1]
    assert all(isinstance(side, str) for side in shapes["map"][1])


def test_the_graphs_of_kinds_are_as_designed() -> None:
    """Of the engine that ships: what comes in and out, convolutions in half but for the sound's
    front, and nothing that TensorRT's parser doesn't take."""
    bundle = load_bundle()
    heard = ("heard", FLOAT, 2)
    expected = {
        "sound": [("samples", FLOAT, 2), heard],
        "picture": [("picture", UINT8, 4), heard, ("map", FLOAT, 3), ("kind", INT32, 3)],
    }
    for name, ends in expected.items():
        graph, types = typed_graph(bundle.folder / f"{name}.onnx")
        found = [
            (value.name, types[value.name], len(value.type.tensor_type.shape.dim))
            for value in (*graph.input, *graph.output)
        ]
        assert found == ends
        weights = Counter(types[n.input[1]] for n in graph.node if n.op_type == "Conv")
        assert weights[HALF] > 5 and weights[FLOAT] <= 3
        assert {node.op_type for node in graph.node} <= PARSED.keys()
