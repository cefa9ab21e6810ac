"""What of TensorRT is needed to build a plan, and to prove of what precision it is.

Written for 10.12 to 11.x, which have no working switch for half precision any more: it stands in
the bundle's graphs, and the network is always strongly typed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from avsl.engines.errors import UserError

SETTINGS = {"strongly typed": True, "tf32": False, "level": 3, "workspace": 2 << 30}
"""How every plan is built; part of what tells plans apart."""
Profile = dict[str, list[list[int]]]
"""The least, best and largest shape of each input."""


@dataclass(frozen=True)
class Built:
    """A plan, what was learnt about kernels' times, and what is in the plan."""

    plan: bytes
    timings: bytes
    half_share: float
    """Of the layers: how many have a tensor in half precision."""
    layers: int


def build(
    trt: Any,
    onnx: bytes,
    profile: Profile,
    timings: bytes,
    progress: Callable[[int, int], None],
) -> Built:
    """Builds a plan; takes minutes.

    Args:
        trt: the `tensorrt` module.
        timings: of an earlier build, or nothing; it makes this one faster.
        progress: progress(done, total), of what is under way.

    Raises:
        UserError: TensorRT doesn't take the graph, or makes nothing of it.
    """
    log, name = make_log(trt), f"TensorRT {trt.__version__}"
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx):
        why = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise UserError(f"{name} doesn't take the graph: {' '.join(why.split())}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, SETTINGS["workspace"])
    config.builder_optimization_level = SETTINGS["level"]
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for the inspector
    _set_shapes(builder, network, config, profile)
    if not config.set_timing_cache(config.create_timing_cache(timings), False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
    config.progress_monitor = monitor = _make_monitor(trt, progress)
    made = builder.build_serialized_network(network, config)
    if monitor.stopped:
        raise KeyboardInterrupt
    if made is None:
        raise UserError(f"{name} built nothing: {log.last or 'it says nothing'}")
    plan = bytes(made)
    runtime = trt.Runtime(log)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise UserError(f"{name} can't load what it built: {log.last}")
    half, layers = _inspect(trt, engine, profile)
    return Built(plan, bytes(config.get_timing_cache().serialize()), half / max(layers, 1), layers)


def _set_shapes(builder: Any, network: Any, config: Any, profile: Profile) -> None:
    """One shape for live, which TensorRT can count on; a range of them for files."""
    inputs = {tensor.name: tensor for tensor in map(network.get_input, range(network.num_inputs))}
    if inputs.keys() != profile.keys():
        raise UserError(f"the graph has the inputs {', '.join(inputs)}, not {', '.join(profile)}")
    if all(least == largest for least, _, largest in profile.values()):
        for name, (shape, _, _) in profile.items():
            inputs[name].shape = tuple(shape)
        return
    shapes = builder.create_optimization_profile()
    for name, (least, best, largest) in profile.items():
        shapes.set_shape(name, tuple(least), tuple(best), tuple(largest))
    if config.add_optimization_profile(shapes) < 0:
        raise UserError("TensorRT doesn't take the graph's shapes")


def _inspect(trt: Any, engine: Any, profile: Profile) -> tuple[int, int]:
    """How many layers have a tensor in half precision, and how many have tensors at all."""
    inspector = engine.create_engine_inspector()
    context = engine.create_execution_context()
    for name, (_, _, largest) in profile.items():  # without shapes, formats are not given
        context.set_input_shape(name, tuple(largest))
    inspector.execution_context = context
    told = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    formats = [
        " ".join(str(tensor.get("Format/Datatype")) for tensor in tensors).lower()
        for layer in told["Layers"]
        if isinstance(layer, dict)
        and (tensors := [*layer.get("Inputs", []), *layer.get("Outputs", [])])
    ]
    return sum("half" in text or "fp16" in text for text in formats), len(formats)


def make_log(trt: Any) -> Any:
    """A TensorRT logger that keeps the last error (`last`, one line) and prints nothing."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.last = " ".join(msg.split())

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
