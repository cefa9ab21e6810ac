"""Teaches the small heads of the picture network, on scenes of which it is known where what is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from avsl.engines.networks.seeing import FineHead, Lite0, normalised
from avsl.train.bars import Progress
from avsl.train.run import append_metrics, load_checkpoint, save_checkpoint
from avsl.train.teach.people import Picture

BATCH = 32
EPOCHS = 8
LR = 2e-3
HELD_OUT = 0.08
Scene = tuple[Picture, NDArray[np.floating]]
"""A picture `[h, w, 3]` and what is known of its cells, `[C, h/16, w/16]`."""
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of features at both strides and what is known of the cells, a batch each."""


@dataclass(frozen=True)
class Lesson:
    """What a head is called, the scenes that it learns from, of which the first thing is to read
    what they are made of, and how its errors are counted."""

    name: str
    scenes: Callable[[], Callable[[int], Scene]]
    count: int
    loss: Loss


def kept(run: Path, name: str) -> Path:
    """Where a head lies once it is taught."""
    return run / f"{name}.safetensors"


def teach_head(
    head: FineHead, lite0: Lite0, lesson: Lesson, run: Path, seed: int, progress: Progress
) -> None:
    """Trains a head on top of features that stay as they are, or takes it from `run`."""
    if (path := kept(run, lesson.name)).exists():
        head.load_state_dict(load_checkpoint(path)[0])
        return
    fine, coarse, target = _features(lite0, lesson, progress)

    def batch(ids: NDArray[np.int64]) -> list[Tensor]:
        return [torch.from_numpy(part[ids].astype(np.float32)) for part in (fine, coarse, target)]

    torch.manual_seed(seed)
    head.apply(lambda part: getattr(part, "reset_parameters", lambda: None)())
    optimizer = torch.optim.AdamW(head.parameters(), LR, weight_decay=0.02)
    rng = np.random.default_rng(seed)
    held = round(HELD_OUT * lesson.count)
    each = (lesson.count - held) // BATCH
    steps = EPOCHS * each
    for step in range(steps):
        if step % each == 0:
            order = held + rng.permutation(lesson.count - held)
        for group in optimizer.param_groups:
            falling = 0.5 + 0.5 * math.cos(math.pi * step / steps)
            group["lr"] = LR * min((step + 1) / (0.05 * steps), falling)
        head.train()
        loss = lesson.loss(*batch(order[step % each * BATCH :][:BATCH]))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        progress(lesson.name, step + 1, steps)
        if (step + 1) % each == 0:
            head.eval()
            with torch.no_grad():
                val = float(lesson.loss(*batch(np.arange(held))))
            line = {"epoch": (step + 1) // each, "loss": float(loss.detach()), "val": val}
            append_metrics(run / f"{lesson.name}.jsonl", line)
    save_checkpoint(path, head.state_dict(), {"scenes": lesson.count})


@torch.no_grad()
def _features(lite0: Lite0, lesson: Lesson, progress: Progress) -> list[NDArray[np.float16]]:
    """What the trunk makes of scenes, at both strides, and what is known of their cells. About
    200 kB a scene."""
    rows = []
    scene = lesson.scenes()
    for i in range(lesson.count):
        picture, known = scene(i)
        fine, coarse = lite0(normalised(torch.from_numpy(picture)[None]))
        rows.append([np.float16(part) for part in (fine[0].numpy(), coarse[0].numpy(), known)])
        progress(f"scenes with {lesson.name}", i + 1, lesson.count)
    return [np.stack(part) for part in zip(*rows, strict=True)]


def focal(logits: Tensor, truth: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Cross entropy a scene, what is right already counting little (Lin et al. 2017)."""
    each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    each = each * (0.1 + (truth - logits.detach().sigmoid()).abs())
    return (each * weight).sum((1, 2, 3)).mean()
