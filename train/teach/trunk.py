"""Teaches the picture network's trunk to see in a webcam's small and poor picture what it sees in a
good one that is larger: Lite0 as it was published is the teacher, its own later layers learn.

Nothing is told of kinds: the targets are its thousand classes, so what it knows of things that no
picture here shows isn't forgotten.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from avsl.engines.networks.seeing import Lite0, Seeing, normalised
from avsl.train.bars import Progress
from avsl.train.data.prepare import opencv
from avsl.train.run import append_metrics
from avsl.train.teach.kept import keep, take_up
from avsl.train.teach.people import Picture, camera, cover

cv2 = opencv()
BATCH = 8
LR = 1e-4
LARGER = 1.5
"""The teacher's picture has so many times the student's height and width."""
MOSAIC = 0.4
"""How often a picture is put together of four."""
HELD_OUT = 32
"""Scenes to measure on."""
LAST, METRICS = "trunk.safetensors", "trunk.jsonl"
CHECKPOINT_EVERY = 50


def teach_trunk(
    network: Seeing,
    pictures: list[Picture],
    size: tuple[int, int],
    run: Path,
    steps: int,
    *,
    seed: int = 1,
    progress: Progress = lambda what, done, total: None,
) -> None:
    """Trains the trunk of a picture network from stride 16 on, or goes on with what lies in `run`;
    what its other heads look at, at stride 16, stays as it is."""
    trunk = network.trunk
    teacher = copy.deepcopy(trunk).eval()
    learns = [p for part in (trunk.coarse, trunk.top, trunk.classes) for p in part.parameters()]
    optimizer = torch.optim.Adam(learns, LR)
    done = take_up(run / LAST, run / METRICS, trunk, optimizer)
    if done >= steps:
        return
    held = [_scene(np.random.default_rng((seed + 1, i)), pictures, size) for i in range(HELD_OUT)]
    for step in range(done, steps):
        rngs = [np.random.default_rng((seed, step, i)) for i in range(BATCH)]
        for group in optimizer.param_groups:
            falling = 0.5 + 0.5 * math.cos(math.pi * step / steps)
            group["lr"] = LR * min((step + 1) / 20, falling)
        loss = _loss(teacher, trunk, [_scene(rng, pictures, size) for rng in rngs])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        progress("seeing", step + 1, steps)
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            with torch.no_grad():
                val = float(_loss(teacher, trunk, held))
            line = {"step": step + 1, "loss": float(loss.detach()), "val": val}
            append_metrics(run / METRICS, line)
            keep(run / LAST, trunk, optimizer, step + 1)


Scene = tuple[Picture, Picture]
"""The teacher's picture and the student's."""


def _scene(rng: np.random.Generator, pictures: list[Picture], size: tuple[int, int]) -> Scene:
    """A part of a photograph, or of four beside each other, as it is and as a webcam sees it."""
    h, w = (round(side * LARGER / 32) * 32 for side in size)

    def some(tall: int, wide: int) -> Picture:
        picture = pictures[int(rng.integers(len(pictures)))]
        part = cover(rng, picture, (tall, wide))[0]
        return part[:, ::-1] if rng.random() < 0.5 else part

    if rng.random() < MOSAIC:
        y, x = round(rng.uniform(0.3, 0.7) * h), round(rng.uniform(0.3, 0.7) * w)
        rows = [np.hstack([some(tall, x), some(tall, w - x)]) for tall in (y, h - y)]
        good: NDArray[np.uint8] = np.vstack(rows)
    else:
        good = some(h, w)
    good = np.ascontiguousarray(good)
    small = cv2.resize(good, size[::-1], interpolation=cv2.INTER_AREA)
    return good, camera(rng, small)


def _loss(teacher: Lite0, trunk: Lite0, scenes: list[Scene]) -> Tensor:
    """Cross entropy with the teacher's classes in each cell, over their own entropy."""
    good, poor = (torch.from_numpy(np.stack(part)) for part in zip(*scenes, strict=True))
    logits = _classes(trunk, poor)
    with torch.no_grad():
        # Antialiased: each of the student's cells hears of all of the teacher's that lie in it.
        wanted = F.interpolate(
            _classes(teacher, good), logits.shape[2:], mode="bilinear", antialias=True
        )
    target = wanted.softmax(1)
    return F.kl_div(logits.log_softmax(1), target, reduction="none").sum(1).mean()


def _classes(trunk: Lite0, pictures: Tensor) -> Tensor:
    """Logits of classes; what is ahead of stride 16 doesn't learn."""
    x = normalised(pictures).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        fine = trunk.fine(trunk.stem(x))
    return trunk.logits(trunk.coarse(fine))
