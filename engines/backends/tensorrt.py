"""The `tensorrt` backend: a bundle's plans, with torch tensors as their buffers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from avsl.engines.backends.device import DeviceEngine
from avsl.engines.backends.plans import (
    NoPlan,
    Wanted,
    forget_plan,
    gpu_facts,
    import_tensorrt,
    load_plan,
    plan_folder,
    wanted_plans,
)
from avsl.engines.backends.tensorrt_build import make_log
from avsl.engines.bundle import Bundle


class TensorRtEngine(DeviceEngine):
    """A bundle in TensorRT, by the plans that were built for `batch` rows on this machine; more
    rows than that run in turns.

    Raises:
        NoPlan: one of them isn't there, or can't be loaded any more; building it helps.
        UserError: there is no TensorRT or no GPU, or the plans couldn't be built.
    """

    name = "TensorRT"

    def __init__(self, bundle: Bundle, batch: int = 1, device: torch.device | str = "cuda") -> None:
        trt, device = import_tensorrt(), torch.device(device)
        plans = wanted_plans(bundle, batch, trt.__version__, gpu_facts(device.index))
        folder = plan_folder()
        graphs, self.precisions = [], set[str]()
        for wanted in plans:
            try:
                plan, sidecar = load_plan(wanted, folder)
                self.precisions.add(sidecar["precision"])
                graphs.append(PlanGraph(trt, plan, wanted, device))
            except NoPlan:
                forget_plan(wanted, folder)
                raise
        sound, picture = graphs
        super().__init__(bundle, sound, picture, device)

    def for_pictures(self, height: int, width: int) -> TensorRtEngine:
        return self  # a plan is for pictures of one size

    @property
    def why(self) -> str:
        return f"{super().why}, {' and '.join(sorted(self.precisions))}"


class PlanGraph:
    """A plan as a function of tensors.

    Raises:
        NoPlan: TensorRT can't load it, or it is not what was wanted.
    """

    def __init__(self, trt: Any, plan: bytes, wanted: Wanted, device: torch.device) -> None:
        self._log = make_log(trt)
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise NoPlan(f"TensorRT can't load the plan {wanted.label} ({self._log.last})")
        self._label, self._device = wanted.label, device
        self._batch = max(largest[0] for _, _, largest in wanted.profile.values())
        self._inputs = tuple(wanted.profile)
        dtypes = {
            trt.DataType.FLOAT: torch.float32,
            trt.DataType.UINT8: torch.uint8,
            trt.DataType.INT32: torch.int32,
        }
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self._dtypes = {name: dtypes.get(self._engine.get_tensor_dtype(name)) for name in names}
        self.outputs = [name for name in names if name not in self._inputs]
        if not self.outputs or None in self._dtypes.values() or not {*self._inputs} < {*names}:
            raise NoPlan(f"the plan {wanted.label} has other inputs and outputs: {names}")
        # A CUDA graph keeps to the context that it was captured from, and that to its shapes:
        # single rows have one of their own.
        self._contexts: dict[bool, Any] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        rows = len(inputs[0])
        if rows > self._batch:
            parts = zip(*(torch.split(x, self._batch) for x in inputs), strict=True)
            made = zip(*(self(*part) for part in parts), strict=True)
            return tuple(torch.cat(output) for output in made)
        context = self._contexts.get(rows == 1)
        if context is None:
            context = self._contexts[rows == 1] = self._engine.create_execution_context()
            self._must(context is not None, "create_execution_context")
        inputs = tuple(x.contiguous() for x in inputs)  # kept, for TensorRT has but addresses
        for name, x in zip(self._inputs, inputs, strict=True):
            if x.dtype != self._dtypes[name] or x.device.type != self._device.type:
                raise ValueError(f"{name}: {x.dtype} on {x.device}")
            self._must(context.set_input_shape(name, tuple(x.shape)), f"set_input_shape {name}")
            self._must(context.set_tensor_address(name, x.data_ptr()), "set_tensor_address")
        outputs = []
        for name in self.outputs:
            shape = tuple(context.get_tensor_shape(name))
            out = torch.empty(shape, dtype=self._dtypes[name], device=self._device)
            self._must(context.set_tensor_address(name, out.data_ptr()), "set_tensor_address")
            outputs.append(out)
        cuda = self._device.type == "cuda"
        stream = torch.cuda.current_stream(self._device).cuda_stream if cuda else 0
        self._must(context.execute_async_v3(stream), "execute_async_v3")
        return tuple(outputs)

    def _must(self, done: bool, what: str) -> None:
        """TensorRT says by a bool what went wrong, and why in its log."""
        if not done:
            raise RuntimeError(f"TensorRT: {what} of {self._label} failed: {self._log.last}")
