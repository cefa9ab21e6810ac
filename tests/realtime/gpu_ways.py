"""What tests of the GPU path share: films annotated both ways, and an engine that runs anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from helpers import ToneEngine, Wave, frame_times, tone

from avsl.engines import Resizer, SoundTimeline, Thresholds, describe
from avsl.engines.backends.gpu_pictures import GpuResizer
from avsl.engines.engine import NetworkEngine, NetworkMaps
from avsl.realtime import films as files
from avsl.realtime.drawing.canvas import Canvas
from avsl.realtime.drawing.gpu_overlay import GpuPictures
from avsl.realtime.drawing.overlay import Overlay
from avsl.realtime.sinks.video_file import VideoWriter
from avsl.realtime.sources.frames import Frame

WRITE = VideoWriter.write
FORMATS = ("yuv420p", "yuvj420p", "yuv420p10le")


class TorchEngine:
    """What `engine` says, on tensors: how a backend on a GPU is asked, on any device of torch."""

    def __init__(self, engine: NetworkEngine, device: str = "cpu") -> None:
        self.spec, self.embed, self.localize = engine.spec, engine.embed, engine.localize
        self.device = torch.device(device)
        self.stream = torch.cuda.Stream(self.device) if device != "cpu" else None

    def for_pictures(self, height: int, width: int) -> TorchEngine:
        return self

    def maps(self) -> NetworkMaps:
        return NetworkMaps(self)

    def embed_on(self, samples: torch.Tensor) -> torch.Tensor:
        return self._each(self.embed, samples)

    def localize_on(self, picture: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        return self._each(self.localize, picture, embedding)

    def _each(self, ask: Callable[..., np.ndarray], *what: torch.Tensor) -> torch.Tensor:
        rows = zip(*(part.cpu().numpy() for part in what), strict=True)
        return torch.from_numpy(np.stack([ask(*row) for row in rows])).to(self.device)


@lru_cache
def busy_picture(width: int, height: int, format_: str = "yuv420p") -> av.VideoFrame:
    """Discs of all colours, and grain."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.full((height, width, 3), 90.0)
    for _ in range(12):
        across, down, radius = rng.uniform(0, (width, height, height / 4))
        rgb[np.hypot(x - across, y - down) < radius] = rng.uniform(0, 255, 3)
    rgb += rng.normal(0, 6, rgb.shape)
    whole = av.VideoFrame.from_ndarray(rgb.clip(0, 255).astype(np.uint8), format="rgb24")
    return whole.reformat(format=format_)


def copied(picture: av.VideoFrame) -> av.VideoFrame:
    """The same values in memory of its own."""
    copy = av.VideoFrame(picture.width, picture.height, picture.format.name)
    for mine, its in zip(Canvas(copy).channels, Canvas(picture).channels, strict=True):
        mine[...] = its
    return copy


def planes(picture: av.VideoFrame) -> list[np.ndarray]:
    return [channel.astype(int) for channel in Canvas(picture).channels]


class Given(ToneEngine):
    """Says what it is given. Even what it calls unseen glows from 0.4 on."""

    spec = bundle = replace(ToneEngine.spec, thresholds=Thresholds(0.4, 0.45, 0.7, -60.0, 6.0))

    def __init__(self, map_: np.ndarray) -> None:
        self._map = map_

    def localize(self, picture: np.ndarray, embedding: np.ndarray) -> np.ndarray:
        return self._map


def sounds(wave: Wave, seconds: float = 2.0) -> SoundTimeline:
    timeline = SoundTimeline(16_000, 4.0)
    timeline.write(0, wave(np.arange(round(16_000 * seconds)) / 16_000).astype(np.float32))
    return timeline


def some_map(number: int) -> np.ndarray:
    """Nothing, one cell, all, ramps, heaps: what has edges of its own; and all states."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:8, 0:8] / 7
    maps = [0 * x + 0.02, np.where((x == 1) & (y == 0), 0.9, 0.1), 0 * x + 0.99, x * y, 1 - x]
    maps += [rng.random((8, 8)) ** power for power in (1, 3, 9)]
    maps += [0.29 * x, np.where(x + y == 1, 0.42, 0.0), 0.6 * (1 - x)]
    return maps[number].astype(np.float32)


def resized_apart(picture: av.VideoFrame, size: tuple[int, int], device: str = "cpu") -> np.ndarray:
    """By how many levels the two resizers differ."""
    tall, wide = Canvas(picture).coarse
    luma, u, v = planes(picture)
    luma = np.pad(luma, [(0, 2 * tall - luma.shape[0]), (0, 2 * wide - luma.shape[1])])
    there = [torch.tensor(part).to(device)[None] for part in (luma, np.stack([u, v]))]
    ours = GpuResizer(picture, size, torch.device(device))(*there)[0].cpu().numpy()
    return np.abs(Resizer(size)(picture).astype(int) - ours)


def glow_apart(number: int, picture: av.VideoFrame, device: str = "cpu") -> tuple[int, bool]:
    """By how many levels the two glows differ on one picture, from one map, and whether there is
    any in it."""
    engine = TorchEngine(Given(some_map(number)), device)
    overlay = Overlay(engine.spec.thresholds)
    ours, theirs = copied(picture), copied(picture)
    for copy in (ours, theirs):
        copy.colorspace, copy.color_range = 1 + number % 2 * 8, 1 + number % 3 // 2
    found, tinted = GpuPictures(engine, overlay, most=1)(Frame(ours, 1.0, 0), sounds(tone(440)))
    said = describe(1.0, some_map(number), found.level_db, False, engine.spec.thresholds)
    assert (found.state, found.score, found.peaks) == (said.state, said.score, said.peaks)
    overlay.draw(theirs, said)
    overlay.draw(ours, found, tinted)
    pairs = zip(planes(ours), planes(theirs), strict=True)
    above_label = slice(picture.height * 4 // 5)
    glows = (planes(ours)[0] != planes(picture)[0])[above_label].any()
    return max(int(np.abs(one - other).max()) for one, other in pairs), bool(glows)


Way = tuple[list[list[np.ndarray]], list[dict[str, Any]], list[Fraction]]
"""Pictures (their planes), events, times."""


def both_ways(
    source: Path,
    engine: NetworkEngine,
    monkeypatch: pytest.MonkeyPatch,
    device: str = "cpu",
    every: int = 1,
) -> list[Way]:
    """A film annotated the ordinary way, and over torch."""
    ways = []
    for name, way in (("plain", engine), ("torch", TorchEngine(engine, device))):
        with monkeypatch.context() as patch:
            patch.setattr(files, "on_gpu", lambda e: isinstance(e, TorchEngine))
            pictures: list[list[np.ndarray]] = []

            def write(writer: VideoWriter, picture: av.VideoFrame, kept: list = pictures) -> None:
                kept.append(planes(picture))
                WRITE(writer, picture)

            patch.setattr(VideoWriter, "write", write)
            target, events = (source.with_name(f"{name}.{end}") for end in ("mkv", "jsonl"))
            files.annotate(source, target, way, events=events, every=every)
        lines = [json.loads(line) for line in events.read_text().splitlines()[1:]]
        ways.append((pictures, lines, frame_times(target)))
    return ways


def check(plain: Way, torch_: Way) -> None:
    """The same times and events, and the same pictures within 2 levels."""
    assert plain[1:] == torch_[1:]
    for one, other in zip(plain[0], torch_[0], strict=True):
        assert max(np.abs(a - b).max() for a, b in zip(one, other, strict=True)) <= 2
