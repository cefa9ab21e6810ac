"""Scenes: drawn things on a textured background, of which some sound, with the truth about where.

A scene is a function of time made from (seed, index): any picture and any second of sound of it can
be made by itself. A still with its sound is a scene at one moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avsl.demos.scenes.cast import (
    DRAWN,
    Box,
    Camera,
    Cast,
    Family,
    Host,
    Mask,
    Painter,
    Picture,
    Place,
)
from avsl.demos.scenes.voices import RATE, Samples, Voice, noise

Kind = Literal["one", "two", "silence", "noise", "outside"]
"""What sounds: one thing, two at once, nothing, only noise, or something that is not in view."""

KINDS: dict[Kind, float] = {
    "one": 0.66,
    "two": 0.12,
    "silence": 0.03,
    "noise": 0.05,
    "outside": 0.14,
}
"""How often each kind comes when none is asked for."""


@dataclass(frozen=True)
class Thing:
    """Something in a scene: what it is, where it starts and how it moves, how it looks and sounds.

    Lengths are in widths of the picture, speeds in widths per second.
    """

    family: str
    x: float
    y: float
    size: float
    sway: tuple[float, float, float, float]
    """Amplitude across and down, frequency in Hz, phase."""
    paint: Painter
    voice: Voice
    gain: float

    def place(self, time: float) -> tuple[float, float]:
        """Where its middle is at `time`."""
        across, down, rate, phase = self.sway
        turn = 2 * np.pi * rate * time
        return (
            self.x + across * float(np.sin(turn + phase) - np.sin(phase)),
            self.y + down * float(np.sin(1.3 * turn + phase) - np.sin(phase)),
        )


@dataclass(frozen=True)
class Turn:
    """A stretch of time in which some things sound."""

    start: float
    stop: float
    things: tuple[int, ...]


@dataclass(frozen=True)
class Scene:
    """A whole scene. `things` come in drawing order, the last lies on top; `strangers` are part of
    the background; `outside` sounds without being in view, in the turns that name thing -1."""

    seed: tuple[int, int]
    kind: Kind
    aspect: float
    """Width over height of the picture as a person sees it."""
    things: tuple[Thing, ...]
    strangers: tuple[Thing, ...]
    background: Place
    outside: Voice
    turns: tuple[Turn, ...]
    loudness: float
    """Gain of all that sounds; 0 is silence."""
    noise_db: float
    """Level of the background noise against the sound of one thing."""
    noise_colour: float
    camera: Camera | None = None

    def sounding(self, time: float) -> tuple[int, ...]:
        """Which things (indices into `things`) sound at `time`, those in view only."""
        found = {i for turn in self.turns if turn.start <= time < turn.stop for i in turn.things}
        return tuple(sorted(i for i in found if i >= 0))

    def render(self, time: float, height: int, width: int) -> tuple[Picture, Mask]:
        """The picture at `time` (RGB `[h, w, 3]`) and, for each thing, how much of each pixel it
        visibly covers (`[n, h, w]` in 0..1). A size of another aspect is a stretched picture."""
        picture, masks = self.render_all(time, height, width)
        return picture, masks[len(self.strangers) :]

    def render_all(self, time: float, height: int, width: int) -> tuple[Picture, Mask]:
        """As `render`, with the masks of the strangers before those of the things."""
        canvas, hidden = (array.copy() for array in self._background(height, width))
        masks = np.concatenate([hidden, np.zeros((len(self.things), height, width), np.float32)])
        _paint_all(self.things, time, canvas, self.aspect, masks, len(hidden))
        if self.camera:
            moment = 2**40 + round(time * 1e6)  # a seed must not be negative
            canvas = self.camera(np.random.default_rng((*self.seed, 9, moment)), canvas)
        return np.rint(canvas * 255).astype(np.uint8), masks

    def sound(self, start: float, seconds: float, rate: int = RATE) -> Samples:
        """`seconds` of sound from `start` on, float32 in [-1, 1]."""
        first, count = round(start * rate), round(seconds * rate)
        t = (first + np.arange(count)) / rate
        mix = np.zeros(count)
        for turn in self.turns:
            edge = np.clip(np.minimum(t - turn.start, turn.stop - t) * 100, 0, 1)
            if not edge.any():
                continue
            heard = edge > 0
            for i in turn.things:
                voice = self.outside if i < 0 else self.things[i].voice
                gain = 1.0 if i < 0 else self.things[i].gain
                mix[heard] += gain * edge[heard] * voice(t[heard])
        level = 10 ** (self.noise_db / 20) * 0.3
        mix += level * noise((*self.seed, 7), first, count, self.noise_colour)
        return np.clip(mix * self.loudness, -1, 1).astype(np.float32)

    def _background(self, height: int, width: int) -> tuple[NDArray[np.float32], Mask]:
        """The background with its strangers, and their masks."""
        # One scene is mostly rendered at one size, again and again.
        key = (self.seed, height, width)
        if _last_background.get("key") != key:
            rng = np.random.default_rng((*self.seed, 3))
            canvas = self.background(rng, height, width, self.aspect)
            masks = np.zeros((len(self.strangers), height, width), np.float32)
            _paint_all(self.strangers, 0.0, canvas, self.aspect, masks, 0)
            _last_background.update(key=key, made=(canvas, masks))
        made: tuple[NDArray[np.float32], Mask] = _last_background["made"]
        return made


_last_background: dict[str, Any] = {}


def _paint_all(
    things: Sequence[Thing],
    time: float,
    canvas: NDArray[np.float32],
    aspect: float,
    masks: Mask,
    first: int,
) -> None:
    """Paints things in order, and writes how much of each can be seen into `masks`, from row
    `first` on; those of the rows before are there already, and are covered."""
    height, width = canvas.shape[:2]
    for i, thing in enumerate(things, first):
        where_it_is = thing.place(time)
        cover, where = thing.paint(canvas, *where_it_is, thing.size, (width, height * aspect))
        masks[(slice(None), *where)] *= 1 - cover
        masks[(i, *where)] = cover


def with_sound_of(scene: Scene, thing: int) -> Scene:
    """The same scene, with another of its things sounding."""
    return replace(scene, turns=tuple(replace(turn, things=(thing,)) for turn in scene.turns))


def boxes(masks: Mask) -> list[Box]:
    """The exact box of each mask of `[n, h, w]`; all zero where nothing of
    a thing can be seen."""
    found = []
    for mask in masks > 0.5:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            h, w = mask.shape
            found.append((columns[0] / w, rows[0] / h, (columns[-1] + 1) / w, (rows[-1] + 1) / h))
        else:
            found.append((0.0, 0.0, 0.0, 0.0))
    return found


def make_scene(
    seed: int,
    index: int,
    *,
    kind: Kind | None = None,
    count: int | None = None,
    aspect: float | None = None,
    moving: bool = False,
    cast: Cast = DRAWN,
) -> Scene:
    """Scene `index` of the endless series `seed`. At time 0 and before, for a second, its sound is
    that of its kind, so that a still is `render(0, ...)` with `sound(-1, 1)`.

    Args:
        kind: what sounds; by default drawn by the frequencies in `KINDS`.
        count: number of things, 1 to 4 by default; all of different families.
        aspect: width over height; by default mostly wide, sometimes square or upright.
        moving: whether things sway.
        cast: the families to draw from.
    """
    rng = np.random.default_rng((seed, index))
    drawn_kind = rng.choice(list(KINDS), p=list(KINDS.values()))
    kind = kind or drawn_kind
    drawn_aspect = float(rng.choice([16 / 9, 16 / 9, 4 / 3, 1.0, 9 / 16]))
    aspect = aspect or cast.aspect or drawn_aspect
    drawn_count = int(rng.choice([1, 2, 3, 4], p=[0.15, 0.35, 0.3, 0.2]))
    count = min(count or drawn_count, len(cast.families))
    if kind == "two":
        count = max(count, 2)
    families = [cast.families[f] for f in rng.permutation(len(cast.families))]
    host = cast.host(rng, aspect) if cast.host else None
    if host:
        families = [host.family, *(f for f in families if f.name != host.family.name)]
    things = _arrange(rng, cast, families[:count], aspect, moving, host)
    hosted = list(things[:1]) if host else []
    strangers = tuple(
        _thing(rng, cast, cast.strangers[rng.integers(len(cast.strangers))], aspect, False, hosted)
        for _ in range(rng.choice([0, 1, 2, 3], p=[0.45, 0.3, 0.15, 0.1]))
        if cast.strangers
    )
    unseen = families[count:]
    absent = unseen[0].voice if unseen and rng.random() < 0.6 else cast.outside
    outside = absent(rng)
    who = {
        "one": (int(rng.integers(len(things))),),
        "two": tuple(int(i) for i in rng.permutation(len(things))[:2]),
        "outside": (-1,),
    }.get(kind, ())
    return Scene(
        (seed, index),
        kind,
        aspect,
        things,
        strangers,
        host.place if host else cast.background,
        outside,
        (Turn(-3600.0, 3600.0, who),) if who else (),
        loudness=0.0 if kind == "silence" else float(10 ** rng.uniform(-1.4, -0.2)),
        noise_db=float(rng.uniform(-24, -3)),
        noise_colour=float(rng.random()),
        camera=cast.camera(rng) if cast.camera else None,
    )


def _thing(
    rng: np.random.Generator,
    cast: Cast,
    family: Family,
    aspect: float,
    moving: bool,
    others: list[Thing],
) -> Thing:
    """An individual at a place where it covers little of the others, as far as one can be found."""
    size = float(np.exp(rng.uniform(*np.log(cast.sizes))))
    size = min(size, 0.9 / aspect)
    best, room = (0.5, 0.5 / aspect), -np.inf
    for _ in range(20):
        x = rng.uniform(0.42 * size, 1 - 0.42 * size)
        y = rng.uniform(0.42 * size, max(1 / aspect - 0.42 * size, 0.43 * size))
        gap = min(
            (float(np.hypot(x - o.x, y - o.y)) - 0.45 * (size + o.size) for o in others),
            default=1.0,
        )
        if gap > room:
            best, room = (x, y), gap
        if gap > 0:
            break
    sway = (0.0, 0.0, 0.0, 0.0)
    if moving:
        amplitude = rng.uniform(0.01, 0.05, 2)
        sway = (*amplitude.tolist(), float(rng.uniform(0.1, 0.4)), float(rng.uniform(0, 6.3)))
    return Thing(
        family.name,
        *best,
        size,
        sway,
        family.look(rng),
        family.voice(rng),
        gain=float(rng.uniform(0.5, 1)),
    )


def _arrange(
    rng: np.random.Generator,
    cast: Cast,
    families: Sequence[Family],
    aspect: float,
    moving: bool,
    host: Host | None,
) -> tuple[Thing, ...]:
    things: list[Thing] = []
    if host:
        things.append(_hosted(rng, host, aspect))
    for family in families[len(things) :]:
        things.append(_thing(rng, cast, family, aspect, moving, things))
    # Small things lie on top, or they would be hidden more often than not; what is part of the
    # photograph lies under all.
    first = things[: 1 if host else 0]
    return (*first, *sorted(things[len(first) :], key=lambda thing: -thing.size))


def _hosted(rng: np.random.Generator, host: Host, aspect: float) -> Thing:
    x0, y0, x1, y1 = host.box
    return Thing(
        host.family.name,
        (x0 + x1) / 2,
        (y0 + y1) / 2 / aspect,
        max(x1 - x0, (y1 - y0) / aspect),
        (0.0, 0.0, 0.0, 0.0),
        host.paint,
        host.family.voice(rng),
        gain=float(rng.uniform(0.5, 1)),
    )
