"""A network that knows things by name, small enough to be made by hand: red things hum low, green
ones drone between, blue ones whistle high."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avsl.engines import (
    Bundle,
    Engine,
    Localization,
    Localizer,
    NetworkEngine,
    Picture,
    Samples,
    SoundTimeline,
    load_bundle,
)
from avsl.engines.backends.onnxruntime import OnnxRuntimeEngine
from avsl.engines.networks.kinds import joined
from avsl.engines.networks.parts import Front
from avsl.train.export import write_kinds_bundle

RED, GREEN, BLUE = range(3)
TWO = (RED, 0.25, 0.5), (BLUE, 0.75, 0.5)
KINDS = ("red thing", "green thing", "blue thing")
PITCHES = (220.0, 660.0, 1980.0)
COLOURS = np.array([(220, 40, 40), (40, 200, 60), (50, 70, 230)], np.uint8)
RATE = 16_000
THRESHOLDS = {"glow": 0.5, "unseen": 0.3, "sounding": 0.6, "gate_db": -60, "gate_margin_db": 6}
NOMINAL, STEP, CELL = (128, 224), 32, 16


class Pitch(Front):
    """Samples `[B, S]` to how much of each pitch is in the last quarter of a second, in
    level `[B, K]`, from 0 on."""

    def __init__(self) -> None:
        super().__init__()
        angle = 2 * torch.pi * torch.tensor(PITCHES)[:, None] * torch.arange(4000) / RATE
        self.waves = nn.Buffer(torch.cat([angle.cos(), angle.sin()]) / 2000)

    def forward(self, samples: Tensor) -> Tensor:
        parts = F.linear(samples[:, -4000:], self.waves).square()
        return (parts[:, :3] + parts[:, 3:] + 1e-9).sqrt()


class Hears(nn.Module):
    """Samples to heard. The front stays in single precision, as in all sound graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.front = Pitch()
        self.odds = nn.Linear(3, 3)
        with torch.no_grad():
            self.odds.weight.copy_(torch.eye(3) * 200)
            self.odds.bias.fill_(-6)
        self.odds.half()

    def forward(self, samples: Tensor) -> Tensor:
        return torch.sigmoid(self.odds(self.front(samples).half()).float())


class Sees(nn.Module):
    """Pictures and heard to map and kinds, by what networks of real things are made of: depthwise
    convolutions padded as TensorFlow does it, ReLU6, a level below that is brought up again, and
    classes that are summed up to kinds. The same colour all around makes a thing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 3, 3, stride=2, groups=3, bias=False)
        self.deep = nn.Conv2d(3, 8, 1)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2, groups=8, bias=False)
        self.classes = nn.Conv2d(11, 7, 1)
        members = torch.zeros(3, 7)
        for k in range(3):
            members[k, 2 * k] = members[k, 2 * k + 1] = 1
        self.members = nn.Buffer(members)
        with torch.no_grad():
            self.down.weight.fill_(1 / 9)
            self.deep.weight.zero_()
            self.deep.bias.zero_()
            for k in range(3):
                self.deep.weight[k, k] = 1
            self.up.weight.fill_(1)
            # How far a colour stands over the two others, there and around.
            self.classes.weight.zero_()
            self.classes.bias.copy_(torch.tensor([-1.0] * 6 + [3.5]))
            for k in range(3):
                for twin in (2 * k, 2 * k + 1):
                    for level in (0, 3):
                        self.classes.weight[twin, level : level + 3, 0, 0] = -4
                        self.classes.weight[twin, level + k, 0, 0] = 8
        self.half()

    def forward(self, picture: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
        x = (picture.float() / 255).permute(0, 3, 1, 2).half()
        for _ in range(4):
            x = F.relu6(self.down(F.pad(x, (0, 1, 0, 1))))
        below = F.relu6(self.deep(F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2)))
        x = torch.cat([x, self.up(below)], 1)
        classes = self.classes(x).float().softmax(1)
        seen = F.linear(classes.movedim(1, -1), self.members.float()).movedim(-1, 1)
        return joined(seen, heard)


def kinds_bundle(folder: Path, **changed: object) -> Bundle:
    """Of these two, with any shape of picture."""
    about: dict[str, object] = {
        "name": "colours",
        "version": "0",
        "kinds": KINDS,
        "window": RATE,
        "picture_size": NOMINAL,
        "map_size": (NOMINAL[0] // CELL, NOMINAL[1] // CELL),
        "picture_step": STEP,
        "thresholds": THRESHOLDS,
        "training": {},
    }
    write_kinds_bundle(Hears().eval(), Sees().eval(), folder, **about | changed)  # type: ignore[arg-type]
    return load_bundle(folder)


def picture(height: int, width: int, *things: tuple[int, float, float]) -> Picture:
    """Squares on grey, each of a kind, with its middle (x, y) in 0..1; a third of the shorter side
    wide."""
    pixels = np.full((height, width, 3), 110, np.uint8)
    half = min(height, width) // 6
    for kind, x, y in things:
        down, across = round(y * height), round(x * width)
        where = slice(max(0, down - half), down + half), slice(max(0, across - half), across + half)
        pixels[where] = COLOURS[kind]
    return pixels


def sound(*kinds: int, seconds: float = 1.0) -> Samples:
    """Of these kinds at once; of kind 3, a pitch that nobody knows."""
    t = np.arange(round(seconds * RATE)) / RATE
    pitches = (*PITCHES, 4400.0)
    waves = [0.2 * np.sin(2 * np.pi * pitches[kind] * t) for kind in kinds]
    return np.sum([0 * t, *waves], 0).astype(np.float32)


def said(engine: Engine, *things: tuple[int, float, float], heard: tuple[int, ...]) -> Localization:
    """Of a picture with these things in it, in a fresh stream."""
    engine = engine.for_pictures(1080, 1920)
    timeline = SoundTimeline(16_000, 4)
    timeline.write(0, sound(*heard, seconds=2))
    return Localizer(engine)(1.9, picture(*engine.spec.picture_size, *things), timeline)


def openvino(precision: str) -> Callable[[Bundle], NetworkEngine]:
    """A CPU without bfloat16 cuts the sound graph in two all the same, and computes in single."""

    def opened(bundle: Bundle) -> NetworkEngine:
        from avsl.engines.backends.openvino import OpenVinoEngine

        return OpenVinoEngine(bundle, 1, precision)

    return opened


def torch_backend(bundle: Bundle) -> NetworkEngine:
    from avsl.engines.backends.torch import TorchEngine

    return TorchEngine(bundle, "cpu")


OPENED: dict[str, Callable[[Bundle], NetworkEngine]] = {
    "onnxruntime": OnnxRuntimeEngine,
    "openvino f32": openvino("f32"),
    "openvino bf16": openvino("bf16"),
    "torch": torch_backend,
}
