"""What a training learns from: labelled, unlabelled and validation clips, opened or made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from avsl.demos.scenes import RATE
from avsl.engines import UserError
from avsl.engines.networks import NetworkSpec
from avsl.train.data.clips import pack_clips
from avsl.train.data.pack import Pack, open_pack, pack_scenes
from avsl.train.data.pool import Pool
from avsl.train.recipe import DRAWN_CASTS, Casts, Recipe

VALIDATION_SEED = 900_000
"""Series of drawn scenes that choose checkpoints."""
SLACK_S = 0.5
"""A window in training ends up to this long before the clip's moment."""


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
