"""What a training learns from: labelled, unlabelled and validation clips, and the batches of each
step. A batch is a function of (recipe, step): workers and their order can't change it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from avsl.demos.scenes import RATE
from avsl.engines import UserError
from avsl.engines.networks import NetworkSpec
from avsl.train.clips import pack_clips
from avsl.train.pack import Pack, open_pack, pack_scenes
from avsl.train.pool import Pool
from avsl.train.recipe import DRAWN_CASTS, Casts, Recipe
from avsl.train.views import (
    SOUND_DRAWS,
    STRONG,
    WEAK,
    Geometry,
    pictures_to_input,
    strong_pictures,
    strong_samples,
)
from avsl.train.workers import live_with_parent

VALIDATION_SEED = 900_000
"""Series of drawn scenes that choose checkpoints."""
SLACK_S = 0.5
"""A window in training ends up to this long before the clip's moment."""
QUIET = 3e-4
"""Root mean square under which a clip counts as silent (-70 dBFS)."""


class Source(Protocol):
    """Where clips come from."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What a person calls the clip."""

    def clip(
        self, index: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32] | None]:
        """Picture `[h, w, 3]`, a window of samples `[S]` in [-1, 1], and boxes `[K, 4]` of what
        sounds (None: not known)."""


class PackSource:
    """Clips of a pack, heard through windows of `window` samples that end anywhere in the slack."""

    def __init__(self, pack: Pack, window: int) -> None:
        self.pack = pack
        self.window = window

    def __len__(self) -> int:
        return len(self.pack)

    def name(self, index: int) -> str:
        return self.pack.names[index]

    def clip(
        self, index: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32] | None]:
        pack = self.pack
        start = int(rng.integers(pack.samples.shape[1] - self.window + 1))
        heard = pack.samples[index, start : start + self.window].astype(np.float32)
        samples = heard / np.float32(32767)
        boxes = pack.boxes[index] if pack.known[index] else None
        return pack.pictures[index], samples, boxes


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


@dataclass(frozen=True)
class Part:
    """Some of a source's clips."""

    source: Source
    ids: NDArray[np.int64]

    def order(self, seed: int, step: int, n: int) -> list[int]:
        """The `n` clips of step `step`: the part is gone through again and again, shuffled anew
        each time."""
        size = len(self.ids)
        places = range(step * n, (step + 1) * n)
        return [
            int(self.ids[_shuffled(seed, place // size, size)[place % size]]) for place in places
        ]


@lru_cache(8)
def _shuffled(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(size)


@dataclass(frozen=True)
class Material:
    """The clips of a training, apart from each other."""

    labelled: Part
    unlabelled: Part
    validation: Pack
    validation_ids: NDArray[np.int64]
    test: tuple[Pack, NDArray[np.int64]]
    """Pack and ids of the clips for the final scores; those for validation, where there are no
    others."""
    leaks: int = 0
    """Clips that were left out because they are among those to be tested on."""


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


def spec_of(recipe: Recipe, k: int) -> NetworkSpec:
    """What network `k` (0 is A) of a recipe is made of."""
    return NetworkSpec(
        rate=RATE,
        window=round(recipe.seconds * RATE),
        picture_size=(recipe.size, recipe.size),
        picture=recipe.picture,
        sound=recipe.sounds[k],
        width=recipe.width,
        embedding=recipe.embedding,
    )


def open_material(
    recipe: Recipe,
    run: Path,
    *,
    casts: Casts = DRAWN_CASTS,
    skip_bad: bool = False,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Material:
    """Opens or makes what a recipe learns from; packs that are made stay in `run`.

    Raises:
        UserError: clips are bad, or there are too few of them.
    """
    size = (recipe.size, recipe.size)
    window = round(recipe.seconds * RATE)
    if not recipe.data:
        count = recipe.labelled + recipe.unlabelled
        cells = spec_of(recipe, 0).map_size
        pool = Pool(
            recipe.seed, count, recipe.voices, size, window, casts.train, cells, recipe.speeds
        )
        folder = run / "validation"
        if not folder.exists():
            held_out = casts.validation
            pack_scenes(folder, VALIDATION_SEED, recipe.validation, size, cast=held_out)
        pack = open_pack(folder)
        ids = np.arange(count)
        few, many = Part(pool, ids[: recipe.labelled]), Part(pool, ids[recipe.labelled :])
        all_ = np.arange(len(pack))
        return Material(few, many, pack, all_, (pack, all_))

    for name in filter(None, (recipe.data, recipe.test)):
        if not Path(name).is_dir():
            raise UserError(f"{name}: no such folder of clips")

    def packed(folder: str, name: str) -> Pack:
        pack = _clips_pack(recipe, Path(folder), run / name, skip_bad, progress)
        if pack.picture_at != recipe.picture_at:
            raise UserError(
                f"{pack.folder}: packed with the picture at the {pack.picture_at} of its sound, "
                f'the recipe says picture_at = "{recipe.picture_at}"'
            )
        return pack

    pack = packed(recipe.data, "clips")
    test = packed(recipe.test, "test") if recipe.test else None
    if pack.size != size or pack.samples.shape[1] < window:
        raise UserError(
            f"{pack.folder}: packed at {pack.size[1]} pixels, {pack.samples.shape[1] / RATE:g} s; "
            f"the recipe wants {size[1]} and {recipe.seconds:g} s; pack the clips again"
        )
    rng = np.random.default_rng((recipe.seed, 1))
    tested = set(test.names if test else [])
    fresh = np.array([i for i, name in enumerate(pack.names) if name not in tested], int)
    known = rng.permutation(fresh[pack.known[fresh]])
    wanted = recipe.validation + recipe.labelled
    if len(known) < wanted:
        raise UserError(
            f"{recipe.data}: {len(known)} clips have boxes, the recipe wants {recipe.labelled} "
            f"labelled and {recipe.validation} for validation; set fewer"
        )
    validation, labelled = known[: recipe.validation], known[recipe.validation : wanted]
    rest = rng.permutation(np.setdiff1d(fresh, known[:wanted]))
    if recipe.unlabelled_batch and len(rest) < 1:
        raise UserError(f"{recipe.data}: no clips are left to be the unlabelled ones")
    source = PackSource(pack, window)
    return Material(
        Part(source, labelled),
        Part(source, rest[: recipe.unlabelled]),
        pack,
        validation,
        (test, np.arange(len(test))) if test else (pack, validation),
        len(pack) - len(fresh),
    )


def _clips_pack(
    recipe: Recipe,
    folder: Path,
    packed: Path,
    skip_bad: bool,
    progress: Callable[[str, int, int], None],
) -> Pack:
    if (folder / "pack.json").exists():
        return open_pack(folder)
    if packed.exists():
        return open_pack(packed)
    return pack_clips(
        folder,
        packed,
        (recipe.size, recipe.size),
        seconds=recipe.seconds + SLACK_S,
        picture_at="middle" if recipe.picture_at == "middle" else "end",
        skip_bad=skip_bad,
        progress=lambda done, total: progress("pack", done, total),
    )
