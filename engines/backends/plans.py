"""TensorRT plans of a bundle: built on this machine, kept in the user's cache folder.

A plan is what TensorRT makes of one graph for one GPU. It is a cache of the bundle, and executable
code: it is loaded only from a folder that nobody else can write to, and only with a sidecar (JSON)
that names its hash and everything that it was built from.

`python -m avsl.engines.backends.plans FOLDER BATCH` builds the plans of the bundle in FOLDER.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from avsl.engines.backends.machine import cache_folder
from avsl.engines.backends.tensorrt_build import SETTINGS, build
from avsl.engines.bundle import Bundle, load_bundle
from avsl.engines.errors import UserError, exit_on_user_error

FILE_BATCH = 32
"""The most pictures at once that plans for files take; those for live take one."""
HALF_AT_LEAST = 0.5
"""The share of layers with half-precision tensors from which a plan is called fp16. The rest is
what the graphs leave in single precision on purpose: spectrograms, norms, cosines."""

Progress = Callable[[str, int, int], None]
"""progress(what, done, total)"""


class NoPlan(UserError):
    """There is no plan that may be loaded; building one helps."""


@dataclass(frozen=True)
class Wanted:
    """A plan as this machine needs it, whether it is there or not."""

    label: str
    """Of which engine, graph and batch."""
    onnx: bytes
    facts: dict[str, Any]
    """All that the plan depends on, as JSON. One of them changed alone is another plan."""

    @property
    def profile(self) -> dict[str, list[list[int]]]:
        """The least, best and largest shape of each input."""
        profile: dict[str, list[list[int]]] = self.facts["profile"]
        return profile

    def file(self, folder: Path, suffix: str) -> Path:
        digest = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()
        return folder / f"{self.label}-{digest[:16]}{suffix}"


def import_tensorrt() -> Any:
    """The `tensorrt` module.

    Raises:
        UserError: it isn't installed, or can't be loaded.
    """
    try:
        import tensorrt
    except ModuleNotFoundError:
        raise UserError("tensorrt: not installed; pip install 'avsl[tensorrt]'") from None
    except Exception as error:  # libraries that don't fit: each version raises something else
        raise UserError(f"tensorrt: can't be loaded ({_line(error)})") from None
    return tensorrt


def gpu_facts(index: int | None = None) -> dict[str, Any]:
    """What of a GPU a plan depends on.

    Raises:
        UserError: there is no torch, or it sees none.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise UserError("tensorrt: needs torch, too; pip install 'avsl[tensorrt]'") from None
    if not torch.cuda.is_available():
        raise UserError("tensorrt: torch sees no CUDA device here")
    gpu = torch.cuda.get_device_properties(index)
    return {
        "GPU": gpu.name,
        "compute capability": f"{gpu.major}.{gpu.minor}",
        "multiprocessors": gpu.multi_processor_count,
        "GPU memory": gpu.total_memory,
    }


def wanted_plans(bundle: Bundle, batch: int, tensorrt: str, gpu: dict[str, Any]) -> list[Wanted]:
    """The plans of a bundle's two graphs, for up to `batch` rows, by this version of TensorRT."""
    inputs = {
        bundle.sound_graph: {"samples": [bundle.window.length]},
        bundle.picture_graph: {
            "picture": [*bundle.picture_size, 3],
            "embedding": [bundle.embedding_size],
        },
    }
    name = "".join(c if c.isalnum() else "_" for c in bundle.name)
    wanted = []
    for graph, shapes in inputs.items():
        onnx = graph.read_bytes()
        facts = {
            "graph": hashlib.sha256(onnx).hexdigest(),
            "TensorRT": tensorrt,
            "profile": {
                key: [[rows, *shape] for rows in (1, batch, batch)] for key, shape in shapes.items()
            },
            "settings": SETTINGS,
            **gpu,
            "OS": platform.system(),
            "machine": platform.machine(),
        }
        wanted.append(Wanted(f"{name}-{graph.stem}-{batch}", onnx, facts))
    return wanted


def plan_folder() -> Path:
    """Where this user's plans are; made if need be.

    Raises:
        UserError: it can't be made, or others can write to it.
    """
    folder = cache_folder() / "plans"
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise UserError(f"{folder}: can't be made; {error.strerror}") from None
    if os.name != "nt" and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        raise UserError(
            f"{folder}: others can write to it, and a plan is executable code; chmod 700 it"
        )
    return folder


def load_plan(wanted: Wanted, folder: Path) -> tuple[bytes, dict[str, Any]]:
    """A plan that was built for just this, and its sidecar.

    Raises:
        NoPlan: there is none, or it is not what its sidecar says.
        UserError: it couldn't be built the last time.
    """
    failed = wanted.file(folder, ".failed")
    if failed.exists():
        raise UserError(failed.read_text("utf-8"))
    try:
        sidecar = json.loads(wanted.file(folder, ".json").read_text("utf-8"))
        plan = wanted.file(folder, ".plan").read_bytes()
        if sidecar["facts"] != wanted.facts:
            raise NoPlan(f"the sidecar of the plan {wanted.label} is another plan's")
        if sidecar["sha256"] != hashlib.sha256(plan).hexdigest():
            raise NoPlan(f"the plan {wanted.label} is damaged")
    except FileNotFoundError:
        raise NoPlan(_what_changed(wanted, folder)) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoPlan(f"the plan {wanted.label} can't be read ({_line(error)})") from None
    return plan, sidecar


