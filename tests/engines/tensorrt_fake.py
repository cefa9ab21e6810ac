"""A TensorRT that builds for real, and whose plans ONNX Runtime runs; see tensorrt_doubles.py."""

from __future__ import annotations

import ctypes
import hashlib
import json
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np
import onnxruntime as ort
from tensorrt_doubles import Checked, Double, forward

Shapes = dict[str, list[list[int]]]


class FakeTensorRt:
    """`module` is to be imported in the place of `trt`; the rest is what a test looks at or breaks.

    Args:
        trt: whose classes are held to.
        rtx: TensorRT for RTX, which builds; it may be the same.
    """

    def __init__(self, name: str, trt: Any, rtx: Any) -> None:
        self.trt, self.rtx = trt, rtx
        self.module = types.ModuleType(name)
        self.module.__spec__ = ModuleSpec(name, None)
        vars(self.module).update({k: v for k, v in vars(trt).items() if not k.startswith("__")})
        self.module.__version__ = trt.__version__
        self.module.Builder = self._builder
        self.module.OnnxParser = self._parser
        self.module.Runtime = self._runtime
        self.builds = 0
        self.flags = 0
        self.network: Any = None
        self.config: Any = None
        """Of the last build, real ones."""
        self.build_gives_none = False
        self.during_build: Callable[[], None] = lambda: None
        self.timings_given: list[bytes] = []
        self.compiled: list[int] = []
        """For how many rows kernels were compiled that no cache held."""
        self.streams: list[int] = []
        self._plans: dict[str, tuple[bytes, Shapes]] = {}
        self._logger: Any = None
        self._timings: Any = None
        self.instead: dict[str, Callable[..., Any]] = {
            "create_network": self._network,
            "parse": self._parse,
            "add_optimization_profile": self._add_profile,
            "build_serialized_network": self._build,
        }
        if trt is not rtx:
            self.instead |= {
                "create_timing_cache": self._new_timings,
                "set_timing_cache": self._take_timings,
                "get_timing_cache": lambda config: self._timings,
            }

    # What builds

    def told(self, logger: Any) -> Any:
        """A logger of TensorRT for RTX that hands on."""
        if self.trt is self.rtx:
            return logger
        trt, rtx = self.trt, self.rtx
        if self._logger is None:

            class Log(rtx.ILogger):
                def __init__(self) -> None:
                    rtx.ILogger.__init__(self)

                def log(self, severity: Any, msg: str) -> None:
                    logger.log(getattr(trt.ILogger, severity.name), msg)

            self._logger = Log()
        return self._logger

    def _builder(self, logger: Any) -> Checked:
        assert isinstance(logger, self.trt.ILogger)
        return Checked(self, self.trt.Builder, self.rtx.Builder(self.told(logger)))

    def _network(self, builder: Checked, flags: int = 0) -> Checked:
        """Flags have other bits there."""
        self.flags = flags
        names = self.trt.NetworkDefinitionCreationFlag.__members__
        known = self.rtx.NetworkDefinitionCreationFlag
        set_ = [name for name, flag in names.items() if flags & 1 << int(flag)]
        bits = sum(1 << int(getattr(known, name)) for name in set_)
        return forward(builder, "create_network", bits)

    def _parser(self, network: Checked, logger: Any) -> Checked:
        assert isinstance(logger, self.trt.ILogger)
        real = self.rtx.OnnxParser(network._real, self.told(logger))
        parser = Checked(self, self.trt.OnnxParser, real)
        parser._network = network
        return parser

    def _parse(self, parser: Checked, model: bytes, path: str | None = None) -> bool:
        parser._network._onnx = model
        return forward(parser, "parse", model)

    def _add_profile(self, config: Checked, profile: Checked) -> int:
        config._profile = profile
        return forward(config, "add_optimization_profile", profile)

    def _build(self, builder: Checked, network: Checked, config: Checked) -> Any | None:
        self.builds += 1
        self.network, self.config = network._real, config._real
        self.during_build()
        if self.build_gives_none:
            self.network.unmark_output(self.network.get_output(0))
        shapes: Shapes = {}
        for i in range(self.network.num_inputs):
            tensor = network._real.get_input(i)
            shapes[tensor.name] = [list(tensor.shape)] * 3
            if -1 in tensor.shape:
                ranges = config._profile._real.get_shape(tensor.name)
                shapes[tensor.name] = [list(shape) for shape in ranges]
        made = forward(builder, "build_serialized_network", network, config)
        if made is not None:
            self._plans[hashlib.sha256(bytes(made)).hexdigest()] = network._onnx, shapes
        return made

    # Times of kernels, which TensorRT for RTX doesn't take

    def _new_timings(self, config: Checked, serialized_timing_cache: bytes) -> Double:
        self.timings_given.append(serialized_timing_cache)
        fits = serialized_timing_cache in (b"", b"timings")
        return Double(self.trt.ITimingCache, serialize=lambda: b"timings", _fits=fits)

    def _take_timings(self, config: Checked, cache: Double, ignore_mismatch: bool) -> bool:
        self._timings = cache
        return cache._fits and not ignore_mismatch

    # What loads and runs

    def _runtime(self, logger: Any) -> Double:
        assert isinstance(logger, self.trt.ILogger)

        def deserialize(plan: bytes) -> Double | None:
            known = self._plans.get(hashlib.sha256(plan).hexdigest())
            if known is None:
                logger.log(self.trt.ILogger.ERROR, "Magic tag does not match")
                return None
            return self._engine(*known)

        return Double(self.trt.Runtime, deserialize_cuda_engine=deserialize)

    def _engine(self, onnx: bytes, profile: Shapes) -> Double:
        trt = self.trt
        session = ort.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        tensors = {x.name: x for x in [*session.get_inputs(), *session.get_outputs()]}
        kinds = {"tensor(float)": trt.DataType.FLOAT, "tensor(uint8)": trt.DataType.UINT8}

        def context(config: Double | None = None) -> Double:
            assert bool(config) == (trt is self.rtx)
            return self._context(profile, session, config)

        return Double(
            trt.ICudaEngine,
            num_io_tensors=len(tensors),
            get_tensor_name=lambda index: sorted(tensors)[index],  # as it comes
            get_tensor_dtype=lambda name: kinds[tensors[name].type],
            create_execution_context=context,
            create_runtime_config=self._runtime_config,
        )

    def _runtime_config(self) -> Double:
        trt, rows = self.trt, set[int]()

        def deserialize(blob: bytes) -> bool:
            try:
                rows.update(json.loads(blob))
            except ValueError:
                return False
            return True

        def set_cache(cache: Double) -> bool:
            config._rows = cache._rows
            return True

        cache = Double(
            trt.IRuntimeCache,
            serialize=lambda: json.dumps(sorted(rows)).encode(),
            deserialize=deserialize,
            _rows=rows,
        )
        config = Double(
            trt.IRuntimeConfig,
            create_runtime_cache=lambda: cache,
            set_runtime_cache=set_cache,
        )
        return config

    def _compile(self, rows: int, config: Double) -> None:
        eager = self.trt.DynamicShapesKernelSpecializationStrategy.EAGER
        assert config.dynamic_shapes_kernel_specialization_strategy == eager
        if rows not in config._rows:
            self.compiled.append(rows)
            config._rows.add(rows)

    def _context(self, profile: Shapes, session: Any, config: Double | None) -> Double:
        outputs = {x.name: x for x in session.get_outputs()}
        shapes: dict[str, tuple[int, ...]] = {}
        addresses: dict[str, int] = {}

        def set_input_shape(name: str, shape: tuple[int, ...]) -> bool:
            least, _, largest = (np.array(x) for x in profile[name])
            fits = (least <= shape).all() and (shape <= largest).all()
            shapes.update({name: shape} if fits else {})
            return bool(fits)

        def set_tensor_address(name: str, memory: int) -> bool:
            addresses[name] = memory
            return memory % 4 == 0

        def shape_of(name: str) -> Any:
            rows = {shape[0] for shape in shapes.values()}
            return self.trt.Dims([*rows, *outputs[name].shape[1:]])

        def execute(stream_handle: int) -> bool:
            self.streams.append(stream_handle)
            feed = {}
            for x in session.get_inputs():
                dtype = np.uint8 if x.type == "tensor(uint8)" else np.float32
                size = int(np.prod(shapes[x.name])) * np.dtype(dtype).itemsize
                data = ctypes.string_at(addresses[x.name], size)
                feed[x.name] = np.frombuffer(data, dtype).reshape(shapes[x.name])
            if config:
                self._compile(len(next(iter(feed.values()))), config)
            for name, made in zip(outputs, session.run([*outputs], feed), strict=True):
                ctypes.memmove(addresses[name], made.tobytes(), made.nbytes)
            return True

        return Double(
            self.trt.IExecutionContext,
            set_input_shape=set_input_shape,
            set_tensor_address=set_tensor_address,
            get_tensor_shape=shape_of,
            execute_async_v3=execute,
        )
