"""Practice material: pictures of scenes rendered once, sounds mixed anew for every step.

One picture is heard with many sounds: each of its things in turn, two at once, none, or something
out of view. That is what makes a network listen.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl.demos.scenes import DRAWN, RATE, STRANGER, Cast, make_scene
from avsl.demos.voices import noise

MAX_THINGS = 4
CLIP = 2 * RATE
"""Samples kept of each voice; a window of it starts anywhere in its first half."""


@dataclass(frozen=True)
class Batch:
    """`n` pictures with sound and truth."""

    pictures: NDArray[np.uint8]  # [n, h, w, 3]
    samples: NDArray[np.float32]  # [n, S]
    target: NDArray[np.float32]  # [n, m, n], how much of each cell sounds


def cell_cover(masks: NDArray[np.float32], cell: int) -> NDArray[np.float32]:
    """Share of each `cell` x `cell` pixels that a mask covers: `[n, h, w]` to `[n, m, k]`."""
    n, h, w = masks.shape
    shares: NDArray[np.float32] = masks.reshape(n, h // cell, cell, w // cell, cell).mean((2, 4))
    return shares


def render_still(
    seed: int, size: tuple[int, int], cast: Cast, index: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int16]]:
    """Picture `[h, w, 3]`, cell cover times 255 `[4, m, n]` and families `[4]` (-1: no thing) of a
    scene, rendered at twice the size and averaged, as the resizer does with a camera's picture."""
    height, width = size
    scene = make_scene(seed, index, cast=cast)
    names = [family.name for family in cast.families]
    picture, masks = scene.render(0, 2 * height, 2 * width)
    sums = picture[0::2].astype(np.uint16) + picture[1::2]
    small = (sums[:, 0::2] + sums[:, 1::2] + 2) // 4
    cover = np.zeros((MAX_THINGS, height // 8, width // 8), np.uint8)
    cover[: len(masks)] = np.rint(cell_cover(masks, 16) * 255)
    families = np.full(MAX_THINGS, -1, np.int16)
    families[: len(scene.things)] = [names.index(thing.family) for thing in scene.things]
    return small.astype(np.uint8), cover, families


class Pool:
    """Pictures and voices to mix batches from. About 90 kB a picture, 64 kB a voice."""

    def __init__(
        self,
        seed: int,
        pictures: int,
        voices: int,
        size: tuple[int, int],
        cast: Cast = DRAWN,
        workers: int = 0,
    ) -> None:
        self.seed = seed
        self.window = RATE
        self.cast = cast
        self.voices = voices
        # A cast is made of closures, which travel to other processes by fork alone.
        _job.update(seed=seed, size=size, cast=cast, voices=voices)
        with multiprocessing.get_context("fork").Pool(workers or None) as pool:
            stills = pool.map(_render, range(pictures), chunksize=50)
            clips = pool.map(_clip, range((len(cast.families) + 2) * voices), chunksize=50)
        rng = np.random.default_rng((seed, 11))
        self.noises = np.stack([noise((seed, i), 0, CLIP, rng.random()) for i in range(64)])
        self.pictures = np.stack([still[0] for still in stills])
        self.cover = np.stack([still[1] for still in stills])
        self.families = np.stack([still[2] for still in stills])
        self.clips = np.stack(clips).reshape(-1, voices, CLIP)
        """Voices as int16: a row for each family, the last two rows hold strangers."""

    def batch(self, seed: int, step: int, n: int) -> Batch:
        """Batch number `step`; the same for the same arguments, whatever was drawn before."""
        rng = np.random.default_rng((self.seed, seed, step))
        chosen = rng.integers(len(self.pictures), size=n)
        samples = np.empty((n, self.window), np.float32)
        m, k = self.cover.shape[2:]
        target = np.zeros((n, m, k), np.float32)
        for i, index in enumerate(chosen):
            things = np.flatnonzero(self.families[index] >= 0)
            samples[i], sounding = self._mix(rng, self.families[index], things)
            for thing in sounding:
                target[i] += self.cover[index, thing] / np.float32(255)
        return Batch(self.pictures[chosen], samples, target)

    def batches(self, seed: int, start: int, stop: int, n: int) -> Iterator[Batch]:
        """Batches `start` to `stop`, each mixed while the one before is being used."""
        with ThreadPoolExecutor(1) as ahead:
            following = ahead.submit(self.batch, seed, start, n)
            for step in range(start, stop):
                batch = following.result()
                if step + 1 < stop:
                    following = ahead.submit(self.batch, seed, step + 1, n)
                yield batch

    def _voice(self, rng: np.random.Generator, row: int) -> NDArray[np.float32]:
        clip = self.clips[row, rng.integers(self.voices)]
        start = rng.integers(CLIP - self.window)
        return clip[start : start + self.window] * np.float32(rng.uniform(0.5, 1) / 32767)

    def _mix(
        self, rng: np.random.Generator, families: NDArray[np.int16], things: NDArray[np.intp]
    ) -> tuple[NDArray[np.float32], list[int]]:
        """A window of sound, and which of the picture's `things` sound at its end."""
        n = self.window
        kind = rng.choice(5, p=[0.62, 0.14, 0.02, 0.05, 0.17])
        rows: list[int] = []
        sounding: list[int] = []
        if kind == 0 or (kind == 1 and len(things) < 2):
            sounding = [int(rng.choice(things))]
        elif kind == 1:
            sounding = [int(i) for i in rng.choice(things, 2, replace=False)]
        elif kind == 4:
            rows = [self._outside(rng, families)]
        rows += [int(families[i]) for i in sounding]
        mix = np.zeros(n, np.float32)
        for row in rows:
            voice = self._voice(rng, row)
            if rng.random() < 0.3:  # it has only just begun
                voice[: rng.integers(int(0.85 * n))] = 0
            mix += voice
        before = rng.random()
        if before < 0.2 and kind != 2:
            # Something else sounded until a moment ago: what counts is now.
            until = int(n * rng.uniform(0.1, 0.75 if rows else 0.6))
            mix[:until] = self._any(rng)[:until]
        loud = np.float32(10 ** rng.uniform(-2, 0))
        if kind == 2:
            return mix * 0 + np.float32(1e-4 * (rng.random() < 0.5)) * self._noise(rng), []
        level = 0.3 * 10 ** (rng.uniform(-30, -2) / 20)
        return np.clip((mix + np.float32(level) * self._noise(rng)) * loud, -1, 1), sounding

    def _any(self, rng: np.random.Generator) -> NDArray[np.float32]:
        return self._voice(rng, int(rng.integers(len(self.clips))))

    def _outside(self, rng: np.random.Generator, families: NDArray[np.int16]) -> int:
        absent = np.setdiff1d(np.arange(len(self.cast.families)), families)
        if len(absent) and rng.random() < 0.6:
            return int(rng.choice(absent))
        return len(self.cast.families) + int(rng.integers(2))

    def _noise(self, rng: np.random.Generator) -> NDArray[np.float32]:
        start = rng.integers(CLIP - self.window)
        return self.noises[rng.integers(len(self.noises)), start : start + self.window]


_job: dict[str, Any] = {}


def _render(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int16]]:
    return render_still(_job["seed"], _job["size"], _job["cast"], index)


def _clip(index: int) -> NDArray[np.int16]:
    families = _job["cast"].families
    row = index // _job["voices"]
    rng = np.random.default_rng((_job["seed"], index, 5))
    family = families[row] if row < len(families) else STRANGER
    voice = family.voice(rng)
    wave = voice(np.arange(CLIP) / RATE)
    return np.rint(np.clip(wave, -1, 1) * 32767).astype(np.int16)
