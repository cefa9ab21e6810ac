"""The `tensorrt` and the `tensorrt-rtx` backend: a bundle's plans, with torch tensors as their
buffers."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avsl.engines.backends.device import DeviceEngine
from avsl.engines.backends.plans import (
    NoPlan,
    Wanted,
    build_plans,
    forget_plan,
    load_plan,
    plan_folder,
    wanted_plans,
    write_file,
)
from avsl.engines.backends.tensorrt_build import make_log
from avsl.engines.backends.tensorrt_library import TENSORRT, Library
from avsl.engines.bundle import Bundle
from avsl.engines.errors import UserError


class TensorRtEngine(DeviceEngine):
    """A bundle in TensorRT, by the plans that were built for `batch` rows on this machine; more
    rows than that run in turns. Where kernels are compiled just in time, plans that aren't there
    are built first.

    Raises:
        NoPlan: one of them isn't there, or can't be loaded any more; building it helps.
        UserError: there is no such library, or no GPU that it runs on, or the plans couldn't be
            built.
    """

    def __init__(
        self,
        bundle: Bundle,
        batch: int = 1,
        library: Library = TENSORRT,
        device: torch.device | str = "cuda",
    ) -> None:
        self.name, self._library, self._batch = library.name, library, batch
        device = torch.device(device)
        version, gpu = library.load().__version__, library.gpu_here(device.index)
        plans = wanted_plans(bundle, batch, library, version, gpu)
        try:
            graphs = _graphs(plans, library, device)
        except NoPlan:
            if not library.just_in_time:
                raise
            build_plans(bundle, batch, library)
            try:
                graphs = _graphs(plans, library, device)
            except NoPlan as fault:  # building it didn't help
                raise UserError(f"{library.backend}: {fault}") from None
        self.precisions = {graph.precision for graph in graphs}
        sound, picture = graphs
        super().__init__(bundle, sound, picture, device)

    def for_pictures(self, height: int, width: int) -> TensorRtEngine:
        """With a plan for pictures of this shape, where one is built in no time; else pictures are
        stretched to the size that there is a plan for."""
        fitted = self.bundle.fitted(height, width)
        if fitted.picture_size == self.bundle.picture_size or not self._library.just_in_time:
            return self
        return TensorRtEngine(fitted, self._batch, self._library, self.device)

    @property
    def why(self) -> str:
        return f"{super().why}, {' and '.join(sorted(self.precisions))}"


def _graphs(plans: list[Wanted], library: Library, device: torch.device) -> list[PlanGraph]:
    folder, graphs = plan_folder(), []
    for wanted in plans:
        try:
            graphs.append(PlanGraph(library, wanted, folder, device))
        except NoPlan:
            forget_plan(wanted, folder)
            raise
    return graphs


class PlanGraph:
    """A plan as a function of tensors, to all that the graph gives.

    Raises:
        NoPlan: there is none, TensorRT can't load it, or it is not what was wanted.
    """

    def __init__(
        self, library: Library, wanted: Wanted, folder: Path, device: torch.device
    ) -> None:
        trt = library.load()
        plan, sidecar = load_plan(wanted, folder)
        self.precision = sidecar["precision"]
        self._log = make_log(trt)
        self._log.forget()
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise NoPlan(f"{library.name} can't load the plan {wanted.label} ({self._log.first})")
        self._label, self._device = wanted.label, device
        self.inputs, self.outputs = tuple(sidecar["inputs"]), tuple(sidecar["outputs"])
        self._most = max(largest[0] for _, _, largest in sidecar["inputs"].values())
        dtypes = {
            trt.DataType.FLOAT: torch.float32,
            trt.DataType.UINT8: torch.uint8,
            trt.DataType.INT32: torch.int32,
            trt.DataType.INT64: torch.int64,
        }
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self._dtypes = {name: dtypes.get(self._engine.get_tensor_dtype(name)) for name in names}
        if {*names} != {*self.inputs, *self.outputs} or None in self._dtypes.values():
            raise NoPlan(f"the plan {wanted.label} has other inputs and outputs: {names}")
        self._kernels = None
        if library.just_in_time:
            self._kernels = Kernels(trt, self._engine, wanted.file(folder, ".kernels"))
        # A CUDA graph keeps to the context that it was captured from, and that to its shapes:
        # single rows have one of their own.
        self._contexts: dict[bool, Any] = {}
        self._ran: set[int] = set()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        rows = len(inputs[0])
        if rows > self._most:
            parts = zip(*(torch.split(x, self._most) for x in inputs), strict=True)
            return tuple(map(torch.cat, zip(*(self(*part) for part in parts), strict=True)))
        context = self._contexts.get(rows == 1)
        if context is None:
            settings = (self._kernels.config,) if self._kernels else ()
            context = self._engine.create_execution_context(*settings)
            self._must(context is not None, "create_execution_context")
            self._contexts[rows == 1] = context
        inputs = tuple(x.contiguous() for x in inputs)  # kept, for TensorRT has but addresses
        for name, x in zip(self.inputs, inputs, strict=True):
            if x.dtype != self._dtypes[name] or x.device.type != self._device.type:
                raise ValueError(f"{name}: {x.dtype} on {x.device}")
            self._must(context.set_input_shape(name, tuple(x.shape)), f"set_input_shape {name}")
            self._must(context.set_tensor_address(name, x.data_ptr()), "set_tensor_address")
        made = []
        for name in self.outputs:
            shape = tuple(context.get_tensor_shape(name))
            made.append(torch.empty(shape, dtype=self._dtypes[name], device=self._device))
            address = made[-1].data_ptr()
            self._must(context.set_tensor_address(name, address), "set_tensor_address")
        cuda = self._device.type == "cuda"
        stream = torch.cuda.current_stream(self._device).cuda_stream if cuda else 0
        self._must(context.execute_async_v3(stream), "execute_async_v3")
        if self._kernels and rows not in self._ran:
            self._ran.add(rows)
            self._kernels.keep()
        return tuple(made)

    def _must(self, done: bool, what: str) -> None:
        """TensorRT says by a bool what went wrong, and why in its log."""
        if not done:
            raise RuntimeError(f"TensorRT: {what} of {self._label} failed: {self._log.last}")


class Kernels:
    """What was compiled for a plan just in time, kept in a file beside it for the next start."""

    def __init__(self, trt: Any, engine: Any, path: Path) -> None:
        self.config = engine.create_runtime_config()
        # At once, not beside the first runs: a CUDA graph keeps what it has captured.
        eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        self.config.dynamic_shapes_kernel_specialization_strategy = eager
        self._cache = self.config.create_runtime_cache()
        self._path, self._kept = path, b""
        with contextlib.suppress(OSError):
            self._kept = path.read_bytes()
            self._cache.deserialize(self._kept)  # it refuses what another driver has compiled
        self.config.set_runtime_cache(self._cache)

    def keep(self) -> None:
        """Writes what there is more by now; where that can't be, it is compiled again next time."""
        compiled = bytes(self._cache.serialize() or b"")
        if compiled and compiled != self._kept:
            self._kept = compiled
            with contextlib.suppress(OSError):
                write_file(self._path, compiled)
