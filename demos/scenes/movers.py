"""Animated scenes: things that move with their own sound, among others that move just as much. The
things are drawn, or photographed ones of a cast.

The sound of one can be heard at a time; the others keep moving to a score of their own that can't
be. What such a thing is tells nothing: only that it moves when the sound changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avsl.demos.scenes.cast import Box, Cast, Family, Painter, Picture, Place, painter
from avsl.demos.scenes.looks import (
    BENCH_SHAPES,
    SHAPES,
    TEXTURES,
    background,
    individual_look,
)
from avsl.demos.scenes.scene import Turn, boxes
from avsl.demos.scenes.voices import (
    RATE,
    Samples,
    Voice,
    Wave,
    harmonic,
    noise,
    since_stroke,
    stranger_voice,
    strokes,
)

Act = Literal["jump", "swell", "talk"]
"""Leaps at each stroke; grows with loudness; opens a mouth at each syllable."""
ACTS: tuple[Act, ...] = ("jump", "swell", "talk")
ASPECT = 16 / 9
TURNS = ((1.0, 7.0), (8.0, 14.0))
"""When something sounds."""
SECONDS = 15.0

Envelope = Callable[[Wave], Wave]


@dataclass(frozen=True)
class Mover:
    """Something that moves to its score. Lengths are in widths of the picture."""

    act: Act
    x: float
    y: float
    size: float
    look: Painter
    mouth: Painter
    strokes: NDArray[np.float64]
    """When it is struck, if it jumps; in seconds."""
    envelope: Envelope
    """Loudness 0..1 of its score at each time, whether it can be heard or not."""
    voice: Voice
    rests: bool
    """Whether it keeps still while it can't be heard."""
    still: bool = False
    """Whether it keeps still while it is heard, too, as a phone that rings."""
    extent: float = 1.0
    """How far it moves, against what a drawn one does."""

    def paint(
        self,
        canvas: NDArray[Any],
        time: float,
        moves: bool,
        at: tuple[float, float],
        pixels: tuple[float, float],
    ) -> tuple[NDArray[Any], tuple[slice, slice]]:
        """Paints it as it is at `time`, the picture moved by `at`; see `looks.paint`."""
        level = float(self.envelope(np.array([time]))[0]) if moves else 0.0
        x, y, size = self.x + at[0], self.y + at[1], self.size
        if self.act == "jump" and moves:
            _, since = since_stroke(self.strokes, np.array([time]))
            leap = min(float(since[0]) / 0.24, 1.0)
            y -= 0.3 * self.extent * size * 4 * leap * (1 - leap)
        elif self.act == "swell":
            size *= 1 + 0.3 * self.extent * level
        cover, where = self.look(canvas, x, y, size, pixels)
        if self.act == "talk":
            mouth = 0.12 + 0.4 * level if self.extent == 1 else 0.1 + 0.15 * level
            self.mouth(canvas, x, y + 0.12 * size, size * mouth, pixels)
        return cover, where


