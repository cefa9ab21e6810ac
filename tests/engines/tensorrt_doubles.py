"""The real TensorRT classes on a machine without a GPU, with ONNX Runtime at work behind them.

The bindings are an ordinary wheel. They import over libraries that hold nothing but the nine
functions they look up; with those every class, enum and docstring is there, and nothing runs.
`doubles` puts objects in their place that take only the names, the arguments and the settings that
the real classes have, by pybind11's docstrings.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from avsl.engines.backends.onnx_file import read_graph

VERSIONS = ("10.16.1.11", "11.4.0.106")
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
STAND_IN = """
void *createInferBuilder_INTERNAL(void) { return 0; }
void *createInferRefitter_INTERNAL(void) { return 0; }
void *createInferRuntime_INTERNAL(void) { return 0; }
void *createNvOnnxParser_INTERNAL(void) { return 0; }
void *createNvOnnxParserRefitter_INTERNAL(void) { return 0; }
void *getBuilderPluginRegistry(void) { return 0; }
void *getPluginRegistry(void) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
int initLibNvInferPlugins(void) { return 1; }
"""


class Missing(Exception):
    """Why the bindings can't be had here."""


def fetch(version: str, folder: Path) -> None:
    """Puts the bindings and the stand-in libraries into `folder`, once."""
    if (folder / "whole").exists():
        return
    if not shutil.which("gcc"):
        raise Missing("no gcc for the stand-in libraries")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--retries", "1"]
    wheel = f"tensorrt-cu13-bindings=={version}"
    done = subprocess.run(
        [*pip, "--target", folder / "site", wheel], capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        raise Missing(f"pip can't install {wheel}: {done.stderr.strip().splitlines()[-1:]}")
    source = folder / "stand_in.c"
    source.write_text(STAND_IN)
    for library in LIBRARIES:
        name = f"lib{library}.so.{version.split('.')[0]}"
        link = ["-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", folder / name]
        subprocess.run(["gcc", *link, source], check=True)
    (folder / "whole").touch()


def real(folder: Path) -> Any:
    """The bindings from `folder`; one version in a process."""
    for path in sorted(folder.glob("lib*.so.*")):
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    sys.path.insert(0, str(folder / "site"))
    return importlib.import_module("tensorrt_bindings")


# What the real classes take


def overloads(method: Any) -> Iterator[inspect.Signature]:
    """The signatures that a pybind11 method lists in its docstring."""
    for line in (method.__doc__ or "").splitlines():
        if found := re.match(r"\s*(?:\d+\.\s+)?\w+\((.*)\)\s*->", line):
            taken, optional = [], False
            for part in _split(found[1]):
                optional = optional or "=" in part  # C++ may have one without a default after it
                name = re.match(r"\s*(\w+)", part)
                if name and name[1] != "self":
                    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
                    default = None if optional else inspect.Parameter.empty
                    taken.append(inspect.Parameter(name[1], kind, default=default))
            yield inspect.Signature(taken)


def _split(text: str) -> list[str]:
    """At the commas that no bracket holds."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "([{<") - (c in ")]}>")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [part for part in parts if part.strip()]


class Double:
    """Stands for an object of a real class: has its names and no others, its methods take what
    theirs take, and only what can be set there can be set. Names with a _ are the fake's own."""

    def __init__(self, cls: type, **behaviour: Any) -> None:
        unknown = [name for name in behaviour if name[0] != "_" and not hasattr(cls, name)]
        assert not unknown, f"{cls.__name__} has no {unknown}"
        vars(self).update(_cls=cls, _behaviour=behaviour)

    def __getattr__(self, name: str) -> Any:
        cls, behaviour = vars(self)["_cls"], vars(self)["_behaviour"]
        if name[0] == "_":
            return behaviour[name]
        member = getattr(cls, name)  # AttributeError where the real class has no such name
        if isinstance(member, property):
            return behaviour[name]
        signatures = list(overloads(member))
        assert signatures, f"{cls.__name__}.{name} has no signature"

        def call(*arguments: Any, **named: Any) -> Any:
            for signature in signatures:
                try:
                    signature.bind(*arguments, **named)
                except TypeError:
                    continue
                return behaviour[name](*arguments, **named)
            raise TypeError(
                f"{cls.__name__}.{name}: none of {signatures} takes {arguments} {named}"
            )

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        if name[0] != "_":
            member = getattr(self._cls, name)
            settable = isinstance(member, property) and member.fset
            assert settable, f"{self._cls.__name__}.{name} can't be set"
        self._behaviour[name] = value


# What stands behind them

MAGIC = b"a plan that is none\n"


class FakeTensorRt:
    """`module` is to be imported as `tensorrt`; the rest is what a test looks at or breaks."""

    def __init__(self, trt: Any) -> None:
        self.trt = trt
        self.module = types.ModuleType("tensorrt")
        self.module.__spec__ = ModuleSpec("tensorrt", None)
        vars(self.module).update({k: v for k, v in vars(trt).items() if not k.startswith("__")})
        self.module.__version__ = trt.__version__
        self.module.Builder = self._builder
        self.module.OnnxParser = self._parser
        self.module.Runtime = self._runtime
        self.builds = 0
        self.config: Any = None
        self.flags = 0
        self.timings_given: list[bytes] = []
        self.build_gives_none = False
        self.parser_refuses = ""
        self.whole_precision = False
        self.during_build: Callable[[], None] = lambda: None
        self.streams: list[int] = []

    def _builder(self, logger: Any) -> Double:
        trt = self.trt
        assert isinstance(logger, trt.ILogger)

        def create_network(flags: int = 0) -> Double:
            self.flags = flags
            return Double(trt.INetworkDefinition, _onnx=b"")

        def build(network: Double, config: Double) -> bytes | None:
            self.builds += 1
            self.config = config
            self.during_build()
            monitor = config.progress_monitor
            assert isinstance(monitor, trt.IProgressMonitor)
            monitor.phase_start("Building", None, 3)
            go_on = [monitor.step_complete("Building", 0)]
            monitor.phase_start("Timing", "Building", 40)
            go_on += [monitor.step_complete("Timing", i) for i in range(40)]
            monitor.phase_finish("Timing")
            go_on += [monitor.step_complete("Building", i) for i in (1, 2)]
            monitor.phase_finish("Building")
            assert {type(x) for x in go_on} == {bool}
            if self.build_gives_none or not all(go_on):
                logger.log(trt.ILogger.ERROR, "[optimizer.cpp] Error Code 10:\n no implementation")
                return None
            inputs = [network.get_input(i) for i in range(network.num_inputs)]
            shapes = {x.name: [list(x.shape)] * 3 for x in inputs}
            if any(-1 in x.shape for x in inputs):
                (shapes,) = config._profiles
            head = json.dumps({"shapes": shapes, "whole": self.whole_precision}).encode()
            return MAGIC + head + b"\n" + network._onnx

        return Double(
            trt.Builder,
            create_network=create_network,
            create_builder_config=self._config,
            create_optimization_profile=self._profile,
            build_serialized_network=build,
        )

    def _profile(self) -> Double:
        shapes: dict[str, Any] = {}

        def set_shape(name: str, least: Any, best: Any, largest: Any) -> None:
            shapes[name] = [least, best, largest]

        return Double(self.trt.IOptimizationProfile, set_shape=set_shape, _shapes=shapes)

    def _config(self) -> Double:
        trt = self.trt

        def create_cache(data: bytes) -> Double:
            self.timings_given.append(data)
            fits = data in (b"", b"timings")
            return Double(trt.ITimingCache, serialize=lambda: b"timings", _fits=fits)

        def set_cache(cache: Double, ignore_mismatch: bool) -> bool:
            config._cache = cache
            return cache._fits and not ignore_mismatch

        def add(profile: Double) -> int:
            config._profiles.append(profile._shapes)
            return len(config._profiles) - 1

        config = Double(
            trt.IBuilderConfig,
            clear_flag=lambda flag: config._cleared.append(flag),
            set_memory_pool_limit=lambda pool, pool_size: config._pools.update({pool: pool_size}),
            create_timing_cache=create_cache,
            set_timing_cache=set_cache,
            get_timing_cache=lambda: config._cache,
            add_optimization_profile=add,
            _cleared=[],
            _pools={},
            _profiles=[],
        )
        return config

    def _parser(self, network: Double, logger: Any) -> Double:
        trt = self.trt
        assert isinstance(logger, trt.ILogger)

        def parse(model: bytes, path: str | None = None) -> bool:
            if self.parser_refuses:
                return False
            inputs = [
                Double(trt.ITensor, name=x.name, shape=(-1, *x.shape[1:]))
                for x in ort.InferenceSession(model).get_inputs()
            ]
            network._behaviour.update(
                num_inputs=len(inputs), get_input=lambda index: inputs[index], _onnx=model
            )
            return True

        def get_error(index: int) -> Double:
            return Double(trt.ParserError, desc=lambda: self.parser_refuses)

        errors = int(bool(self.parser_refuses))
        return Double(trt.OnnxParser, parse=parse, num_errors=errors, get_error=get_error)

    def _runtime(self, logger: Any) -> Double:
        assert isinstance(logger, self.trt.ILogger)

        def deserialize(plan: bytes) -> Double | None:
            if not plan.startswith(MAGIC):
                logger.log(self.trt.ILogger.ERROR, "Magic tag does not match")
                return None
            head, onnx = plan[len(MAGIC) :].split(b"\n", 1)
            return self._engine(json.loads(head), onnx)

        return Double(self.trt.Runtime, deserialize_cuda_engine=deserialize)

    def _engine(self, head: dict[str, Any], onnx: bytes) -> Double:
        trt = self.trt
        session = ort.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        tensors = {x.name: x for x in [*session.get_inputs(), *session.get_outputs()]}
        kinds = {"tensor(float)": trt.DataType.FLOAT, "tensor(uint8)": trt.DataType.UINT8}
        return Double(
            trt.ICudaEngine,
            num_io_tensors=len(tensors),
            get_tensor_name=lambda index: list(tensors)[index],
            get_tensor_dtype=lambda name: kinds[tensors[name].type],
            create_execution_context=lambda: self._context(head["shapes"], session),
            create_engine_inspector=lambda: self._inspector(head, onnx),
        )

    def _context(self, profile: dict[str, Any], session: Any) -> Double:
        output = session.get_outputs()[0]
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
            assert name == output.name
            rows = {shape[0] for shape in shapes.values()}
            return self.trt.Dims([*rows, *output.shape[1:]])

        def execute(stream_handle: int) -> bool:
            self.streams.append(stream_handle)
            feed = {}
            for x in session.get_inputs():
                dtype = np.uint8 if x.type == "tensor(uint8)" else np.float32
                size = int(np.prod(shapes[x.name])) * np.dtype(dtype).itemsize
                data = ctypes.string_at(addresses[x.name], size)
                feed[x.name] = np.frombuffer(data, dtype).reshape(shapes[x.name])
            (made,) = session.run(None, feed)
            ctypes.memmove(addresses[output.name], made.tobytes(), made.nbytes)
            return True

        return Double(
            self.trt.IExecutionContext,
            set_input_shape=set_input_shape,
            set_tensor_address=set_tensor_address,
            get_tensor_shape=shape_of,
            execute_async_v3=execute,
            _shapes=shapes,
        )

    def _inspector(self, head: dict[str, Any], onnx: bytes) -> Double:
        """Says of each layer with weights what they are, as the real one does: of a plan for a
        range of shapes only with a context that has them."""
        trt = self.trt

        def tell(format: Any) -> str:  # noqa: A002
            assert format == trt.LayerInformationFormat.JSON
            assert self.config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
            layers = [{"LayerType": "signal"}]
            for kind in weight_kinds(onnx):
                half = kind == np.float16 and not head["whole"]
                text = "Half(64,1:8,...)" if half else "Row major linear FP32 format"
                if not inspector.execution_context._shapes:
                    text = "N/A due to dynamic shapes"
                tensor = {"Name": "x", "Format/Datatype": text}
                layers.append({"LayerType": "CaskConvolution", "Inputs": [], "Outputs": [tensor]})
            return json.dumps({"Layers": layers, "Bindings": []})

        inspector = Double(trt.EngineInspector, get_engine_information=tell)
        return inspector


def weight_kinds(onnx: bytes) -> list[Any]:
    """Of each convolution and linear layer the type of its weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        with path.open("wb") as file:
            file.write(onnx)
        graph = read_graph(path)
    weights = [node.inputs[1] for node in graph.nodes if node.op in ("Conv", "Gemm")]
    return [graph.constants[name].dtype for name in weights]
