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
from avsl.train.data.clips import list_clips, pack_clips
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

    survey(recipe, run, skip_bad=skip_bad)  # before clips are packed for an hour

    def packed(folder: str, name: str) -> Pack:
        return _pack_there(recipe, Path(folder), run / name) or pack_clips(
            Path(folder),
            run / name,
            size,
            seconds=recipe.seconds + SLACK_S,
            picture_at="middle" if recipe.picture_at == "middle" else "end",
            skip_bad=skip_bad,
            progress=lambda done, total: progress("pack", done, total),
        )

    pack = packed(recipe.data, "clips")
    test = packed(recipe.test, "test") if recipe.test else None
    chosen = choose(recipe, pack.names, pack.known, test.names if test else [])
    source = PackSource(pack, window)
    return Material(
        Part(source, chosen.labelled),
        Part(source, chosen.unlabelled),
        pack,
        chosen.validation,
        (test, np.arange(len(test))) if test else (pack, chosen.validation),
        chosen.leaks,
    )


@dataclass(frozen=True)
class Chosen:
    """Which of a folder's clips a training takes, by their places in it."""

    labelled: NDArray[np.int64]
    unlabelled: NDArray[np.int64]
    validation: NDArray[np.int64]
    leaks: int
    """Clips that were left out because they are among those to be tested on."""


@dataclass(frozen=True)
class Survey:
    """What a training would take, as far as names and boxes tell."""

    chosen: Chosen
    clips: int
    """All that are packed, those to be tested on too."""
    packed: bool
    """Whether they have been, so that nothing is left to be found out."""


def choose(recipe: Recipe, names: list[str], known: NDArray[np.bool_], tested: list[str]) -> Chosen:
    """Draws a training's clips.

    Args:
        names: of all clips, in order.
        known: `[N]`, whether a clip's boxes are known.
        tested: names of clips that are not to be trained on.

    Raises:
        UserError: there are too few.
    """
    rng = np.random.default_rng((recipe.seed, 1))
    kept = set(tested)
    fresh = np.array([i for i, name in enumerate(names) if name not in kept], int)
    boxed = rng.permutation(fresh[known[fresh]])
    wanted = recipe.validation + recipe.labelled
    if len(boxed) < wanted:
        raise UserError(
            f"{recipe.data}: {len(boxed)} clips have boxes, the recipe wants {recipe.labelled} "
            f"labelled and {recipe.validation} for validation; set labelled or validation lower"
        )
    rest = rng.permutation(np.setdiff1d(fresh, boxed[:wanted]))
    if recipe.unlabelled_batch and len(rest) < 1:
        raise UserError(
            f"{recipe.data}: no clips are left to be the unlabelled ones; set labelled or "
            "validation lower, or unlabelled and unlabelled_batch to 0"
        )
    return Chosen(
        labelled=boxed[recipe.validation : wanted],
        unlabelled=rest[: recipe.unlabelled],
        validation=boxed[: recipe.validation],
        leaks=len(names) - len(fresh),
    )


def survey(recipe: Recipe, run: Path | None, *, skip_bad: bool = False) -> Survey:
    """What a training would take. Nothing is decoded, and nothing written.

    Args:
        run: where packs may lie already; None: those there will be made anew.

    Raises:
        UserError: a folder is missing, clips are bad as far as can be seen, or too few.
    """
    if not recipe.data:
        places = np.arange(recipe.labelled + recipe.unlabelled)
        few, many = np.split(places, [recipe.labelled])
        validation = np.arange(recipe.validation)
        return Survey(Chosen(few, many, validation, 0), len(places) + len(validation), False)
    found: list[tuple[list[str], NDArray[np.bool_]]] = []
    whole = True
    for folder, name in (recipe.data, "clips"), (recipe.test, "test"):
        if folder and not Path(folder).is_dir():
            raise UserError(f"{folder}: no such folder of clips")
        if folder and (pack := _pack_there(recipe, Path(folder), run and run / name)):
            found.append((pack.names, pack.known))
        elif folder:
            listed, whole = list_clips(Path(folder)), False
            listed.check(skip_bad)
            good = listed.good
            found.append((good, np.array([clip in listed.boxes for clip in good])))
        else:
            found.append(([], np.zeros(0, bool)))
    (names, known), (tested, boxed) = found
    if recipe.test and not boxed.any():
        raise UserError(f"{recipe.test}: no clip has boxes; there is nothing to test on")
    chosen = choose(recipe, names, known, tested)
    return Survey(chosen, len(names) + len(tested), whole)


def _pack_there(recipe: Recipe, folder: Path, packed: Path | None) -> Pack | None:
    """The pack that `folder` is, or that was made of it; None: there is none yet.

    Raises:
        UserError: it is damaged, or not what the recipe wants.
    """
    if (folder / "pack.json").exists():
        pack = open_pack(folder)
    elif packed and packed.exists():
        pack = open_pack(packed)
    else:
        return None
    if pack.picture_at != recipe.picture_at:
        raise UserError(
            f"{pack.folder}: packed with the picture at the {pack.picture_at} of its sound, "
            f'the recipe says picture_at = "{recipe.picture_at}"'
        )
    window = round(recipe.seconds * RATE)
    if pack.size != (recipe.size, recipe.size) or pack.samples.shape[1] < window:
        raise UserError(
            f"{pack.folder}: packed at {pack.size[1]} pixels, {pack.samples.shape[1] / RATE:g} s; "
            f"the recipe wants {recipe.size} and {recipe.seconds:g} s; pack the clips again"
        )
    return pack