@dataclass(frozen=True)
class MovingScene:
    """A whole scene, as a function of time. In `turns`, -1 is what sounds without being in view."""

    seed: tuple[int, int]
    movers: tuple[Mover, ...]
    turns: tuple[Turn, ...]
    outside: Voice
    shake: float
    """How far the camera shakes, in widths of the picture."""
    flicker: float
    """How much the light flickers and drifts, as a share of it."""
    noise_db: float
    background: Place = background
    loudness: float = 0.3

    def sounding(self, time: float) -> tuple[int, ...]:
        """Which movers sound at `time`; -1 stands for something out of view."""
        return tuple(
            i for turn in self.turns if turn.start <= time < turn.stop for i in turn.things
        )

    def render(self, time: float, height: int, width: int) -> tuple[Picture, list[Box]]:
        """The picture at `time` (RGB `[h, w, 3]`) and the box of each mover."""
        rng = np.random.default_rng((*self.seed, 3))
        phases = rng.uniform(0, 6.3, 6)
        beats = np.sin(2 * np.pi * time * np.array([1.7, 2.9, 4.3, 2.3, 3.7, 0.21]) + phases)
        at = self.shake * float(beats[0] + beats[1]), self.shake * float(beats[2] + beats[3])
        margin = 0.1
        pad = round(margin * height), round(margin * width)
        pixels = (float(width), height * ASPECT)
        wide = _place(self.background, self.seed, height + 2 * pad[0], width + 2 * pad[1])
        top, left = pad[0] - at[1] * pixels[1], pad[1] - at[0] * pixels[0]
        canvas = _shifted(wide, top, left, height, width)
        masks = np.zeros((len(self.movers), height, width), np.float32)
        heard = self.sounding(time)
        for i, mover in enumerate(self.movers):
            moves = not mover.still if i in heard else not mover.rests
            cover, where = mover.paint(canvas, time, moves, at, pixels)
            masks[(slice(None), *where)] *= 1 - cover
            masks[(i, *where)] = cover
        light = 1 + self.flicker * float(beats[5] + 0.5 * np.sin(2 * np.pi * 9.7 * time))
        grain = np.random.default_rng((*self.seed, 4, round(time * 1e4))).normal(
            0, 1.5, canvas.shape
        )
        picture = np.clip(canvas * (255 * light) + grain, 0, 255)
        return np.rint(picture).astype(np.uint8), boxes(masks)

    def sound(self, start: float, seconds: float, rate: int = RATE) -> Samples:
        """`seconds` of sound from `start` on, float32 in [-1, 1]."""
        first, count = round(start * rate), round(seconds * rate)
        t = (first + np.arange(count)) / rate
        mix = np.zeros(count)
        for turn in self.turns:
            heard = (t >= turn.start) & (t < turn.stop)
            for i in turn.things if heard.any() else ():
                mix[heard] += (self.outside if i < 0 else self.movers[i].voice)(t[heard])
        level = 10 ** (self.noise_db / 20) * 0.3
        mix += level * noise((*self.seed, 7), first, count, 0.5)
        return np.clip(mix * self.loudness, -1, 1).astype(np.float32)


@lru_cache(1)  # one scene is mostly rendered at one size, again and again
def _place(place: Place, seed: tuple[int, int], height: int, width: int) -> NDArray[np.float32]:
    return place(np.random.default_rng((*seed, 5)), height, width, ASPECT)


def make_moving_scene(
    seed: int,
    index: int,
    *,
    count: int = 2,
    shake: float = 0.0,
    flicker: float = 0.0,
    outside: bool = False,
    cast: Cast | None = None,
    still: bool = False,
) -> MovingScene:
    """Scene `index` of the endless series `seed`: `count` movers, of which the first sounds in the
    first of `TURNS` and the second (or again the first) in the second; or, `outside`, none, but
    something out of view with a score of its own.

    Args:
        cast: whose things are the movers, each of another family; by default drawn ones.
        still: the things of a cast keep still while they are heard.
    """
    rng = np.random.default_rng((seed, index, 77))
    movers = []
    families = rng.permutation(len(cast.families)).tolist() if cast else []
    for k in range(count):
        # In columns of their own, so that each has a place that is no other's.
        left, column = k / count, 1 / count
        size = float(min(rng.uniform(0.14, 0.3), 0.8 * column))
        x = left + float(rng.uniform(0.6 * size, column - 0.6 * size))
        y = float(rng.uniform(0.7 * size + 0.03, 0.5625 - 0.65 * size))
        if cast:
            family = cast.families[families[k]]
            movers.append(_of_family(rng, family, x, y, size, still))
        else:
            movers.append(_mover(rng, x, y, size))
    if cast:
        voice = cast.outside(rng)
    else:
        voice = _mover(rng, 0, 0, 1).voice if rng.random() < 0.5 else stranger_voice(rng)
    first, second = (-1, -1) if outside else (0, min(1, count - 1))
    order = rng.permutation(count)
    return MovingScene(
        (seed, index),
        tuple(movers[i] for i in order) if not outside else tuple(movers),
        tuple(Turn(*turn, (who,)) for turn, who in zip(TURNS, (first, second), strict=True)),
        voice,
        shake,
        flicker,
        noise_db=float(rng.uniform(-40, -18)),
        background=cast.background if cast else background,
    )


