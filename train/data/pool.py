"""Practice material: pictures of scenes rendered once, sounds mixed anew for every step.

One picture is heard with many sounds: each of its things in turn, two at once, none, or something
out of view. That is what makes a network listen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl.demos.scenes import DRAWN, RATE, Cast, boxes, make_scene
from avsl.demos.scenes.voices import noise
from avsl.train.data.workers import in_parallel

MAX_THINGS = 4
CLIP = 2 * RATE
"""Samples kept of each voice; a window of it starts anywhere in its first half."""
FASTEST = 1.9
"""A voice is played at no more than this speed, so that a window of it is there."""


def half_size(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture `[2 h, 2 w, 3]` averaged to `[h, w, 3]`, as the resizer does with a camera's."""
    sums = picture[0::2].astype(np.uint16) + picture[1::2]
    small: NDArray[np.uint16] = (sums[:, 0::2] + sums[:, 1::2] + 2) // 4
    return small.astype(np.uint8)


Still = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int16], NDArray[np.int16]]


def render_still(
    seed: int, size: tuple[int, int], cells: tuple[int, int], cast: Cast, index: int
) -> Still:
    """Picture `[h, w, 3]`, boxes `[4, 4]`, families `[4]` (-1: no thing) and kinds `[m, n]` (see
    `Pool.kinds`) of a scene, rendered at twice the size and averaged."""
    height, width = size
    scene = make_scene(seed, index, cast=cast)
    names = kind_names(cast)
    picture, masks = scene.render_all(0, 2 * height, 2 * width)
    found = np.zeros((MAX_THINGS, 4), np.float32)
    found[: len(scene.things)] = boxes(masks[len(scene.strangers) :])
    families = np.full(MAX_THINGS, -1, np.int16)
    families[: len(scene.things)] = [names.index(thing.family) for thing in scene.things]
    shown = [names.index(thing.family) for thing in (*scene.strangers, *scene.things)]
    return half_size(picture), found, families, _kinds(masks, shown, cells, len(names))


def kind_names(cast: Cast) -> list[str]:
    """All kinds of a cast's things: its families, then those that never sound."""
    return [family.name for family in (*cast.families, *cast.strangers)]


def _kinds(
    masks: NDArray[np.float32], shown: list[int], cells: tuple[int, int], place: int
) -> NDArray[np.int16]:
    m, n = cells
    count, height, width = masks.shape
    cover = masks.reshape(count, m, height // m, n, width // n).mean((2, 4))
    most = cover.argmax(0)
    seen = np.take_along_axis(cover, most[None], 0)[0] > 0.5
    return np.where(seen, np.array(shown)[most], place).astype(np.int16)


class Pool:
    """Pictures and voices to mix clips from. About 80 kB a picture of 160 pixels, 64 kB a voice."""

    def __init__(
        self,
        seed: int,
        pictures: int,
        voices: int,
        size: tuple[int, int],
        window: int = RATE,
        cast: Cast = DRAWN,
        cells: tuple[int, int] | None = None,
        speeds: float = 0.0,
    ) -> None:
        self.seed = seed
        self.speeds = speeds
        self.window = window
        self.cast = cast
        self.voices = voices
        # A cast is made of closures, which travel to other processes by fork alone.
        cells = cells or (size[0] // 8, size[1] // 8)
        _job.update(seed=seed, size=size, cells=cells, cast=cast, voices=voices)
        stills = list(in_parallel(_render, range(pictures)))
        clips = list(in_parallel(_clip, range((len(cast.families) + 2) * voices)))
        rng = np.random.default_rng((seed, 11))
        self.noises = np.stack([noise((seed, i), 0, CLIP, rng.random()) for i in range(64)])
        self.pictures = np.stack([still[0] for still in stills])
        self.boxes = np.stack([still[1] for still in stills])
        self.families = np.stack([still[2] for still in stills])
        self.kinds = np.stack([still[3] for still in stills])
        """int16 `[N, m, n]`: which of `kind_names` each cell shows, their number for none."""
        self.clips = np.stack(clips).reshape(-1, voices, CLIP)
        """Voices as int16: a row for each family, the last two rows hold strangers."""

    def __len__(self) -> int:
        return len(self.pictures)

    def name(self, index: int) -> str:
        return f"s{self.seed}_{index:06d}"

    def clip(
        self, index: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
        """A picture with a sound that is mixed anew, and the boxes `[K, 4]` of what sounds."""
        things = np.flatnonzero(self.families[index] >= 0)
        samples, sounding, _ = self._mix(rng, self.families[index], things)
        found = np.full((2, 4), np.nan, np.float32)
        seen = [i for i in sounding if self.boxes[index, i].any()]
        found[: len(seen)] = self.boxes[index, seen]
        return self.pictures[index], samples, found

    def heard(
        self, index: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A sound for a picture, as in `clip`, and the share of each family in what is heard at its
        end, `[families + 1]`; the last is for all else."""
        things = np.flatnonzero(self.families[index] >= 0)
        samples, _, rows = self._mix(rng, self.families[index], things)
        shares = np.zeros(len(self.cast.families) + 1, np.float32)
        for row in rows or [len(shares) - 1]:
            shares[min(row, len(shares) - 1)] += 1
        return samples, shares / shares.sum()

    def _voice(self, rng: np.random.Generator, row: int) -> NDArray[np.float32]:
        clip = self.clips[row, rng.integers(self.voices)]
        gain = np.float32(rng.uniform(0.5, 1) / 32767)
        if not self.speeds:
            start = rng.integers(CLIP - self.window)
            return clip[start : start + self.window] * gain
        speed = np.exp(rng.normal(0, self.speeds)).clip(0.5, FASTEST)
        at = rng.uniform(0, CLIP - 1 - speed * self.window) + speed * np.arange(self.window)
        first = at.astype(np.int32)
        between = (at - first).astype(np.float32)
        return ((1 - between) * clip[first] + between * clip[first + 1]) * gain

    def _mix(
        self, rng: np.random.Generator, families: NDArray[np.int16], things: NDArray[np.intp]
    ) -> tuple[NDArray[np.float32], list[int], list[int]]:
        """A window of sound, which of the picture's `things` sound at its end, and whose voices
        these are, or that of what is out of view (rows of `clips`)."""
        n = self.window
        kind = rng.choice(5, p=[0.56, 0.2, 0.02, 0.05, 0.17])
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
            hiss = np.float32(1e-4 * (rng.random() < 0.5)) * self._noise(rng)
            return hiss, [], []
        level = 0.3 * 10 ** (rng.uniform(-30, -2) / 20)
        mix += np.float32(level) * self._noise(rng)
        return np.clip(mix * loud, -1, 1), sounding, rows

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


def _render(index: int) -> Still:
    return render_still(_job["seed"], _job["size"], _job["cells"], _job["cast"], index)


def _clip(index: int) -> NDArray[np.int16]:
    cast = _job["cast"]
    row = index // _job["voices"]
    rng = np.random.default_rng((_job["seed"], index, 5))
    voice = (cast.families[row].voice if row < len(cast.families) else cast.outside)(rng)
    wave = voice(np.arange(CLIP) / RATE)
    return np.rint(np.clip(wave, -1, 1) * 32767).astype(np.int16)
