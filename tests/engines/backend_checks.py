"""What every backend is held against: the same maps as ONNX Runtime, and an engine that listens."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
from torch import nn

from avsl.demos.scenes import boxes, make_scene, with_sound_of
from avsl.engines import Bundle, NetworkEngine, Resizer, load_bundle
from avsl.engines.backends.onnxruntime import OnnxRuntimeEngine
from avsl.engines.bundle import DRAWN, GRAPHS, sha256
from avsl.engines.networks import Ensemble, Network, NetworkSpec
from avsl.train.export import write_bundle
from avsl.train.scoring.evaluate import hear
from avsl.train.scoring.metrics import in_box, map_peak

BUNDLES = ("drawn", "small pair", "paper's pair", "EZ-VSL's")
THRESHOLDS = {"glow": 0.5, "unseen": 0.3, "sounding": 0.5, "gate_db": -60, "gate_margin_db": 6}


def bundle_of(kind: str, folder: Path) -> Bundle:
    """One of `BUNDLES`: what ships for drawn things, or one with random weights and statistics."""
    if kind == "drawn":
        return load_bundle(DRAWN)
    torch.manual_seed(3)
    pictures, sounds = {
        "small pair": ("small", ("log-mel", "wave")),
        "paper's pair": ("resnet18", ("vggish", "soundnet")),
        "EZ-VSL's": ("resnet18", ("resnet18",)),
    }[kind]
    specs = [
        NetworkSpec(picture_size=(128, 128), picture=pictures, sound=sound, width=8, embedding=32)
        for sound in sounds
    ]
    ensemble = Ensemble([Network(spec) for spec in specs], "mean" if kind[0] == "s" else "product")
    for module in ensemble.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    ensemble.calibration.copy_(torch.tensor([1.5, 1.0]))
    write_bundle(
        ensemble.eval(), folder, name=kind, version="0", thresholds=THRESHOLDS, training={}
    )
    return load_bundle(folder)


def changed_bundle(
    source: Path,
    folder: Path,
    change: Callable[[Path], bytes],
    graphs: tuple[str, ...] = GRAPHS,
) -> Bundle:
    """A bundle like the one in `source`, with `change` made to its graphs."""
    shutil.copytree(source, folder)
    meta = json.loads((folder / "model.json").read_text())
    for name in graphs:
        (folder / name).write_bytes(change(source / name))
        meta["sha256"][name] = sha256(folder / name)
    (folder / "model.json").write_text(json.dumps(meta))
    return load_bundle(folder)


def inputs(bundle: Bundle) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sounds (noise, a tone, silence, full-scale noise) and pictures (noise, black, white)."""
    rng = np.random.default_rng(0)
    length, size = bundle.window.length, (*bundle.picture_size, 3)
    noise = rng.uniform(-1, 1, length)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(length) / bundle.window.rate)
    sounds = [0.1 * noise, tone, 0 * noise, np.sign(noise)]
    black = np.zeros(size, np.uint8)
    pictures = [rng.integers(0, 256, size, np.uint8), black, black + 255]
    return [sound.astype(np.float32) for sound in sounds], pictures


def assert_like_onnxruntime(engine: NetworkEngine, bundle: Bundle) -> None:
    """Maps within 5e-3 and, of a picture that isn't of one colour, the same peak."""
    reference = OnnxRuntimeEngine(bundle)
    sounds, pictures = inputs(bundle)
    for sound in sounds:
        ours, theirs = engine.embed(sound), reference.embed(sound)
        assert ours.dtype == theirs.dtype == np.float32
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < 5e-3
        for i, picture in enumerate(pictures):
            a, b = engine.localize(picture, ours), reference.localize(picture, theirs)
            assert a.shape == b.shape == bundle.map_size
            assert np.isfinite(a).all()
            assert np.abs(a - b).max() < 5e-3
            # In half precision, cells that are all but alike may change places.
            assert i > 0 or b.flat[a.argmax()] > b.max() - 1e-4


def assert_listens(engine: NetworkEngine) -> None:
    """Of the engine for drawn things: the map follows the sound on the same picture; silence, and a
    sound from out of view, leave it dark."""
    resize = Resizer(engine.spec.picture_size)
    hits, glow = [], {"silence": [], "outside": []}
    for i in range(6):
        scene = make_scene(77, i, kind="one", count=2)
        pixels, masks = scene.render(0, 360, round(180 * scene.aspect) * 2)
        picture = resize(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
        for k, box in enumerate(boxes(masks)):
            found = hear(engine, picture, with_sound_of(scene, k).sound(-1, 1))
            hits.append(box is not None and in_box(*map_peak(found.map), box))
        for kind, areas in glow.items():
            sound = make_scene(77, i, kind=kind, count=2).sound(-1, 1)
            embedding = engine.embed(sound[-engine.spec.window.length :])
            map_ = engine.localize(picture, embedding)
            areas.append((map_ >= engine.spec.thresholds.glow).mean())
    assert np.mean(hits) > 0.85
    assert np.mean(glow["silence"]) < 0.01
    assert np.mean(glow["outside"]) < 0.05