def _mover(rng: np.random.Generator, x: float, y: float, size: float) -> Mover:
    act = ACTS[rng.integers(len(ACTS))]
    times = np.cumsum(rng.uniform(0.28, 0.9, 300)) - 2
    if act == "jump":
        voice = strokes(rng, times)
        envelope = _decay(times)
    else:
        envelope = _syllables(rng) if act == "talk" else _swells(rng)
        tone = harmonic(rng, float(10 ** rng.uniform(2.1, 2.9)))
        voice = lambda t: tone(t) * (0.03 + 0.97 * envelope(t))  # noqa: E731
    shape = BENCH_SHAPES[rng.integers(len(BENCH_SHAPES))]
    look = individual_look(SHAPES[shape], TEXTURES[rng.integers(len(TEXTURES))], rng.random(), rng)
    mouth = individual_look(SHAPES["disc"], TEXTURES[-1], rng.random(), rng)
    rests = bool(rng.random() < 0.5)
    return Mover(act, x, y, size, painter(look), painter(mouth), times, envelope, voice, rests)


def _of_family(
    rng: np.random.Generator, family: Family, x: float, y: float, size: float, still: bool
) -> Mover:
    """A thing of a cast that moves a little with the loudness of its own voice; or, `still`, only
    while it can't be heard."""
    voice = family.voice(rng)
    t = np.arange(round(-2 * RATE), round((SECONDS + 2) * RATE)) / RATE
    step = RATE // 25
    power = np.square(voice(t)).reshape(-1, step).mean(1)
    levels = (power / (np.quantile(power, 0.95) + 1e-9)).clip(0, 1) ** 0.35
    times = t[step // 2 :: step]
    rises = np.flatnonzero((levels[1:] > 0.5) & (levels[:-1] <= 0.5)) + 1
    # One at least: what sounds evenly is struck once.
    strokes_ = times[rises] if len(rises) else times[:1]
    act = "talk" if family.name == "person" else ACTS[rng.integers(2)]
    look = family.look(rng)
    mouth = painter(individual_look(SHAPES["disc"], TEXTURES[-1], 0.02, rng))
    envelope = _through(times, levels)
    rests = bool(rng.random() < 0.5) and not still
    return Mover(act, x, y, size, look, mouth, strokes_, envelope, voice, rests, still, 0.4)


def _decay(times: NDArray[np.float64]) -> Envelope:
    return lambda t: np.exp(-8 * since_stroke(times, t)[1])


def _through(times: NDArray[Any], levels: NDArray[Any]) -> Envelope:
    """Smoothly from level to level."""

    def envelope(t: Wave) -> Wave:
        k = np.clip(np.searchsorted(times, t) - 1, 0, len(times) - 2)
        along = np.clip((t - times[k]) / (times[k + 1] - times[k]), 0, 1)
        return levels[k] + (levels[k + 1] - levels[k]) * along * along * (3 - 2 * along)

    return envelope


def _swells(rng: np.random.Generator) -> Envelope:
    times = np.cumsum(rng.uniform(0.25, 0.9, 200)) - 2
    levels = np.where(np.arange(200) % 2, rng.uniform(0.5, 1, 200), rng.uniform(0, 0.3, 200))
    return _through(times, levels)


def _syllables(rng: np.random.Generator) -> Envelope:
    gaps = rng.uniform(0.08, 0.16, 1000)
    levels = np.where(np.arange(1000) % 2, rng.uniform(0.4, 1, 1000), rng.uniform(0, 0.2, 1000))
    pauses = np.flatnonzero(rng.random(500) < 0.12) * 2  # between words, with a closed mouth
    gaps[pauses] += rng.uniform(0.2, 0.7, len(pauses))
    levels[pauses] = levels[np.maximum(pauses - 1, 0)] = 0
    return _through(np.cumsum(gaps) - 2, levels)


def _shifted(
    picture: NDArray[np.float32], top: float, left: float, height: int, width: int
) -> NDArray[np.float32]:
    """The part of `picture` that begins at `top`, `left`, bilinear between pixels."""
    y, x = int(np.floor(top)), int(np.floor(left))
    dy, dx = np.float32(top - y), np.float32(left - x)
    part = picture[y : y + height + 1, x : x + width + 1]
    rows = part[:-1] + (part[1:] - part[:-1]) * dy
    out: NDArray[np.float32] = rows[:, :-1] + (rows[:, 1:] - rows[:, :-1]) * dx
    return out
