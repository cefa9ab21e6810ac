"""Which backend runs a bundle: the one that is asked for, or the best of this machine."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

from avsl.engines.backends.cpu import open_cpu
from avsl.engines.backends.plans import NoPlan, build_in_background
from avsl.engines.backends.tensorrt_library import LIBRARIES, NotInstalled
from avsl.engines.bundle import DEFAULT, Bundle, load_bundle
from avsl.engines.engine import NetworkEngine
from avsl.engines.errors import UserError

BACKENDS = ("auto", *LIBRARIES, "torch", "openvino", "onnxruntime")


def open_engine(
    which: Bundle | Path | str = DEFAULT,
    backend: str = "auto",
    *,
    batch: int = 1,
    prepare: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> NetworkEngine:
    """Opens a bundle (by default the one that ships).

    `auto` is the first of these that this machine can run: TensorRT, where its plan has been built;
    TensorRT for RTX, which builds its plan at once; torch, on an NVIDIA GPU; the faster of those
    for the CPU.

    Args:
        batch: the most pictures at once; only TensorRT has another plan for more than one.
        prepare: where only a plan is missing that takes minutes, it is built in a process of its
            own, for the next start.
        say: is told in one line what was chosen, and why.

    Raises:
        UserError: the folder is not a whole, unchanged bundle, or can't be run here.
    """
    if backend not in BACKENDS:
        raise UserError(f"--backend must be one of {', '.join(BACKENDS)}")
    bundle = which if isinstance(which, Bundle) else load_bundle(which)
    if backend != "auto":
        try:
            engine = _open(backend, bundle, batch)
        except NoPlan as fault:
            raise UserError(f"{fault}; avsl-train build {bundle.folder} builds it") from None
        except UserError as fault:
            raise UserError(f"{fault}; --backend auto takes what runs here") from None
        say(f"{bundle.name} runs with {engine.why}, as asked")
        return engine
    against: list[UserError] = []
    for better in (*LIBRARIES, "torch") if _has_nvidia() else ():
        try:
            engine = _open(better, bundle, batch)
        except UserError as fault:
            against.append(fault)
            if prepare and isinstance(fault, NoPlan):
                build_in_background(bundle, batch)
                against[-1] = UserError(f"{fault}, it is being built for the next start")
        else:
            # Who has one TensorRT needn't be told to install the other.
            told = [f for f in against if better == "torch" or not isinstance(f, NotInstalled)]
            say(f"{bundle.name} runs with {engine.why}{_because(told)}")
            return engine
    engine = _open("cpu", bundle, batch)
    none = UserError("no NVIDIA GPU here")
    say(f"{bundle.name} runs with {engine.why}{_because(against or [none])}")
    return engine


def _because(against: list[UserError]) -> str:
    return f" ({'; '.join(map(str, against))})" if against else ""


def _has_nvidia() -> bool:
    """Whether there is an NVIDIA driver: torch takes seconds to import, and need not be asked where
    there is none."""
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _open(backend: str, bundle: Bundle, batch: int) -> NetworkEngine:
    if backend in ("cpu", "openvino", "onnxruntime"):
        return open_cpu(bundle, "auto" if backend == "cpu" else backend)
    try:
        if backend in LIBRARIES:
            from avsl.engines.backends.tensorrt import TensorRtEngine

            return TensorRtEngine(bundle, batch, LIBRARIES[backend])
        from avsl.engines.backends.torch import TorchEngine

        return TorchEngine(bundle)
    except ModuleNotFoundError as error:
        extra = backend if backend in LIBRARIES else "train"
        raise UserError(f"{backend}: needs {error.name}; pip install 'avsl[{extra}]'") from None
    # Out of memory, a driver too old; a graph whose steps don't go together.
    except (RuntimeError, OSError, ImportError, ValueError, TypeError, LookupError) as error:
        raise UserError(f"{backend}: {' '.join(str(error).split())[:300]}") from None
