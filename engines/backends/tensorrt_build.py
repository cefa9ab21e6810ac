"""What of TensorRT is needed to build a plan, and to tell of what precision it is.

Written for TensorRT 10.12 to 11.x and TensorRT for RTX, which have no working switch for half
precision any more: it stands in the bundle's graphs, and the network is always strongly typed.
Inputs, outputs and their sides are the graph's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from avsl.engines.errors import UserError

SETTINGS = {"strongly typed": True, "tf32": False, "level": 3, "workspace": 2 << 30}
"""How every plan is built; part of what tells plans apart."""
ROWS = "rows"
"""The first side of whatever goes in or comes out."""
NO_DRIVER = "catchCudaError"
"""Where there is no driver, each error is followed by one about that."""

Sides = Mapping[str, Sequence[int]]
"""The least, best and largest of each side of an input that may vary: `ROWS`, or the input's name
and the number of the side (`picture.1`)."""
Profile = dict[str, list[list[int]]]
"""The least, best and largest shape of each input."""


@dataclass(frozen=True)
class Built:
    """A plan, what was learnt about kernels' times, and what is in the plan."""

    plan: bytes
    timings: bytes
    inputs: Profile
    """In the graph's order."""
    outputs: list[str]
    half_share: float
    """Of the convolutions and products, which take the time: how many are in half precision."""
    layers: int
    """How many of those there are."""


def build(
    trt: Any,
    name: str,
    onnx: bytes,
    sides: Sides,
    progress: Callable[[int, int], None],
    *,
    capability: str = "",
    timings: bytes = b"",
) -> Built:
    """Builds a plan; takes minutes, unless it is for a capability.

    Args:
        trt: the library's module.
        name: the library's, for people.
        progress: progress(done, total), of what is under way.
        capability: what the GPUs are able to that it is for, like "8.9", where kernels are compiled
            on them; else it is for the GPU that is here.
        timings: of an earlier build for the GPU that is here, or nothing; it makes this one faster.

    Raises:
        UserError: TensorRT doesn't take the graph, or makes nothing of it.
    """
    log, name = make_log(trt), f"{name} {trt.__version__}"
    log.forget()
    try:
        builder = trt.Builder(log)
    except TypeError as error:  # its way to say that the library gave none
        raise UserError(f"{name} can't be started: {log.first or error}") from None
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx) or not network.num_outputs:
        errors = map(parser.get_error, range(parser.num_errors))
        why = "; ".join(map(_reason, errors)) or "there is no graph in it"
        raise UserError(f"{name} doesn't take the graph: {why}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, SETTINGS["workspace"])
    config.builder_optimization_level = SETTINGS["level"]
    profile, ranges = _set_shapes(builder, network, sides)
    if ranges is not None and config.add_optimization_profile(ranges) < 0:
        raise UserError(f"{name} doesn't take the graph's shapes: {log.first}")
    if capability:
        config.num_compute_capabilities = 1
        sm = getattr(trt.ComputeCapability, f"SM{capability.replace('.', '')}")
        config.set_compute_capability(sm, 0)
    elif not config.set_timing_cache(config.create_timing_cache(timings), False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
    config.progress_monitor = monitor = _make_monitor(trt, progress)
    made = builder.build_serialized_network(network, config)
    if monitor.stopped:
        raise KeyboardInterrupt
    if made is None:
        raise UserError(f"{name} built nothing: {log.first or 'it says nothing'}")
    progress(1000, 1000)  # it may not say that the last phase has ended
    products = (trt.LayerType.CONVOLUTION, trt.LayerType.MATRIX_MULTIPLY)
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    types = [layer.get_output(0).dtype for layer in layers if layer.type in products]
    return Built(
        bytes(made),
        b"" if capability else bytes(config.get_timing_cache().serialize()),
        profile,
        [network.get_output(i).name for i in range(network.num_outputs)],
        types.count(trt.DataType.HALF) / max(len(types), 1),
        len(types),
    )


def _reason(error: Any) -> str:
    """Of an error of the parser: which operation, and the first of what it says."""
    said = [line for line in error.desc().splitlines() if NO_DRIVER not in line]
    return _line(f"{error.node_operator()}: {' '.join(said)}").removeprefix(": ")


def _line(said: str) -> str:
    """Without where in TensorRT's own source it is said."""
    return " ".join(re.sub(r"In \w+ at \S+:\d+", "", said).split()).replace(" )", ")")


def _set_shapes(builder: Any, network: Any, sides: Sides) -> tuple[Profile, Any]:
    """One shape for live, which TensorRT can count on; a range of them for files."""
    profile: Profile = {}
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    for tensor in inputs:
        shapes: list[list[int]] = [[], [], []]
        for axis, size in enumerate(tensor.shape):
            side = f"{tensor.name}.{axis}" if axis else ROWS
            if size < 0 and side not in sides:
                raise UserError(
                    f"the graph's {tensor.name} has a side {axis} of any size, and the engine "
                    "doesn't say which"
                )
            for shape, chosen in zip(shapes, sides[side] if size < 0 else [size] * 3, strict=True):
                shape.append(chosen)
        profile[tensor.name] = shapes
    if all(least == largest for least, _, largest in profile.values()):
        for tensor in inputs:
            tensor.shape = tuple(profile[tensor.name][0])
        return profile, None
    ranges = builder.create_optimization_profile()
    for name, (least, best, largest) in profile.items():
        ranges.set_shape(name, tuple(least), tuple(best), tuple(largest))
    return profile, ranges


@cache
def make_log(trt: Any) -> Any:
    """The TensorRT logger of this process, which keeps the first error and the last (`first` and
    `last`, one line each) and prints nothing. There is one, for TensorRT announces that it ignores
    a second."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.forget()

        def forget(self) -> None:
            self.first = self.last = ""

        def log(self, severity: Any, msg: str) -> None:
            error = severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)
            if error and NO_DRIVER not in msg:
                self.last = _line(msg)
                self.first = self.first or self.last

    return Log()


def _make_monitor(trt: Any, progress: Callable[[int, int], None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Phases lie in phases: tells how much of the outermost is done, in thousandths. Ctrl-C
        ends the build."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases: dict[str, tuple[str | None, int, int]] = {}  # parent, steps done, steps
            self.told = -1
            self.stopped = False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases[phase_name] = parent_phase, 0, num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            parent, _, steps = self.phases[phase_name]
            self.phases[phase_name] = parent, step + 1, steps
            outermost = max(self.done(name) for name, phase in self.phases.items() if not phase[0])
            try:
                if (now := int(1000 * outermost)) > self.told:
                    self.told = now
                    progress(now, 1000)
            except KeyboardInterrupt:
                self.stopped = True
            return not self.stopped

        def phase_finish(self, phase_name: str) -> None:
            self.phases.pop(phase_name, None)

        def done(self, name: str) -> float:
            _, done, steps = self.phases[name]
            inner = [self.done(n) for n, phase in self.phases.items() if phase[0] == name]
            return min(1.0, (done + max(inner, default=0.0)) / steps)

    return Monitor()
