"""The batches of each step. One is a function of (recipe, step): workers and their order can't
change it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from avsl.train.data.material import Material, Part, Source, spec_of
from avsl.train.data.views import (
    SOUND_DRAWS,
    STRONG,
    WEAK,
    Geometry,
    pictures_to_input,
    strong_pictures,
    strong_samples,
)
from avsl.train.data.workers import live_with_parent
from avsl.train.recipe import Recipe

QUIET = 3e-4
"""Root mean square under which a clip counts as silent (-70 dBFS)."""


@dataclass(frozen=True)
class Clips:
    """A batch, and both of its views, which are made when they are first asked for."""

    cells: tuple[int, int]
    """Size of the map."""
    names: list[str]
    pictures: Tensor
    """uint8 `[B, h, w, 3]`."""
    samples: Tensor
    """float32 `[B, S]`; the weak view of sound."""
    boxes: Tensor
    """float32 `[B, K, 4]`, NaN for none."""
    known: Tensor
    """bool `[B]`: whether the boxes are the truth."""
    sounds: Tensor
    """bool `[B]`: whether there is a sound, and it may belong to the picture."""
    draws: Tensor
    """float32 `[B, WEAK + STRONG]`."""
    moment: float = 1.0
    """Where in the window the picture was taken, 0..1."""

    TENSORS: ClassVar = ("pictures", "samples", "boxes", "known", "sounds", "draws")

    def to(self, device: torch.device) -> Clips:
        return replace(self, **{name: getattr(self, name).to(device) for name in self.TENSORS})

    @cached_property
    def weak(self) -> Geometry:
        return Geometry.of(self.draws[:, :WEAK])

    @cached_property
    def strong(self) -> Geometry:
        return Geometry.of(self.draws[:, WEAK : 2 * WEAK])

    @cached_property
    def _input(self) -> Tensor:
        return pictures_to_input(self.pictures)

    @cached_property
    def weak_pictures(self) -> Tensor:
        """`[B, 3, h, w]` in [-1, 1]."""
        return self.weak.pictures(self._input)

    @cached_property
    def strong_pictures(self) -> Tensor:
        return strong_pictures(
            self.strong.pictures(self._input), self.draws[:, 2 * WEAK : -SOUND_DRAWS]
        )

    @cached_property
    def strong_samples(self) -> Tensor:
        return strong_samples(self.samples, self.draws[:, -SOUND_DRAWS:], self.moment)

    @cached_property
    def weak_target(self) -> Tensor:
        """How much of each cell of the weak view lies in a box, `[B, m, n]`."""
        return self.weak.target(self.boxes, self.cells)

    @cached_property
    def target(self) -> Tensor:
        """And of the strong view."""
        return self.strong.target(self.boxes, self.cells)


@dataclass(frozen=True)
class Step:
    """What one step of training sees."""

    labelled: list[Clips]
    """In stage 1 a batch for each student, later one for both."""
    unlabelled: Clips | None

    def to(self, device: torch.device) -> Step:
        return Step(
            [clips.to(device) for clips in self.labelled],
            self.unlabelled and self.unlabelled.to(device),
        )

    @property
    def names(self) -> list[str]:
        parts = [*self.labelled, *([self.unlabelled] if self.unlabelled else [])]
        return [name for clips in parts for name in clips.names]


class Steps(Dataset[Step]):
    """The batches of a stage, by step. Of several processes each takes its share of every batch."""

    def __init__(
        self, material: Material, recipe: Recipe, warm_up: bool, rank: int = 0, world: int = 1
    ) -> None:
        self.material = material
        self.recipe = recipe
        self.warm_up = warm_up
        self.rank, self.world = rank, world
        self.cells = spec_of(recipe, 0).map_size

    def __getitem__(self, step: int) -> Step:
        recipe, material = self.recipe, self.material
        if self.warm_up:
            roles = range(len(recipe.sounds))
            own = [self._clips(material.labelled, role, step, recipe.batch) for role in roles]
            return Step(own, None)
        few = self._clips(material.labelled, 2, step, recipe.labelled_batch)
        if not recipe.unlabelled_batch:
            return Step([few], None)
        return Step([few], self._clips(material.unlabelled, 3, step, recipe.unlabelled_batch))

    def _clips(self, part: Part, role: int, step: int, n: int) -> Clips:
        """`role` tells apart who draws: student A, B, labelled and unlabelled of stage 2."""
        labelled = role < 3
        seed = self.recipe.seed * 10 + role
        ids = part.order(seed, step, n)
        mine = range(self.rank * n // self.world, (self.rank + 1) * n // self.world)
        rows = [self._clip(part.source, seed, ids, i, step, labelled) for i in mine]
        boxes = [row[2] for row in rows]
        padded = np.full((len(rows), max(len(b) for b in boxes), 4), np.nan, np.float32)
        for i, found in enumerate(boxes):
            padded[i, : len(found)] = found
        return Clips(
            self.cells,
            [part.source.name(ids[i]) for i in mine],
            torch.from_numpy(np.stack([row[0] for row in rows])),
            torch.from_numpy(np.stack([row[1] for row in rows])),
            torch.from_numpy(padded),
            torch.tensor([row[3] for row in rows]),
            torch.tensor([row[4] for row in rows]),
            torch.from_numpy(np.stack([row[5] for row in rows])),
            0.5 if self.recipe.picture_at == "middle" else 1.0,
        )

    def _clip(
        self, source: Source, seed: int, ids: list[int], i: int, step: int, labelled: bool
    ) -> tuple[Any, ...]:
        recipe = self.recipe
        # The place in the stream, so that a clip that comes twice in a step differs from itself.
        rng = np.random.default_rng((seed, ids[i], step, i))
        draws = rng.random(WEAK + STRONG, np.float32)
        fate = rng.random()
        picture, samples, boxes = source.clip(ids[i], rng)
        nothing = np.full((1, 4), np.nan, np.float32)
        known = boxes is not None
        boxes = nothing if boxes is None else boxes
        sounds = bool(np.sqrt(np.mean(np.square(samples))) > QUIET)
        if labelled:
            sounds &= not np.isnan(boxes).all()
        if fate < recipe.silent:
            quiet = fate < recipe.silent / 2
            level = np.float32(10 ** rng.uniform(-5, -4 if quiet else -0.7))
            hiss = rng.standard_normal(len(samples), np.float32)
            if not quiet and rng.random() < 0.5:
                hiss = np.cumsum(hiss - hiss.mean()).astype(np.float32)
                hiss /= np.abs(hiss).max()
            return picture, np.clip(level * hiss, -1, 1), nothing, labelled, False, draws
        other = ids[(i + 1) % len(ids)]
        if labelled and fate > 1 - recipe.mismatched and other != ids[i]:
            return picture, source.clip(other, rng)[1], nothing, True, False, draws
        return picture, samples, boxes, known, sounds, draws


def loader(steps: Dataset[Any], start: int, stop: int, workers: int) -> Iterable[Any]:
    """The batches of steps `start` to `stop`, in order, made ahead by `workers` processes."""
    return DataLoader(
        steps,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        # A cast is made of closures, which travel to other processes by fork alone.
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=live_with_parent,
    )
