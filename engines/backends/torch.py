"""The `torch` backend: a bundle's graphs on torch tensors, rebuilt from the bundle alone.

The graphs are read and run node by node, rather than their weights put back into
`networks.Network`: the exporter merges weights that are equal and drops those that do nothing, so
their names don't tell any more where they belong. With a CUDA graph, how a node is called costs
nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from avsl.engines.backends.device import DeviceEngine
from avsl.engines.backends.onnx_file import read_graph
from avsl.engines.bundle import Bundle, check_graph
from avsl.engines.errors import UserError

FLOAT, HALF = 1, 10
DTYPES = {FLOAT: torch.float32, HALF: torch.float16, 6: torch.int32}
"""TensorProto.DataType, what graphs cast to."""


class TorchEngine(DeviceEngine):
    """A bundle on a torch device: as it stands in the graphs on a GPU, encoders in half precision
    and channels last; all in single precision on the CPU, which is there to compare with.

    Raises:
        UserError: there is no such device, or a graph holds what can't be run here.
    """

    name = "torch"

    def __init__(self, bundle: Bundle, device: torch.device | str = "cuda") -> None:
        device = torch.device(device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise UserError("torch: sees no CUDA device here")
        half = device.type != "cpu"
        graphs = []
        for path in (bundle.sound_graph, bundle.picture_graph):
            graphs.append(TorchGraph(path, device, half=half))
            check_graph(bundle, path, graphs[-1].inputs, graphs[-1].outputs)
        sound, picture = graphs
        super().__init__(bundle, sound, picture, device)


class TorchGraph:
    """An ONNX graph as a function of tensors, to a tensor or to a tuple of them.

    Args:
        half: compute in half precision where the graph does; else all in single.

    Raises:
        UserError: it holds an operation, or a form of one, that isn't known here.
    """

    def __init__(self, path: Path, device: torch.device, *, half: bool) -> None:
        graph = read_graph(path)
        self.inputs = {name: graph.shapes[name] for name in graph.inputs}
        self.outputs = {name: graph.shapes[name] for name in graph.outputs}
        self._constants: dict[str, Any] = {
            name: _constant(values, device, half) for name, values in graph.constants.items()
        }
        known = {"", *graph.inputs, *self._constants}
        self._steps: list[tuple[Step, tuple[str, ...], tuple[str, ...]]] = []
        for node in graph.nodes:
            # Shapes, axes and scales are numbers to torch, not tensors.
            numbers = [
                name
                for name in node.inputs
                if name in graph.constants
                and (graph.constants[name].dtype.kind == "i" or node.op == "Resize")
            ]
            tensors = tuple(name for name in node.inputs if name not in numbers)
            attributes = node.attributes
            if node.op == "Cast" and attributes["to"] == HALF and not half:
                attributes = {**attributes, "to": FLOAT}
            try:
                assert known.issuperset(tensors)
                lists = (graph.constants[name].reshape(-1).tolist() for name in numbers)
                step = OPERATIONS[node.op](attributes, *lists)
            except (AssertionError, KeyError, TypeError, ValueError):
                raise UserError(
                    f"{path}: the torch backend can't run its {node.op} {attributes}; "
                    "use --backend onnxruntime"
                ) from None
            self._steps.append((step, tensors, node.outputs))
            known.update(node.outputs)
        # What each step is the last to use is let go after it.
        last = {name: i for i, (_, tensors, _) in enumerate(self._steps) for name in tensors}
        self._ends: list[list[str]] = [[] for _ in self._steps]
        for name, i in last.items():
            if name and name not in self._constants and name not in self.outputs:
                self._ends[i].append(name)

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        values = {"": None, **self._constants}
        values.update(zip(self.inputs, inputs, strict=True))
        # Without TF32, which rounds what single precision multiplies to ten bits.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            for (step, tensors, outputs), ends in zip(self._steps, self._ends, strict=True):
                made = step(*(values[name] for name in tensors))
                many = made if isinstance(made, tuple) else (made,)
                values.update(zip(outputs, many, strict=True))
                for name in ends:
                    del values[name]
        made = tuple(values[name] for name in self.outputs)
        return made if len(made) > 1 else made[0]


def _constant(values: NDArray[Any], device: torch.device, half: bool) -> Tensor | float:
    """A weight on the device, convolutions' channels last; single numbers stay Python's."""
    if values.ndim == 0:
        return float(values)
    tensor = torch.from_numpy(values.copy()).to(device)
    if tensor.dtype == torch.float16 and not half:
        tensor = tensor.float()
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


# What makes a step of a node: from its attributes, and its inputs that are lists of integers, to a
# function of its tensors. After https://onnx.ai/onnx/operators, in opset 20; a form that no bundle
# has is refused, not guessed.

Attributes = dict[str, Any]
Step = Callable[..., Any]


def _cast(a: Attributes) -> Step:
    dtype = DTYPES[a["to"]]
    return lambda x: x.to(dtype)


def _conv(a: Attributes) -> Step:
    assert a.get("auto_pad", "NOTSET") == "NOTSET"
    strides, (around, pads) = a["strides"], _paddings(a["pads"])
    convolve: Step = F.conv1d if len(strides) == 1 else F.conv2d
    rest = strides, pads, a["dilations"], a.get("group", 1)
    return lambda x, w, b=None: convolve(around(x), w, b, *rest)


def _conv_transpose(a: Attributes) -> Step:
    assert a.get("auto_pad", "NOTSET") == "NOTSET"
    assert not any([*a.get("pads", []), *a.get("output_padding", [])])
    assert set(a.get("dilations", [1])) == {1}
    strides, group = a["strides"], a.get("group", 1)
    convolve: Step = F.conv_transpose1d if len(strides) == 1 else F.conv_transpose2d
    return lambda x, w, b=None: convolve(x, w, b, strides, groups=group)


def _max_pool(a: Attributes) -> Step:
    kernel, strides, both, dilations = _pooling(a)
    half = len(both) // 2
    pads = both[:half]
    assert pads == both[half:]
    pool: Step = F.max_pool1d if len(kernel) == 1 else F.max_pool2d
    return lambda x: pool(x, kernel, strides, pads, dilations)


def _average_pool(a: Attributes) -> Step:
    kernel, strides, both, dilations = _pooling(a)
    assert a.get("count_include_pad", 0) or not any(both)
    assert set(dilations) == {1}
    around, pads = _paddings(both)
    pool: Step = F.avg_pool1d if len(kernel) == 1 else F.avg_pool2d
    return lambda x: pool(around(x), kernel, strides, pads)


def _pooling(a: Attributes) -> tuple[list[int], list[int], list[int], list[int]]:
    assert not a.get("ceil_mode", 0)
    assert a.get("auto_pad", "NOTSET") == "NOTSET"
    kernel = a["kernel_shape"]
    ones = [1] * len(kernel)
    pads = a.get("pads", [0, 0] * len(kernel))
    return kernel, a.get("strides", ones), pads, a.get("dilations", ones)


def _paddings(both: list[int]) -> tuple[Step, list[int]]:
    """Of paddings with zeros `[begins, ends]`: what puts on those that differ between two sides,
    and what is the same on both, as torch takes it."""
    half = len(both) // 2
    if both[:half] == both[half:]:
        return lambda x: x, both[:half]
    return _pad({}, [0, 0, *both[:half], 0, 0, *both[half:]]), [0] * half


def _pad(a: Attributes, both: list[int]) -> Step:
    assert a.get("mode", "constant") == "constant"
    half = len(both) // 2
    # torch counts from the last axis.
    pads = [n for axis in reversed(range(half)) for n in (both[axis], both[half + axis])]
    return lambda x, value=None: F.pad(x, pads, value=value or 0.0)


def _gemm(a: Attributes) -> Step:
    assert (a.get("alpha", 1), a.get("beta", 1), a.get("transA", 0)) == (1, 1, 0)
    return lambda x, w, b=None: F.linear(x, w if a.get("transB", 0) else w.t(), b)


def _resize(a: Attributes, scales: list[float]) -> Step:
    assert scales[:2] == [1, 1]
    if a["mode"] == "linear":
        assert (a["coordinate_transformation_mode"], len(scales)) == ("half_pixel", 4)
        return lambda x, _: F.interpolate(x, scale_factor=scales[2:], mode="bilinear")
    assert (a["mode"], a["nearest_mode"]) == ("nearest", "floor")
    assert a["coordinate_transformation_mode"] == "asymmetric"
    return lambda x, _: F.interpolate(x, scale_factor=scales[2:], mode="nearest")


def _reduce(operation: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[..., Step]:
    def build(a: Attributes, axes: list[int]) -> Step:
        return lambda x: operation(x, axes, bool(a.get("keepdims", 1)))

    return build


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    (axis,) = axes
    return x.prod(axis, keep)


def _argmax(a: Attributes) -> Step:
    assert not a.get("select_last_index", 0)
    return lambda x: x.argmax(a.get("axis", 0), bool(a.get("keepdims", 1)))


def _slice(a: Attributes, starts: list[int], ends: list[int], *more: list[int]) -> Step:
    axes, steps = (*more, [], [])[:2]
    assert set(steps) <= {1}
    places = [slice(start, end) for start, end in zip(starts, ends, strict=True)]

    def cut(x: Tensor) -> Tensor:
        at = [slice(None)] * x.ndim
        for axis, place in zip(axes or range(len(places)), places, strict=True):
            at[axis] = place
        return x[tuple(at)]

    return cut


def _split(a: Attributes, sizes: list[int] | None = None) -> Step:
    axis = a.get("axis", 0)
    if sizes is None:
        return lambda x: tuple(x.chunk(a["num_outputs"], axis))
    whole = sizes
    return lambda x: tuple(x.split(whole, axis))


def _unsqueeze(a: Attributes, axes: list[int]) -> Step:
    def unsqueeze(x: Tensor) -> Tensor:
        ndim = x.ndim + len(axes)
        for axis in sorted(axis % ndim for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return unsqueeze


def _reshape(a: Attributes, shape: list[int]) -> Step:
    assert 0 not in shape or not a.get("allowzero", 0)
    return lambda x: x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape)])


def _plain(operation: Step) -> Callable[[Attributes], Step]:
    """For a node without attributes that torch calls by a function of the same arguments."""

    def build(a: Attributes) -> Step:
        assert not a
        return operation

    return build


OPERATIONS: dict[str, Callable[..., Step]] = {
    "Add": _plain(operator.add),
    "ArgMax": _argmax,
    "AveragePool": _average_pool,
    "Cast": _cast,
    "Clip": _plain(lambda x, low, high=None: torch.clamp(x, low, high)),
    "Concat": lambda a: lambda *x: torch.cat(x, a["axis"]),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": _plain(operator.truediv),
    "Exp": _plain(torch.exp),
    "Gemm": _gemm,
    "Log": _plain(torch.log),
    "MatMul": _plain(torch.matmul),
    "Max": _plain(torch.maximum),
    "MaxPool": _max_pool,
    "Mul": _plain(operator.mul),
    "Pad": _pad,
    "Pow": _plain(operator.pow),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceProd": _reduce(_product),
    "ReduceSum": _reduce(torch.sum),
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": _plain(torch.sigmoid),
    "Slice": _slice,
    "Softmax": lambda a: lambda x: x.softmax(a.get("axis", -1)),
    "Split": _split,
    "Sqrt": _plain(torch.sqrt),
    "Sub": _plain(operator.sub),
    "Transpose": lambda a: lambda x: x.permute(a["perm"]),
    "Unsqueeze": _unsqueeze,
}
