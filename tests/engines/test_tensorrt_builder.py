"""TensorRT's own parser and builder on every kind of graph: no GPU is needed for it, and no double
stands in for anything. What is proved of precision is read from the network that it builds."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

trt = pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx")
onnx = pytest.importorskip("onnx", reason="graphs are read with the extra: pip install '.[train]'")

from exported import KINDS, NAMED  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from avsl.engines import Bundle, UserError, load_bundle  # noqa: E402
from avsl.engines.backends.onnxruntime import OnnxRuntimeEngine  # noqa: E402
from avsl.engines.backends.plans import FILE_BATCH, build_plans  # noqa: E402
from avsl.engines.backends.tensorrt_build import Built, build, make_log  # noqa: E402
from avsl.engines.backends.tensorrt_library import RTX  # noqa: E402
from avsl.engines.bundle import DRAWN  # noqa: E402

ROWS = {"rows": (1, 1, 1)}
FIXED = {"log-mel": 2, "wave": 0, "vggish": 2, "soundnet": 1, "resnet18": 1}
"""Convolutions of a sound encoder's front, which stay in single precision."""
EXACT = ("REDUCE", "UNARY", "SIGMOID", "SOFTMAX", "NORMALIZATION")
"""Layers of norms, cosines, logarithms and combination, which must never be in half precision."""


def types_by_kind(path: Path) -> dict[str, Counter[str]]:
    """Of each kind of layer in the network that is built, how many give which type."""
    builder = trt.Builder(make_log(trt))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, make_log(trt))
    assert parser.parse(path.read_bytes())
    found: dict[str, Counter[str]] = {}
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        gives = layer.get_output(0).dtype.name
        if layer.type == trt.LayerType.ACTIVATION:
            layer.__class__ = trt.IActivationLayer  # the bindings' way to see which
        found.setdefault(layer.type.name, Counter())[gives] += 1
    return found


def built(path: Path, rows: int = 1, capability: str = "8.9") -> Built:
    sides = {"rows": (1, rows, rows)}
    return build(trt, RTX.name, path.read_bytes(), sides, lambda *_: None, capability=capability)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != NAMED])
def test_every_graph_is_parsed_typed_as_designed_and_built(
    kind: str, bundle_of_kind: Callable[[str], Bundle]
) -> None:
    bundle = bundle_of_kind(kind)
    sounds = [n.get("sound", "log-mel") for n in bundle.meta.get("networks", [{}])]
    heard, pixels = [bundle.embedding_size], [*bundle.picture_size, 3]
    for path, takes, gives, single in (
        (
            *(bundle.sound_graph, {"samples": [bundle.window.length]}, "embedding"),
            sum(FIXED[sound] for sound in sounds),
        ),
        (bundle.picture_graph, {"picture": pixels, "embedding": heard}, "map", 0),
    ):
        types = types_by_kind(path)
        graph = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True).graph
        given = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
        half = [
            given[n.output[0]] == TensorProto.FLOAT16 for n in graph.node if n.op_type == "Conv"
        ]
        convolutions = Counter("HALF" if each else "FLOAT" for each in half)
        assert types["CONVOLUTION"] == convolutions, "each as in the graph"
        assert convolutions["FLOAT"] == single
        products = types.get("MATRIX_MULTIPLY", Counter())
        assert set(products) <= {"HALF"}
        for exact in EXACT:
            assert types.get(exact, Counter())["HALF"] == 0, exact
        for rows in (1, FILE_BATCH):
            made = built(path, rows)
            assert len(made.plan) > 100_000
            assert made.layers == convolutions.total() + products.total()
            assert made.half_share == pytest.approx(1 - single / made.layers)
            # In the graph's order, with its names.
            ranges = [[[n, *shape] for n in (1, rows, rows)] for shape in takes.values()]
            assert list(made.inputs.items()) == list(zip(takes, ranges, strict=True))
            assert made.outputs == [gives]


@pytest.mark.parametrize("sm", ["SM75", "SM80", "SM86", "SM89", "SM120", "SM121"])
def test_for_every_card_that_it_knows(sm: str, tmp_path: Path) -> None:
    sidecars = build_plans(load_bundle(DRAWN), 1, RTX, sm=sm, out=tmp_path / "along")
    assert [sidecar["precision"] for sidecar in sidecars] == ["fp16", "fp16"]
    known = {name for name in trt.ComputeCapability.__members__ if name.startswith("SM")}
    assert sm in known
    assert len(known) == 6, "a new one: add it here"


@pytest.mark.parametrize("sm", ["SM90", "sm_89", "8.9", "", "CURRENT", "NONE"])
def test_a_card_that_it_does_not_know_is_one_line(sm: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"runs on SM75, SM80, .* not on") as caught:
        RTX.gpu_named(sm)
    assert "\n" not in str(caught.value)


def test_a_build_is_no_wait() -> None:
    """Both plans of an engine, against both of its graphs opened in ONNX Runtime."""
    bundle = load_bundle(DRAWN)
    ours, theirs = [], []
    for _ in range(3):
        began = time.perf_counter()
        OnnxRuntimeEngine(bundle)
        opened = time.perf_counter()
        built(bundle.sound_graph), built(bundle.picture_graph)
        theirs.append(opened - began)
        ours.append(time.perf_counter() - opened)
    assert min(ours) < 40 * min(theirs)


