"""What camera and microphone see and hear in the tests: clips and the sounds that go with them."""

from __future__ import annotations

import numpy as np
from fake_engine import COLOURS, TONES
from numpy.typing import NDArray

RATE = 48_000
Clip = NDArray[np.uint8]
Sound = NDArray[np.float32]

TURNS = ((0,), (1,), (2,), (), (3,), (0, 2))
"""Which things sound, each turn for `TURN_S`."""
TURN_S = 1.5


def coloured_things(
    seconds: float = 9.0, fps: int = 30, size: tuple[int, int] = (320, 180)
) -> Clip:
    """Four discs that wander over grey; BGR `[n, h, w, 3]`."""
    width, height = size
    clip = np.full((round(seconds * fps), height, width, 3), 110, np.uint8)
    down, across = np.mgrid[:height, :width]
    for k, picture in enumerate(clip):
        turn = 2 * np.pi * k / len(clip)  # ends where it began, for the clip repeats
        for i, colour in enumerate(COLOURS):
            x = width * (0.2 + 0.2 * i + 0.06 * np.sin(turn * (i + 1)))
            y = height * (0.5 + 0.28 * np.cos(turn * (i % 2 + 1) + i * np.pi / 2))
            picture[np.hypot(across - x, down - y) < height / 8] = colour[::-1]
    return clip


def their_tones(seconds: float = 9.0) -> Sound:
    """What the discs sound like, in turns."""
    t = np.arange(round(seconds * RATE)) / RATE
    turn = (t / TURN_S).astype(int) % len(TURNS)
    sound = np.zeros(len(t))
    for i, tone in enumerate(TONES):
        on = np.isin(turn, [k for k, things in enumerate(TURNS) if i in things])
        sound += 0.25 * on * np.sin(2 * np.pi * tone * t)
    return (sound + 1e-4 * np.random.default_rng(0).standard_normal(len(t))).astype(np.float32)


def flashes(size: tuple[int, int] = (320, 180)) -> Clip:
    """A second at 30 pictures; the first three of them are bright."""
    clip = np.full((30, size[1], size[0], 3), 30, np.uint8)
    clip[:3] = 230
    return clip


def clicks() -> Sound:
    """A second; it begins with two milliseconds of a tone."""
    sound = np.zeros(RATE, np.float32)
    sound[:96] = 0.8 * np.sin(2 * np.pi * 2000 * np.arange(96) / RATE + 1)
    return sound
