"""NVIDIA's two TensorRTs: the one for all of its GPUs, and the one for GeForce and RTX cards.

Their Python modules have the same classes. What differs is said here, and code asks for what
differs, not for a name.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from avsl.engines.errors import UserError


class NotInstalled(UserError):
    """There is no such library here."""


@dataclass(frozen=True)
class Library:
    """One of the two."""

    backend: str
    """What `--backend` and the extra call it."""
    name: str
    """What people call it."""
    module: str
    just_in_time: bool
    """Kernels are compiled where a plan is loaded. So a plan is made in a fraction of a second, on
    any machine, for a compute capability; the other kind is timed for minutes on the very GPU."""

    @property
    def installed(self) -> bool:
        return find_spec(self.module) is not None

    def load(self) -> Any:
        """Its Python module.

        Raises:
            NotInstalled: it isn't there.
            UserError: it can't be loaded.
        """
        try:
            return importlib.import_module(self.module)
        except ModuleNotFoundError:
            raise NotInstalled(
                f"{self.backend}: not installed; pip install 'avsl[{self.backend}]'"
            ) from None
        except Exception as error:  # libraries that don't fit: each version raises something else
            why = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{self.backend}: can't be loaded ({why})") from None

    def gpu_here(self, index: int | None = None) -> dict[str, Any]:
        """What of this machine's GPU a plan depends on.

        Raises:
            UserError: there is no torch, or it sees no GPU, or one that this library doesn't run
                on.
        """
        gpu = gpu_facts(self.backend, index)
        if not self.just_in_time:
            return gpu
        return self.gpu_named(f"SM{gpu['compute capability'].replace('.', '')}")

    def gpu_named(self, sm: str) -> dict[str, Any]:
        """The same of all GPUs of a compute capability, like "SM89": what a plan that can be taken
        along depends on.

        Raises:
            UserError: this library doesn't know it.
        """
        known = [name for name in self.load().ComputeCapability.__members__ if name[:2] == "SM"]
        if sm.upper() not in known:
            raise UserError(f"{self.backend}: runs on {', '.join(known)}, not on {sm!r}")
        return {"compute capability": re.sub(r"SM(\d+)(\d)", r"\1.\2", sm.upper())}


TENSORRT = Library("tensorrt", "TensorRT", "tensorrt", just_in_time=False)
RTX = Library("tensorrt-rtx", "TensorRT for RTX", "tensorrt_rtx", just_in_time=True)
LIBRARIES = {library.backend: library for library in (TENSORRT, RTX)}


def gpu_facts(backend: str, index: int | None = None) -> dict[str, Any]:
    """What a GPU of torch's is, by default its current one.

    Raises:
        UserError: there is no torch, or it sees none.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise UserError(f"{backend}: needs torch, too; pip install 'avsl[{backend}]'") from None
    if not torch.cuda.is_available():
        raise UserError(f"{backend}: torch sees no CUDA device here")
    gpu = torch.cuda.get_device_properties(index)
    return {
        "GPU": gpu.name,
        "compute capability": f"{gpu.major}.{gpu.minor}",
        "multiprocessors": gpu.multi_processor_count,
        "GPU memory": gpu.total_memory,
    }
