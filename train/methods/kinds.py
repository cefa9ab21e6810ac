"""Stage 0: the networks learn to tell kinds apart, before they learn where what is heard is.

Each kind of thing, those that never sound included, is given a direction of its own in the space of
embeddings; all are at right angles. A cell of a picture is drawn to the direction of the kind that
it shows, a sound to that of the kind it is of: so the cosine of the two means something from the
first step of localization on. The directions are fixed and not learnt, as in Hoffer et al. 2018
(Fix your classifier).

And every picture of a batch is heard with every sound of it: where a picture shows what is heard is
known of each pair, so that one look at it teaches what otherwise a whole batch of clips does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from avsl.train.data.material import Part
from avsl.train.data.pool import Pool, kind_names
from avsl.train.data.views import (
    SOUND_DRAWS,
    STRONG,
    WEAK,
    Geometry,
    pictures_to_input,
    strong_pictures,
    strong_samples,
)
from avsl.train.methods.objectives import pixel_loss
from avsl.train.recipe import Recipe

SHARPNESS = 12.0
"""Of the softmax over the cosines."""
PLACE_WEIGHT = 0.3
"""Of cells that show no thing: they are the most."""
SOUNDS = 2
"""Sounds for each picture: they cost little beside it, and the same recordings come often."""


@dataclass(frozen=True)
class KindBatch:
    """Pictures and sounds with their kinds."""

    names: list[str]
    pictures: Tensor
    """uint8 `[B, h, w, 3]`."""
    kinds: Tensor
    """int64 `[B, m, n]`, the kind that each cell shows; the number of kinds for the place."""
    draws: Tensor
    """float32 `[B, WEAK + STRONG]`, of the pictures."""
    samples: Tensor
    """float32 `[B', S]`, `SOUNDS` to a picture."""
    heard: Tensor
    """float32 `[B', families + 1]`: shares of the kinds of the sound; the last is any other."""
    sound_draws: Tensor
    """float32 `[B', SOUND_DRAWS]`."""
    count: int
    """How many kinds there are; of them the first are those that sound."""

    TENSORS: ClassVar = ("pictures", "kinds", "draws", "samples", "heard", "sound_draws")

    def to(self, device: torch.device) -> KindBatch:
        return replace(self, **{name: getattr(self, name).to(device) for name in self.TENSORS})


class KindSteps(Dataset[KindBatch]):
    """The batches of the stage, by step. Of several processes each takes its share of every one."""

    def __init__(self, part: Part, recipe: Recipe, rank: int = 0, world: int = 1) -> None:
        assert isinstance(part.source, Pool)
        self.part, self.pool = part, part.source
        self.seed, self.size = recipe.seed * 10 + 9, recipe.batch
        self.mine = range(rank * self.size // world, (rank + 1) * self.size // world)

    def __getitem__(self, step: int) -> KindBatch:
        ids = self.part.order(self.seed, step, self.size)
        mine = [ids[i] for i in self.mine]
        draws, sounds = [], []
        for i in self.mine:
            rng = np.random.default_rng((self.seed, ids[i], step, i))
            draws.append(rng.random(WEAK + STRONG, np.float32))
            for _ in range(SOUNDS):
                sounds.append((*self.pool.heard(ids[i], rng), rng.random(SOUND_DRAWS, np.float32)))
        samples, heard, sound_draws = (
            torch.from_numpy(np.stack(column)) for column in zip(*sounds, strict=True)
        )
        return KindBatch(
            [self.pool.name(i) for i in mine],
            torch.from_numpy(self.pool.pictures[mine]),
            torch.from_numpy(self.pool.kinds[mine].astype(np.int64)),
            torch.from_numpy(np.stack(draws)),
            samples,
            heard,
            sound_draws,
            len(kind_names(self.pool.cast)),
        )


@lru_cache(1)
def directions(count: int, size: int) -> Tensor:
    """Unit vectors at right angles, `[count, size]`; the same in every run."""
    generator = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(size, size, generator=generator)).Q[:count].contiguous()


def kinds_loss(
    students: nn.Module, batch: KindBatch, recipe: Recipe
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross entropy of the kinds of cells and of sounds, and the loss of all pairs of both."""
    kinds = batch.count
    view = Geometry.of(batch.draws[:, WEAK : 2 * WEAK])
    pictures = view.pictures(pictures_to_input(batch.pictures))
    pictures = strong_pictures(pictures, batch.draws[:, 2 * WEAK : -SOUND_DRAWS])
    samples = strong_samples(batch.samples, batch.sound_draws)
    shown = view.labels(batch.kinds)
    # The last two directions are the place's, and that of all other sounds.
    all_ = directions(kinds + 2, recipe.embedding).to(pictures.device)
    families = batch.heard.shape[1] - 1
    audible = torch.cat([all_[:families], all_[-1:]])
    weight = torch.ones(kinds + 1, device=pictures.device)
    weight[-1] = PLACE_WEIGHT
    loss = torch.zeros((), device=pictures.device)
    right = []
    for features, embedding, pairs in students([(pictures, samples)] * len(recipe.sounds), True):
        cells = SHARPNESS * torch.einsum("bemn,ke->bkmn", features, all_[:-1])
        sounds = SHARPNESS * embedding @ audible.T
        loss = loss + F.cross_entropy(cells, shown, weight) + F.cross_entropy(sounds, batch.heard)
        loss = loss + crossed_loss(pairs, shown, batch.heard, recipe)
        thing = shown < kinds
        right.append((cells.argmax(1) == shown)[thing].float().mean())
        right.append((sounds.argmax(1) == batch.heard.argmax(1)).float().mean())
    log = {"loss": loss.detach(), "cells_right": right[0], "sounds_right": right[1]}
    return loss, log


def crossed_loss(logits: Tensor, shown: Tensor, heard: Tensor, recipe: Recipe) -> Tensor:
    """The pixel-wise loss of every picture with every sound of a batch.

    Args:
        logits: `[B, B', m, n]`, of pictures b with sounds b'.
        shown: int64 `[B, m, n]`, the kind that each cell of a picture shows.
        heard: `[B', families + 1]`, shares of the kinds of a sound; the last is any other.
    """
    families = heard.shape[1] - 1
    is_heard = (heard[:, :families] > 0).float()
    # Kinds that never sound, and the place, come after those that do.
    target = F.pad(is_heard, (0, 1))[:, shown.clamp_max(families)].transpose(0, 1)
    pairs, cells = target.flatten(0, 1), logits.flatten(0, 1)
    weights = recipe.positive_weight, recipe.peak_weight
    return recipe.pixel_weight * pixel_loss(cells, pairs, torch.ones_like(pairs), *weights).mean()