# Graphs that are none, or not ours


def test_the_engine_of_kinds_that_ships_is_built() -> None:
    """Both graphs, the picture's at its own shape, most of their layers in half precision."""
    bundle = load_bundle()
    h, w = bundle.picture_size
    shape = {"picture.1": (h, h, h), "picture.2": (w, w, w)}
    for path, sides in ((bundle.sound_graph, {}), (bundle.picture_graph, shape)):
        rows = {"rows": (1, 1, 1)}
        made = build(
            trt, RTX.name, path.read_bytes(), rows | sides, lambda *_: None, capability="8.9"
        )
        assert len(made.plan) > 100_000
        assert made.half_share > 0.7


def failing(data: bytes, sides: dict[str, tuple[int, int, int]] = ROWS) -> str:
    with pytest.raises(UserError) as caught:
        build(trt, RTX.name, data, sides, lambda *_: None, capability="8.9")
    line = str(caught.value)
    assert "\n" not in line
    assert "/_src/" not in line, "where in TensorRT's source is nobody's business"
    assert "CUDA" not in line, "that there is no driver is no fault of the graph"
    assert line.startswith((f"{RTX.name} {trt.__version__} ", "the graph's "))
    return line


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99999])
def test_a_graph_that_was_cut_off(share: float) -> None:
    data = load_bundle(DRAWN).picture_graph.read_bytes()
    line = failing(data[: int(share * len(data))])
    assert "Failed to parse the ONNX model" in line or "there is no graph in it" in line


def test_a_file_that_is_no_graph() -> None:
    assert "doesn't take the graph: there is no graph in it" in failing(b"<html>" * 100)


VALUES = {"float": TensorProto.FLOAT, "half": TensorProto.FLOAT16, "int": TensorProto.INT32}


def graph_of(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    outputs: dict[str, str],
    **constants: np.ndarray,
) -> bytes:
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in inputs.items()],
        [helper.make_tensor_value_info(k, VALUES[t], None) for k, t in outputs.items()],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(made, opset_imports=opset, ir_version=10).SerializeToString()


ROW: dict[str, list[int | str]] = {"x": ["batch", 64]}


def test_an_operation_that_it_does_not_take() -> None:
    node = helper.make_node("Frobnicate", ["x"], ["y"])
    assert "doesn't take the graph: Frobnicate: " in failing(graph_of([node], ROW, {"y": "float"}))
    node = helper.make_node("Unique", ["x"], ["y"])
    assert "doesn't take the graph: Unique: " in failing(graph_of([node], ROW, {"y": "float"}))


def test_types_that_do_not_go_together() -> None:
    """As post-hoc conversions to half precision leave them."""
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Add", ["x", "h"], ["y"]),
    ]
    line = failing(graph_of(nodes, ROW, {"y": "float"}))
    assert "must have same input types. But they are of types Float and Half" in line


def test_shapes_that_do_not_go_together() -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    line = failing(graph_of([node], ROW, {"y": "float"}, w=np.zeros((63, 2), np.float32)))
    assert "last dimension of input0 = 64 and second to last dimension of input1 = 63" in line


def test_what_breaks_inside_is_said_too() -> None:
    """A sum with a single number after a convolution over a line: 1.7.1 can't build it."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[1]),
        helper.make_node("Add", ["c", "b"], ["y"]),
    ]
    weights, bias = np.ones((4, 8, 1), np.float32), np.array(0.01, np.float32)
    data = graph_of(nodes, {"x": ["batch", 8, 50]}, {"y": "float"}, w=weights, b=bias)
    assert "built nothing: IBuilder::buildSerializedNetwork: Error Code" in failing(data)


# What the engines of tomorrow may have


def test_a_side_that_may_vary_has_the_range_that_the_engine_says() -> None:
    node = helper.make_node("Relu", ["picture"], ["map"])
    data = graph_of([node], {"picture": ["batch", "height", "width", 3]}, {"map": "float"})
    line = failing(data)
    assert line.startswith("the graph's picture has a side 1 of any size")
    sides = {"rows": (1, 2, 4), "picture.1": (96, 160, 224), "picture.2": (160, 160, 160)}
    made = build(trt, RTX.name, data, sides, lambda *_: None, capability="8.9")
    assert made.inputs == {"picture": [[1, 96, 160, 3], [2, 160, 160, 3], [4, 224, 160, 3]]}
    line = failing(data, {**sides, "picture.1": (224, 160, 96)})
    assert "doesn't take the graph's shapes: " in line
    assert "MIN<=OPT<=MAX" in line


def test_other_names_and_more_outputs() -> None:
    nodes = [
        helper.make_node("Mul", ["picture", "heard"], ["map"]),
        helper.make_node("ArgMax", ["map"], ["most"], axis=1, keepdims=0),
        helper.make_node("Cast", ["most"], ["kind"], to=TensorProto.INT32),
    ]
    inputs: dict[str, list[int | str]] = {"picture": ["batch", 8], "heard": ["batch", 8]}
    data = graph_of(nodes, inputs, {"map": "float", "kind": "int"})
    made = build(trt, RTX.name, data, ROWS, lambda *_: None, capability="8.9")
    assert (list(made.inputs), made.outputs) == (["picture", "heard"], ["map", "kind"])
    assert (made.half_share, made.layers) == (0, 0)
