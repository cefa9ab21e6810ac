"""How the small networks learn: batches drawn anew for every step, and a rate that goes up once and
down again (one cycle: Smith & Topin 2018)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from avsl.train.bars import Progress
from avsl.train.data.workers import live_with_parent
from avsl.train.run import append_metrics
from avsl.train.teach.kept import keep, take_up

RATE = 3e-3
FIRST, LAST = 1 / 25, 1 / 25e4
"""Of the highest rate, with how much it begins and ends."""
STILL, MOVING = 0.95, 0.85
"""Momentum where the rate is least, and where it is highest."""
CHECKPOINT_EVERY, LOG_EVERY = 250, 50
Batch = tuple[NDArray[np.float32], ...]
Draw = Callable[[np.random.Generator], Batch]
Loss = Callable[..., Tensor]
"""From a network and a batch."""


@dataclass(frozen=True)
class Course:
    """What one network is taught, and how long."""

    name: str
    steps: int
    decay: float
    """Of weights, as AdamW has it."""
    rising: float
    """The part of the steps in which the rate goes up."""


@dataclass(frozen=True)
class Batches(IterableDataset[tuple[Tensor, ...]]):
    """The batches of steps; each depends on its step alone."""

    draw: Draw
    steps: range

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for step in self.steps:
            batch = self.draw(np.random.default_rng(step))
            yield tuple(torch.from_numpy(part) for part in batch)


def stacked(draw: Draw, rng: np.random.Generator, count: int) -> Batch:
    """A batch of so many draws."""
    rows = zip(*(draw(rng) for _ in range(count)), strict=True)
    return tuple(np.stack(part).astype(np.float32) for part in rows)


def learn(
    network: nn.Module, draw: Draw, loss: Loss, course: Course, run: Path, progress: Progress
) -> None:
    """Trains a network into `run`, or goes on with what lies there."""
    last, metrics = run / f"{course.name}.safetensors", run / f"{course.name}.jsonl"
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=course.decay)
    done = take_up(last, metrics, network, optimizer)
    batches = Batches(draw, range(done, course.steps))
    loader = DataLoader(
        batches, batch_size=None, num_workers=1, prefetch_factor=8, worker_init_fn=live_with_parent
    )
    network.train()
    losses: list[float] = []
    for step, batch in enumerate(loader, done):
        # Dropout, too, depends on the step alone, so that a training taken up ends the same.
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"], momentum = one_cycle(step, course)
            group["betas"] = momentum, group["betas"][1]
        now = loss(network, *batch)
        optimizer.zero_grad()
        now.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(now.detach()))
        progress(f"{course.name} learn", step + 1, course.steps)
        if (step + 1) % LOG_EVERY == 0 or step + 1 == course.steps:
            append_metrics(metrics, {"step": step + 1, "loss": float(np.mean(losses))})
            losses = []
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == course.steps:
            keep(last, network, optimizer, step + 1)
    network.eval()


def one_cycle(step: int, course: Course) -> tuple[float, float]:
    """Rate and momentum of a step, along cosines (as torch's `OneCycleLR`, by the step alone)."""
    top = max(course.rising * course.steps - 1, 1e-9)
    if step <= top:
        return _between(RATE * FIRST, RATE, step / top), _between(STILL, MOVING, step / top)
    down = (step - top) / max(course.steps - 1 - top, 1e-9)
    return _between(RATE, RATE * LAST, down), _between(MOVING, STILL, down)


def _between(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2
