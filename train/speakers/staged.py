"""Clips of one person each, staged: as filmed, as a worse camera has them, side by side, in turns.

A shot is a picture and its time in seconds, from 0 on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from avsl.train.data.prepare import opencv
from avsl.train.speakers.camera import moved, turning
from avsl.train.speakers.films import frames

cv2 = opencv()
Rgb = NDArray[np.uint8]
Shot = tuple[float, av.VideoFrame]

HEIGHT, WIDTH = 360, 640
"""Of a picture in which faces are made small, or are side by side."""
GREY = 90
RATE = 25.0
"""Pictures a second of two side by side."""
SWAY, ROLL = 0.015, 0.014
"""How far a hand-held camera goes, of the picture's width, and turns, in radians."""
HELD = 0.0015
"""How much whoever listens sways, of the width of a seat."""
NOISE = 2.0
"""Levels, of a picture that is held."""


class Take(NamedTuple):
    """A clip, and where its face is."""

    path: Path
    face: tuple[float, float]
    """Its middle, across and down, in parts of the picture."""
    wide: float
    """Its width, in parts of the picture's."""
    seconds: float


def filmed(path: Path, seconds: float) -> Iterator[Shot]:
    """The first `seconds` of a film.

    Raises:
        UserError: it is damaged.
    """
    start = None
    for frame in frames(path):
        if frame.time is None:
            continue
        start = frame.time if start is None else start
        if frame.time - start >= seconds:
            return
        yield frame.time - start, frame


def every_second(shots: Iterable[Shot]) -> Iterator[Shot]:
    """Half of the pictures."""
    for number, shot in enumerate(shots):
        if number % 2 == 0:
            yield shot


def small(shots: Iterable[Shot], take: Take, pixels: float) -> Iterator[Shot]:
    """A face `pixels` wide, in the middle of a larger picture; none where it isn't as large."""
    for time, frame in shots:
        scale = pixels / (take.wide * frame.width)
        if scale > 1:
            return
        yield time, _frame(_placed(rgb_of(frame), take, scale, WIDTH, HEIGHT))


def hand_held(shots: Iterable[Shot]) -> Iterator[Shot]:
    """As a camera has them that somebody holds."""
    for time, frame in shots:
        yield time, _frame(_swayed(rgb_of(frame), time, SWAY, ROLL))


def side_by_side(left: Take, right: Take, seconds: float) -> Iterator[Shot]:
    """Two films at once, for so long."""
    seats = _Seat(left), _Seat(right)
    for time in _ticks(seconds):
        yield time, _frame(np.concatenate([seat.at(time) for seat in seats], 1))


def in_turns(left: Take, right: Take, turn: float, seconds: float) -> Iterator[Shot]:
    """Two who take turns: the right one begins at `turn`. Who listens is a picture that sways a
    little, with a camera's noise: nobody's film has them listen in the same place."""
    seats = _Seat(left), _Seat(right)
    rng = np.random.default_rng(7)
    for time in _ticks(seconds):
        first = seats[0].at(min(time, turn)), time > turn
        second = seats[1].at(max(0.0, time - turn)), time < turn
        halves = [_held(rng, half, time) if held else half for half, held in (first, second)]
        yield time, _frame(np.concatenate(halves, 1))


class _Seat:
    """A film's pictures by their times, cut to half of a picture around its face."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._shots = filmed(take.path, take.seconds)
        self._next = next(self._shots, None)
        self._last = np.full((HEIGHT, WIDTH // 2, 3), GREY, np.uint8)

    def at(self, time: float) -> Rgb:
        frame = None
        while self._next and self._next[0] <= time + 1e-3:
            frame = self._next[1]
            self._next = next(self._shots, None)
        if frame is not None:
            scale = HEIGHT / frame.height
            self._last = _placed(rgb_of(frame), self._take, scale, WIDTH // 2, HEIGHT)
        return self._last


def _placed(rgb: Rgb, take: Take, scale: float, wide: int, high: int) -> Rgb:
    """A picture, scaled, in one of another size, its face as near the middle as it reaches."""
    size, shown = np.array([wide, high]), scale * np.array([rgb.shape[1], rgb.shape[0]])
    reach = np.clip(np.array(take.face) * shown - size / 2, 0, np.maximum(shown - size, 0))
    start = np.where(shown > size, reach, (shown - size) / 2)
    how = scale * np.eye(2), -start, (wide, high), cv2.BORDER_CONSTANT, GREY
    planes = [moved(rgb[..., plane], *how) for plane in range(3)]
    return np.rint(np.stack(planes, -1)).astype(np.uint8)


def _held(rng: np.random.Generator, picture: Rgb, time: float) -> Rgb:
    swayed = _swayed(picture, time, HELD, 0.0)
    noisy = swayed + rng.normal(0, NOISE, picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _swayed(picture: Rgb, time: float, by: float, roll: float) -> Rgb:
    """A picture moved and turned about its middle, smoothly with time, never twice alike."""
    h, w = picture.shape[:2]
    hertz = 0.31 * np.array([[1.0, 2.7], [1.3, 3.4], [0.7, 1.9]])
    waves = np.sin(2 * np.pi * hertz * time).mean(1)
    turn = turning(1.0, roll * waves[2])
    middle = np.array([w / 2, h / 2])
    move = middle - turn @ middle + by * w * waves[:2]
    to = np.column_stack([turn, move])
    out = cv2.warpAffine(picture, to, (w, h), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.uint8)


def _ticks(seconds: float) -> Iterator[float]:
    return (tick / RATE for tick in range(math.ceil(seconds * RATE)))


def rgb_of(frame: av.VideoFrame) -> Rgb:
    """A picture's pixels `[h, w, 3]`."""
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def _frame(rgb: Rgb) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
