"""The CPU at its best: ONNX Runtime and OpenVINO are timed on a bundle, and the faster runs it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np

from avsl.engines.backends.machine import cache_folder, cpu, network_threads
from avsl.engines.backends.onnxruntime import OnnxRuntimeEngine
from avsl.engines.backends.openvino import OpenVinoEngine
from avsl.engines.bundle import Bundle
from avsl.engines.engine import Embedding, NetworkEngine
from avsl.engines.errors import UserError
from avsl.engines.pictures import Picture
from avsl.engines.windows import Samples

NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
ROUNDS, LEAST, SECONDS = 40, 3, 0.25
"""How often each setup is timed: 40 times, or until so long has gone by for each, but thrice."""
HEAVY_MS = 10.0
"""A network that takes longer sets the pace of a film alone: a core kept for the decoder and the
encoder, which need about as long a picture, would idle beside it, so it may have all."""
TOLERANCE = 0.05
"""The most that a cell may differ from single precision in any of the rounds."""


@dataclass(frozen=True)
class Setup:
    """One way to run a bundle."""

    backend: str
    threads: int
    ms: float = 0.0
    """What a window of sound and a picture take together, as measured."""

    def open(self, bundle: Bundle) -> OnnxRuntimeEngine | OpenVinoEngine:
        if self.backend == "onnxruntime":
            return OnnxRuntimeEngine(bundle, self.threads)
        return OpenVinoEngine(bundle, self.threads)


def open_cpu(bundle: Bundle, which: str = "auto") -> OnnxRuntimeEngine | OpenVinoEngine:
    """A bundle on the CPU, in the faster of what is installed, or in `which` ("onnxruntime",
    "openvino"), as fast as that goes. Its `why` says in one line what it is and why.

    What is fastest is measured the first time, in a second or so, and remembered in the user's
    cache folder for these graphs, versions and this CPU.

    Raises:
        UserError: `which` can't run it here.
    """
    installed = ["onnxruntime", *(["openvino"] if _version("openvino") else [])]
    if len(installed) == 1 and which != "openvino":
        engine = OnnxRuntimeEngine(bundle)
        engine.why = "ONNX Runtime, the only CPU backend installed; avsl[openvino] adds another"
        return engine
    setups = _remembered(bundle)
    if not setups:
        setups = measure(bundle)
        _remember(bundle, setups)
    names = [*NAMES] if which == "auto" else [which]
    best = {
        name: min(found, key=lambda setup: setup.ms)
        for name in names
        if (found := [setup for setup in setups if setup.backend == name])
    }
    if not best:  # OpenVINO, and it can't be opened, or only single precision will do
        return OpenVinoEngine(bundle, precision="f32")
    first, *others = sorted(best.values(), key=lambda setup: setup.ms)
    chosen = first.open(bundle)
    slower = "".join(f"; {NAMES[other.backend]} takes {other.ms:.1f}" for other in others)
    threads = f"{first.threads} thread{'s' if first.threads > 1 else ''}"
    chosen.why += f", {threads}: {first.ms:.1f} ms a picture, measured here{slower}"
    return chosen


def measure(bundle: Bundle) -> list[Setup]:
    """Times both backends, and those that are slow with all cores too. A setup that can't be opened
    is left out, and so is one whose maps are not those of ONNX Runtime, which computes in single
    precision."""
    few, many = network_threads(), network_threads(False)
    timed = _timed(bundle, [Setup(name, few) for name in NAMES])
    for setup in timed.copy() if many > few else []:
        if setup.ms > HEAVY_MS:
            timed += _timed(bundle, [replace(setup, threads=many)])
    return timed


def _timed(bundle: Bundle, setups: list[Setup]) -> list[Setup]:
    """Setups take turns, and the best of each one's times counts: what else the machine does hits
    all alike, or none."""
    opened: dict[Setup, NetworkEngine] = {}
    for setup in setups:
        try:
            opened[setup] = setup.open(bundle)
        except UserError:
            if setup.backend == "onnxruntime":
                raise
    times: dict[Setup, list[float]] = {setup: [] for setup in opened}
    end = time.perf_counter() + SECONDS * len(opened)
    for done, (picture, samples) in enumerate(_material(bundle)):
        if done >= LEAST and time.perf_counter() > end:
            break
        maps = []
        for setup, engine in list(opened.items()):
            began = time.perf_counter()
            heard = engine.embed(samples)
            # A tone is hardly a thing, and its map is dark: that of one kind after the other isn't.
            one = _one_of(heard, done) if bundle.kinds else heard
            map_ = engine.localize(picture, one)
            times[setup].append(1000 * (time.perf_counter() - began))
            maps.append(np.append(map_, heard if bundle.kinds else []))
            if np.abs(maps[-1] - maps[0]).max() > TOLERANCE:
                del opened[setup]
    return [replace(setup, ms=min(times[setup])) for setup in opened]


def _one_of(heard: Embedding, number: int) -> Embedding:
    one = np.zeros_like(heard)
    one[number % len(one)] = 1
    return one


def _material(bundle: Bundle) -> Iterator[tuple[Picture, Samples]]:
    """Coloured squares, and a tone with each."""
    rng = np.random.default_rng(0)
    h, w = bundle.picture_size
    turn = 2 * np.pi * np.arange(bundle.window.length) / bundle.window.rate
    for _ in range(ROUNDS):
        squares = rng.integers(0, 256, (8, 8, 3), np.uint8)
        picture = squares[np.arange(h) * 8 // h][:, np.arange(w) * 8 // w]
        yield picture, (0.5 * np.sin(turn * rng.uniform(200, 4000))).astype(np.float32)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _place(bundle: Bundle) -> Path:
    about = {
        "graphs": bundle.meta["sha256"],
        "versions": [_version(name) for name in ("onnxruntime", "openvino")],
        "cpu": cpu(),
        "threads": [network_threads(), network_threads(False)],
    }
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "cpu" / f"{key[:32]}.json"


def _remembered(bundle: Bundle) -> list[Setup]:
    """What was measured before; nothing where that can't be read."""
    try:
        rows = json.loads(_place(bundle).read_text("utf-8"))
        setups = [Setup(**row) for row in rows]
        if all(s.backend in NAMES and s.ms > 0 and s.threads > 0 for s in setups):
            return setups
    except (OSError, ValueError, TypeError):
        pass
    return []


def _remember(bundle: Bundle, setups: list[Setup]) -> None:
    place = _place(bundle)
    beside = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps([asdict(setup) for setup in setups]) + "\n", "utf-8")
        beside.replace(place)
    except OSError:  # it is measured again next time
        with contextlib.suppress(OSError):
            beside.unlink()
