"""TensorRT plans of a bundle: built on this machine, kept in the user's cache folder.

A plan is what TensorRT makes of one graph for one GPU, or for all of a kind. It is a cache of the
bundle, and executable code: it is loaded only from a folder that nobody else can write to, and only
with a sidecar (JSON) that names its hash and everything that it was built from.

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
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from avsl.engines.backends.machine import cache_folder
from avsl.engines.backends.tensorrt_build import ROWS, SETTINGS, build
from avsl.engines.backends.tensorrt_library import TENSORRT, Library
from avsl.engines.bundle import Bundle, load_bundle
from avsl.engines.errors import UserError, exit_on_user_error

FILE_BATCH = 32
"""The most pictures at once that plans for files take; those for live take one."""
HALF_AT_LEAST = 0.5
"""The share of convolutions and products in half precision from which a plan is called fp16. The
rest is what the graphs leave in single precision on purpose: spectrograms."""

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

    def file(self, folder: Path, suffix: str) -> Path:
        digest = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()
        return folder / f"{self.label}-{digest[:16]}{suffix}"


def wanted_plans(
    bundle: Bundle, batch: int, library: Library, version: str, gpu: dict[str, Any]
) -> list[Wanted]:
    """The plans of a bundle's two graphs, for up to `batch` rows, by this version of a library, for
    the GPU that its `gpu_here` or `gpu_named` tells."""
    name = "".join(c if c.isalnum() else "_" for c in bundle.name)
    short = "rtx-" if library.just_in_time else ""
    sides = {ROWS: [1, batch, batch]}
    if bundle.picture_step:
        sides |= {f"picture.{axis}": [n] * 3 for axis, n in enumerate(bundle.picture_size, 1)}
    wanted = []
    for graph in (bundle.sound_graph, bundle.picture_graph):
        onnx = graph.read_bytes()
        facts = {
            "graph": hashlib.sha256(onnx).hexdigest(),
            library.name: version,
            "profile": sides,
            "settings": SETTINGS,
            **gpu,
        }
        if not library.just_in_time:
            facts |= {"OS": platform.system(), "machine": platform.machine()}
        wanted.append(Wanted(f"{short}{name}-{graph.stem}-{batch}", onnx, facts))
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
    bundle: Bundle,
    batch: int,
    library: Library = TENSORRT,
    *,
    sm: str | None = None,
    out: Path | None = None,
    progress: Progress = lambda what, done, total: None,
) -> list[dict[str, Any]]:
    """Builds those of a bundle's two plans that aren't there, and returns their sidecars.

    Of those that are timed on the GPU one at a time is built on a machine: two would disturb each
    other. Who waited finds what the other has built.

    Args:
        sm: for which GPUs, like "SM89"; by default for this machine's.
        out: the folder for them, by default where they are looked for.

    Raises:
        UserError: there is no such library or no GPU, TensorRT refuses a graph, or a file can't be
            written.
    """
    gpu = library.gpu_named(sm) if sm else library.gpu_here()
    plans = wanted_plans(bundle, batch, library, library.load().__version__, gpu)
    folder = out or plan_folder()
    sidecars = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with nullcontext() if library.just_in_time else _alone(folder / "lock"):
            for wanted in plans:
                try:
                    _, sidecar = load_plan(wanted, folder)
                except UserError:
                    sidecar = _build(library, wanted, folder, progress)
                sidecars.append(sidecar)
    except OSError as error:
        raise UserError(f"{folder}: can't be written; {error.strerror}") from None
    return sidecars


def build_in_background(bundle: Bundle, batch: int) -> None:
    """Builds what `build_plans` does in a process that goes on when this one ends."""
    command = [sys.executable, "-m", "avsl.engines.backends.plans", str(bundle.folder), str(batch)]
    quiet = subprocess.DEVNULL
    subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)


def _build(library: Library, wanted: Wanted, folder: Path, progress: Progress) -> dict[str, Any]:
    began = time.monotonic()
    trt, facts = library.load(), wanted.facts
    failed = wanted.file(folder, ".failed")
    failed.unlink(missing_ok=True)
    what: dict[str, Any] = {}
    if library.just_in_time:
        what["capability"] = facts["compute capability"]
    else:
        gpu = "".join(c if c.isalnum() else "_" for c in str(facts["GPU"]))
        timings = folder / f"timings-{trt.__version__}-{gpu}"
        what["timings"] = timings.read_bytes() if timings.exists() else b""
    told = partial(progress, wanted.label)
    try:
        built = build(trt, library.name, wanted.onnx, facts["profile"], told, **what)
    except UserError as error:
        if not library.just_in_time:
            # Said at the next start, rather than tried for minutes again.
            write_file(failed, f"{error}; avsl-train build tries it again".encode())
        raise
    sidecar: dict[str, Any] = {
        "label": wanted.label,
        "facts": facts,
        "sha256": hashlib.sha256(built.plan).hexdigest(),
        "inputs": built.inputs,
        "outputs": built.outputs,
        "precision": "fp16" if built.half_share >= HALF_AT_LEAST else "not fp16",
        "half layers": round(built.half_share, 3),
        "layers": built.layers,
        "seconds": round(time.monotonic() - began, 1),
    }
    if not library.just_in_time:
        write_file(timings, built.timings)
    write_file(wanted.file(folder, ".plan"), built.plan)
    # Last: without it the plan is not loaded.
    write_file(wanted.file(folder, ".json"), json.dumps(sidecar, indent=2).encode())
    return sidecar


def write_file(path: Path, data: bytes) -> None:
    """All of it, or nothing: a file of that name is replaced once its successor is whole."""
    beside = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
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
