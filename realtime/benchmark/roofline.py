"""How near each group of layers is to what the GPU can do: `python -m avsl.realtime.benchmark` on
a machine with one.

Every operation that the torch backend runs is timed and its arithmetic and memory traffic counted:
it can't take less than its FLOPs at the rate of a large matrix product, nor less than its bytes at
the rate of a large copy, both measured in the same run. That least time over its time is its share
of the roofline (Williams et al., CACM 52(4), 2009).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from avsl.engines import Bundle

BATCHES = (1, 32)


@dataclass
class Work:
    """What the operations of one group did."""

    calls: int = 0
    flops: float = 0.0
    bytes: float = 0.0
    seconds: float = 0.0
    least: float = 0.0
    """Seconds that they take at the least."""


@dataclass(frozen=True)
class Ceilings:
    """What a device reaches: FLOPs a second in each type, and bytes a second."""

    flops: dict[torch.dtype, float]
    bytes: float


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Times and counts all operations that run under it."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        self.rows: list[tuple[str, torch.dtype, float, float, Callable[[], float]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        ended = _stopwatch(self._device)
        out = func(*args, **(kwargs or {}))
        taken = ended()
        outputs = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        if outputs and not func.is_view:
            inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            name = func._schema.name.removeprefix("aten::")
            flops = _flops(name, inputs, outputs[0])
            moved = sum(x.numel() * x.element_size() for x in (*inputs, *outputs))
            group = _group(name, outputs[0]) if flops else "other"
            self.rows.append((group, outputs[0].dtype, flops, moved, taken))
        return out

    def groups(self, ceilings: Ceilings) -> dict[str, Work]:
        """What was counted, by group, in the order in which they began."""
        found: dict[str, Work] = {}
        for group, dtype, flops, moved, taken in self.rows:
            work = found.setdefault(group, Work())
            work.calls += 1
            work.flops += flops
            work.bytes += moved
            work.seconds += taken()
            peak = ceilings.flops.get(dtype, ceilings.flops[torch.float32])
            work.least += max(flops / peak, moved / ceilings.bytes)
        return found


def _flops(name: str, inputs: list[Tensor], out: Tensor) -> float:
    """Two for each multiplication and addition of a convolution or a matrix product; 0 for what
    does a few for each number that it reads."""
    if "conv" in name:
        return 2.0 * out.numel() * inputs[1][0].numel()
    if name in ("mm", "bmm", "matmul", "linear", "addmm"):
        reduced = inputs[1 if name == "addmm" else 0].shape[-1]
        return 2.0 * out.numel() * reduced
    return 0.0


def _group(name: str, out: Tensor) -> str:
    kind = "convolutions" if "conv" in name else "matrix products"
    size = "x".join(map(str, out.shape[2:])) if "conv" in name else ""
    precision = "" if out.dtype == torch.float16 else f", {str(out.dtype).removeprefix('torch.')}"
    return f"{kind}{' to ' + size if size else ''}{precision}"


def _stopwatch(device: torch.device) -> Callable[[], Callable[[], float]]:
    """Starts; the call stops it and gives what tells the seconds, once the device has got there."""
    if device.type != "cuda":
        began = time.perf_counter()

        def stop() -> Callable[[], float]:
            seconds = time.perf_counter() - began
            return lambda: seconds

        return stop
    begin, end = (
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(2)
    )
    begin.record()

    def stop_event() -> Callable[[], float]:
        end.record()
        return lambda: begin.elapsed_time(end) / 1000

    return stop_event


def best_time(work: Callable[[], Any], device: torch.device, rounds: int = 10) -> float:
    """Seconds of the fastest of some runs, on the device."""
    work()
    times = []
    for _ in range(rounds):
        ended = _stopwatch(device)
        work()
        times.append(ended())
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return min(taken() for taken in times)


def ceilings(device: torch.device, side: int = 8192, size: int = 1 << 30) -> Ceilings:
    """Measures a product of two square matrices (without TF32), and a copy of `size` bytes."""
    flops = {}
    for dtype in (torch.float16, torch.float32):
        a = torch.randn(side, side, device=device).to(dtype)
        flops[dtype] = 2 * side**3 / best_time(lambda a=a: a @ a, device)  # type: ignore[misc]
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Ceilings(flops, 2 * size / best_time(lambda: target.copy_(source), device))


def count(work: Callable[[], Any], device: torch.device, limits: Ceilings) -> dict[str, Work]:
    """The groups of what `work` runs on the device."""
    work()
    with torch.no_grad(), Counter(device) as counter:
        if device.type == "cuda":
            # While the device sleeps, launches get ahead of it, and are not timed with the work.
            torch.cuda._sleep(500_000_000)  # type: ignore[no-untyped-call]
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return counter.groups(limits)


def on_gpu() -> bool:
    return torch.cuda.is_available()


def gpu() -> str:
    """What the GPU is called, and what it can."""
    about = torch.cuda.get_device_properties(0)
    return (
        f"{about.name}, compute capability {about.major}.{about.minor}, "
        f"{about.multi_processor_count} SMs, {about.total_memory >> 30} GiB, "
        f"CUDA {torch.version.cuda}"
    )


def roofline(
    bundle: Bundle, device: torch.device | str = "cuda", limits: Ceilings | None = None
) -> dict[str, Any]:
    """Of the torch backend on a device, at each batch size: its time, and its groups' shares. Its
    ceilings are measured, unless they have been."""
    from avsl.engines.backends.torch import TorchEngine

    engine = TorchEngine(bundle, device)
    device = engine.device
    with torch.no_grad(), torch.cuda.stream(engine.stream):
        limits = limits or ceilings(device)
        lines = [
            f"{bundle.name} on the GPU, torch backend; ceilings measured: "
            f"{limits.flops[torch.float16] / 1e12:.0f} TFLOP/s in half precision, "
            f"{limits.flops[torch.float32] / 1e12:.0f} in single, {limits.bytes / 1e9:.0f} GB/s",
            "",
        ]
        tables = {}
        for batch in BATCHES:
            picture = torch.randint(
                0, 256, (batch, *bundle.picture_size, 3), dtype=torch.uint8, device=device
            )
            samples = 0.1 * torch.randn(batch, bundle.window.length, device=device)

            embedding = engine.embed_on(samples)
            parts: dict[str, Callable[[], Tensor]] = {
                "sound": partial(engine.embed_on, samples),
                "picture": partial(engine.localize_on, picture, embedding),
            }
            seconds = sum(best_time(part, device, 50) for part in parts.values())
            groups = {  # at batch 1 all of it is one replay of a CUDA graph
                f"{name}: {group}": work
                for name, part in parts.items()
                if batch > 1
                for group, work in count(part, device, limits).items()
            }
            shares = {name: vars(group) for name, group in groups.items()}
            tables[batch] = {"ms": 1000 * seconds, "groups": shares}
            lines.append(
                f"batch {batch}: {1000 * seconds:.3f} ms, {batch / seconds:.0f} pictures/s"
            )
            if groups:
                lines += ["", *table(groups)]
    return {
        "ceilings": {
            "tflops_half": limits.flops[torch.float16] / 1e12,
            "tflops_single": limits.flops[torch.float32] / 1e12,
            "gb_per_s": limits.bytes / 1e9,
        },
        "batches": tables,
        "lines": [*lines, ""],
    }


def table(groups: dict[str, Work]) -> list[str]:
    """The groups as Markdown, and all together."""
    whole = Work()
    for work in groups.values():
        for name, value in vars(work).items():
            setattr(whole, name, getattr(whole, name) + value)
    return [
        "| layers | calls | ms | GFLOP | MB | share of the roofline |",
        "|---|---:|---:|---:|---:|---:|",
        *(
            f"| {name} | {w.calls} | {1000 * w.seconds:.3f} | {w.flops / 1e9:.2f} | "
            f"{w.bytes / 1e6:.1f} | {100 * w.least / w.seconds:.0f} % |"
            for name, w in (*groups.items(), ("all", whole))
        ),
    ]
