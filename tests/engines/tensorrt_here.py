"""A library, a GPU that is the CPU, and what the cases of plans share.

A plugin of pytest: `test_tensorrt.py` runs the cases with it in a process of its own for each
library, with the folder of the bindings in `TENSORRT_DOUBLES`, or "rtx".
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import tensorrt_rtx
import torch
from tensorrt_doubles import real
from tensorrt_fake import FakeTensorRt

from avsl.engines import Bundle, load_bundle, open_engine
from avsl.engines.backends import opening as opening_module
from avsl.engines.backends.plans import build_plans as build_plans_of
from avsl.engines.backends.plans import plan_folder
from avsl.engines.backends.tensorrt import TensorRtEngine
from avsl.engines.backends.tensorrt_library import RTX, TENSORRT
from avsl.engines.backends.torch import TorchEngine
from avsl.engines.bundle import DRAWN

torch.set_num_threads(1)
WHERE = os.environ["TENSORRT_DOUBLES"]
TRT = tensorrt_rtx if WHERE == "rtx" else real(Path(WHERE))
LIBRARY = RTX if WHERE == "rtx" else TENSORRT
RUNS = f"drawn runs with {LIBRARY.name} on cpu"
SHORT = "rtx-" if LIBRARY.just_in_time else ""
GPU = {
    "GPU": "NVIDIA Test",
    "compute capability": "8.9",
    "multiprocessors": 132,
    "GPU memory": 10**11,
}


def with_a_gpu(patch: pytest.MonkeyPatch, cache: Path, *fakes: FakeTensorRt) -> None:
    """A GPU that is the CPU, these libraries and no others, and a cache folder of its own."""
    for library in (TENSORRT, RTX):
        patch.setitem(sys.modules, library.module, None)
    for fake in fakes:
        patch.setitem(sys.modules, fake.module.__name__, fake.module)
    patch.setenv("XDG_CACHE_HOME", str(cache))
    patch.setattr(opening_module, "_has_nvidia", lambda: True)
    patch.setattr(
        "avsl.engines.backends.tensorrt_library.gpu_facts", lambda backend, index=None: dict(GPU)
    )
    for name, cls in (
        ("tensorrt.TensorRt", TensorRtEngine),
        ("torch.Torch", TorchEngine),
    ):

        def on_cpu(*arguments: object, cls: type = cls) -> object:
            return cls(*arguments, device="cpu")

        patch.setattr(f"avsl.engines.backends.{name}Engine", on_cpu)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeTensorRt:
    made = FakeTensorRt(LIBRARY.module, TRT, tensorrt_rtx)
    with_a_gpu(monkeypatch, tmp_path / "cache", made)
    return made


@pytest.fixture
def bundle() -> Bundle:
    return load_bundle(DRAWN)


def build_plans(bundle: Bundle, batch: int, **options: object) -> list[dict]:
    return build_plans_of(bundle, batch, LIBRARY, **options)


def opened(bundle: Bundle, batch: int = 1) -> TensorRtEngine:
    return TensorRtEngine(bundle, batch, LIBRARY, device="cpu")


def files(suffix: str) -> list[Path]:
    return sorted(plan_folder().glob(f"*{suffix}"))


def chosen(folder: Path = DRAWN, **options: object) -> str:
    lines: list[str] = []
    open_engine(folder, say=lines.append, **options)
    (line,) = lines
    assert "\n" not in line
    return line
