"""One part of what a machine with a GPU is asked: `python tests/gpu/measure.py PART JOB`.

The last line that it prints is `{"found": ..., "said": [...]}`: figures, and lines on what could
not be done here. See run.py.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from avsl.engines import Bundle, UserError, load_bundle
from avsl.engines.backends import device as device_module
from avsl.engines.backends.machine import cpu
from avsl.engines.backends.plans import build_plans
from avsl.engines.backends.tensorrt_library import LIBRARIES
from avsl.engines.choose import SHIPPED

ROOT = Path(__file__).parents[2]
SIZES = ((720, 1280), (1080, 1920))
WARM_UP = 20
RECIPES: dict[str, dict[str, Any]] = {
    "small networks, 112 pixels": {
        **{"size": 112, "width": 16, "labelled_batch": 16, "unlabelled_batch": 48}
    },
    "the paper's pair, 224 pixels": {
        **{"size": 224, "picture": "resnet18", "sounds": ["vggish", "soundnet"]},
        **{"embedding": 512, "labelled_batch": 16, "unlabelled_batch": 48},
    },
}

Job = dict[str, Any]
Outcome = tuple[Any, list[str]]
"""What was found, and lines on what could not be done."""


def bundle_of(name: str, job: Job) -> Bundle:
    return load_bundle(SHIPPED.get(name, Path(job["folder"]) / name))


def machine(job: Job) -> Outcome:
    from avsl.realtime.benchmark import roofline

    there, said = {"python": sys.version.split()[0], "torch": torch.__version__}, []
    for package in ("onnxruntime", "onnx", "av", "tensorrt", "tensorrt-rtx"):
        try:
            there[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            said.append(f"{package} isn't installed")
    found = {"cpu": cpu(), "versions": there}
    if roofline.on_gpu():
        found["gpu"] = roofline.gpu()
    else:
        said.append("torch sees no CUDA device")
    return found, said


def each(names: Iterable[str], measure: Callable[[str], Outcome]) -> Outcome:
    """What `measure` finds of each; one that fails is a line, and the next has its turn. All is
    printed after each: a part may be ended at any time."""
    found: list[Any] = []
    said: list[str] = []
    for name in names:
        try:
            rows, notes = measure(name)
            found += rows
        except Exception as fault:
            notes = [
                f"{type(fault).__name__} {fault}" if type(fault) is not UserError else str(fault)
            ]
        for note in notes:
            line = " ".join(note.split())[:300]
            if not any(line in other for other in said):
                said.append(f"{name}: {line}")
        print("\n" + json.dumps({"found": found, "said": said}), flush=True)
    return found, said


def bundles(job: Job) -> Outcome:
    """Those that don't ship, with random weights: what they take doesn't depend on them."""
    from avsl.engines.networks import Ensemble, Network, NetworkSpec
    from avsl.train.export import write_bundle
    from avsl.train.papers_pair import THRESHOLDS, write_papers_pair

    def written(name: str) -> Outcome:
        folder = Path(job["folder"]) / name
        if name == "pair":
            write_papers_pair(folder)
        elif name == "small":
            pair = Ensemble([Network(NetworkSpec(sound=sound)) for sound in ("log-mel", "wave")])
            settings: dict[str, Any] = {"thresholds": THRESHOLDS, "training": {}}
            write_bundle(pair, folder, name=name, version="random", **settings)
        return [bundle_of(name, job).name], []

    return each(job["engines"], written)


def timed_frames(engine: Any, name: str, how: str, rounds: int) -> list[dict[str, Any]]:
    """Of each size, what a picture takes: sound and picture network and overlay, upload and
    download included."""
    from avsl.realtime.benchmark.frame import one_frame

    rows = []
    for size in SIZES:
        frame = one_frame(engine, size)
        for _ in range(min(WARM_UP, rounds)):
            frame()
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            frame()
            times.append(1000 * (time.perf_counter() - began))
        p50, p99 = np.percentile(times, (50, 99))
        row = {"engine": name, "picture": f"{size[1]}x{size[0]}", "with": how, "n": rounds}
        rows.append({**row, "p50": float(p50), "p99": float(p99)})
    return rows


def torch_backend(job: Job) -> Outcome:
    from avsl.engines.backends.torch import TorchEngine

    def timed(name: str) -> Outcome:
        bundle, found, said = bundle_of(name, job), [], []
        engine = TorchEngine(bundle, job["device"])
        if engine.captured:
            found = timed_frames(engine, name, "torch", job["rounds"])
            with patch.object(device_module, "_capture", lambda *_: None):
                engine = TorchEngine(bundle, job["device"])
        else:
            said = ["no CUDA graph was captured"]
        how = "torch without CUDA graph"
        return found + timed_frames(engine, name, how, job["rounds"]), said

    return each(job["engines"], timed)


def tensorrt(backend: str, job: Job) -> Outcome:
    """Plans are built anew: how long that takes is of interest, too."""
    from avsl.engines.backends.tensorrt import TensorRtEngine

    library = LIBRARIES[backend]
    os.environ["XDG_CACHE_HOME"] = job["folder"]

    def timed(name: str) -> Outcome:
        bundle = bundle_of(name, job)
        plans = build_plans(bundle, 1, library)
        engine = TensorRtEngine(bundle, 1, library, job["device"])
        said = [f"{p['label']}: {p['precision']}, {p['seconds']} s" for p in plans]
        return timed_frames(engine, name, engine.why, job["rounds"]), said

    return each(job["engines"], timed)


def roofline(job: Job) -> Outcome:
    from avsl.realtime.benchmark import roofline as of

    device = torch.device(job["device"])
    if device.type == "cpu":  # only to see that it works
        of.BATCHES = (1, 2)
        limits = of.ceilings(device, 64, 1 << 20)
    else:
        limits = of.ceilings(device)

    def shares(name: str) -> Outcome:
        found = []
        for batch, table in of.roofline(bundle_of(name, job), device, limits)["batches"].items():
            groups = table["groups"].values()
            spent = sum(group["seconds"] for group in groups)
            share = sum(group["least"] for group in groups) / spent if spent else None
            found.append({"engine": name, "batch": batch, "share": share, **table})
        return found, []

    return each(job["engines"], shares)


def training(job: Job) -> Outcome:
    def timed(name: str) -> Outcome:
        settings = RECIPES[name]
        if job["device"] == "cpu":  # only to see that it works
            small = {"size": 32, "labelled_batch": 1, "unlabelled_batch": 1, "precision": "fp32"}
            settings = {**settings, **small}
        folder = Path(tempfile.mkdtemp(dir=job["folder"]))
        return [{"recipe": name, **step_speed(settings, folder, job["rounds"])}], []

    return each(RECIPES, timed)


def step_speed(settings: dict[str, Any], folder: Path, rounds: int) -> dict[str, Any]:
    """Of DMT's step on batches that are there already."""
    from avsl.demos.scenes import BENCH
    from avsl.train.data.batches import Steps, loader
    from avsl.train.data.material import Material, PackSource, Part, spec_of
    from avsl.train.data.pack import pack_scenes
    from avsl.train.fit import Stage, Trainer
    from avsl.train.recipe import recipe_of

    recipe = recipe_of(settings, "speed")
    count = 2 * recipe.batch
    size = (recipe.size, recipe.size)
    scenes = pack_scenes(folder / "scenes", 1, count, size, cast=BENCH, seconds=1.5)
    source, ids = PackSource(scenes, spec_of(recipe, 0).window), np.arange(count)
    parts = Part(source, ids[: count // 2]), Part(source, ids[count // 2 :])
    trainer = Trainer(recipe, folder, Material(*parts, scenes, ids[:0], (scenes, ids[:0])))
    stage = Stage("unbiased", 0, 1_000_000)
    trainer.enter(stage)
    batches = list(loader(Steps(trainer.material, recipe, False), 0, min(4, rounds), 1))
    steps = min(60, rounds)
    for count in (len(batches), steps):  # kernels are chosen in the first
        began = time.perf_counter()
        for i in range(count):
            trainer.learn(stage, [batches[i % len(batches)]], i)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    return {"batch": recipe.batch, "samples_per_s": recipe.batch * steps / seconds, "steps": steps}


def tests(job: Job) -> Outcome:
    """The tests that need a GPU; without one they are only collected."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu"]
    here = ["--ignore=tests/gpu/test_run.py"]
    done = subprocess.run([*command, *here], cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-300:]]
    counts = {
        word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", lines[-1])
    }
    said = [lines[-1], *(line for line in lines if line.startswith(("FAILED", "ERROR")))][:20]
    if not counts:
        raise UserError(f"pytest: {said[0]}")
    return counts, said


def main() -> None:
    part, job = sys.argv[1], json.loads(sys.argv[2])
    torch.set_grad_enabled(part == "training")
    if job["device"] == "cpu":  # beside others on few cores, threads spin for minutes
        torch.set_num_threads(1)
    if part in LIBRARIES:
        found, said = tensorrt(part, job)
    else:
        found, said = globals()["torch_backend" if part == "torch" else part](job)
    print("\n" + json.dumps({"found": found, "said": said}))


if __name__ == "__main__":
    main()