def _what_changed(wanted: Wanted, folder: Path) -> str:
    """Why there is no plan: how it differs from the plan with this label that is most like it."""
    likes: list[tuple[int, str]] = []
    for path in sorted(folder.glob(f"{wanted.label}-*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            old = json.loads(path.read_text("utf-8"))["facts"]
            changes = [
                f"{key} changed" if len(str(new)) > 40 else f"{key}: {old.get(key)} -> {new}"
                for key, new in wanted.facts.items()
                if old.get(key) != new
            ]
            likes.append((len(changes), ", ".join(changes)))
    if not likes:
        return f"no plan {wanted.label} yet"
    _, changed = min(likes)
    return f"the plan {wanted.label} is out of date ({changed or 'its file is missing'})"


def forget_plan(wanted: Wanted, folder: Path) -> None:
    """Makes a plan one that is never loaded again."""
    with contextlib.suppress(OSError):
        wanted.file(folder, ".json").unlink(missing_ok=True)


def build_plans(
    bundle: Bundle, batch: int, *, progress: Progress = lambda what, done, total: None
) -> list[dict[str, Any]]:
    """Builds those of a bundle's two plans that aren't there, and returns their sidecars.

    One build at a time on a machine: two would disturb each other's timings. Who waited finds what
    the other has built.

    Raises:
        UserError: there is no TensorRT or no GPU, TensorRT refuses a graph, or a file can't be
            written.
    """
    trt = import_tensorrt()
    plans = wanted_plans(bundle, batch, trt.__version__, gpu_facts())
    folder = plan_folder()
    sidecars = []
    try:
        with _alone(folder / "lock"):
            for wanted in plans:
                try:
                    _, sidecar = load_plan(wanted, folder)
                except UserError:
                    sidecar = _build(trt, wanted, folder, progress)
                sidecars.append(sidecar)
    except OSError as error:
        raise UserError(f"{folder}: can't be written; {error.strerror}") from None
    return sidecars


def build_in_background(bundle: Bundle, batch: int) -> None:
    """Builds what `build_plans` does in a process that goes on when this one ends."""
    command = [sys.executable, "-m", "avsl.engines.backends.plans", str(bundle.folder), str(batch)]
    quiet = subprocess.DEVNULL
    subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)


def _build(trt: Any, wanted: Wanted, folder: Path, progress: Progress) -> dict[str, Any]:
    began = time.monotonic()
    failed = wanted.file(folder, ".failed")
    failed.unlink(missing_ok=True)
    forget_plan(wanted, folder)
    gpu = "".join(c if c.isalnum() else "_" for c in str(wanted.facts["GPU"]))
    timings = folder / f"timings-{trt.__version__}-{gpu}"
    known = timings.read_bytes() if timings.exists() else b""
    try:
        built = build(trt, wanted.onnx, wanted.profile, known, partial(progress, wanted.label))
    except UserError as error:
        # Said at the next start, rather than tried for minutes again.
        _write(failed, f"{error}; avsl-train build tries it again".encode())
        raise
    sidecar: dict[str, Any] = {
        "label": wanted.label,
        "facts": wanted.facts,
        "sha256": hashlib.sha256(built.plan).hexdigest(),
        "precision": "fp16" if built.half_share >= HALF_AT_LEAST else "not fp16",
        "half layers": round(built.half_share, 3),
        "layers": built.layers,
        "seconds": round(time.monotonic() - began, 1),
    }
    _write(timings, built.timings)
    _write(wanted.file(folder, ".plan"), built.plan)
    # Last: without it the plan is not loaded.
    _write(wanted.file(folder, ".json"), json.dumps(sidecar, indent=2).encode())
    return sidecar


def _write(path: Path, data: bytes) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds a lock between processes; the system lets it go when one dies."""
    with path.open("ab") as file:
        if sys.platform == "win32":
            import msvcrt

            while True:
                with contextlib.suppress(OSError):  # it gives up after ten seconds
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                    break
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def main() -> None:
    """Builds the plans of a bundle, out of the way of what runs beside it."""
    with exit_on_user_error():
        if len(sys.argv) != 3:
            raise UserError("usage: python -m avsl.engines.backends.plans FOLDER BATCH")
        if hasattr(os, "nice"):
            os.nice(10)
        for sidecar in build_plans(load_bundle(sys.argv[1]), int(sys.argv[2])):
            print(json.dumps(sidecar))


if __name__ == "__main__":
    main()
