"""What is said of a moment in words: the one place for all that shows it to people."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from avsl.engines import Localization, State
from avsl.engines.localization import Evidence, Peak
from avsl.engines.speakers.answer import speaking
from avsl.realtime.drawing import lettering
from avsl.realtime.drawing.canvas import Canvas, Coding, Rgb, Sticker, sticker

_COLOURS: dict[str, Rgb] = {
    "silent": (200, 200, 200),
    "unseen": (150, 205, 255),
    "unsure": (255, 190, 60),
    "sounding": (255, 240, 140),
}
_HEARD = 0.5
"""From this probability on, the label says what is heard though nothing in view makes it."""
_PLATE = 0.75
"""How dark the label's plate is: grey letters keep 4.5 : 1 to it on a white picture."""


def size_on(canvas: Canvas) -> int:
    """Height of letters in pixels: the same share of every picture, but never too small to read."""
    return max(11, min(canvas.width, canvas.height) // 28)


def area(canvas: Canvas) -> tuple[int, int, int, int]:
    """Where the label may lie: left, top, right, bottom."""
    size = size_on(canvas)
    return 0, canvas.height - 2 * size, 15 * size, canvas.height


def words(localization: Localization) -> str:
    """What the label says."""
    state = localization.state
    if state in ("unsure", "sounding"):
        return f"{state.upper()} {round(100 * localization.score)} %"
    if state == "unseen" and localization.heard and localization.heard[0][1] >= _HEARD:
        return f"UNSEEN: {localization.heard[0][0].upper()}"
    return state.upper()


def names(localization: Localization) -> tuple[str, ...]:
    """What each of the peaks is called: what it is, or who, where lips tell whose voice it is."""
    if "lips" not in localization.evidence:
        return localization.kinds

    def called(peak: Peak, by: Evidence, kind: str) -> str:
        if by != "lips":
            return kind
        # Whoever speaks there: a head smaller than a cell needn't hold the middle of it.
        who = min(speaking(localization), key=lambda one: one.away(peak), default=None)
        return person(who.person) if who else kind

    return tuple(map(called, localization.peaks, localization.evidence, localization.kinds))


def person(number: int) -> str:
    """What somebody who is followed is called."""
    return f"person {number}"


def line(localization: Localization) -> str:
    """The same for the figures in the window: the score in any state."""
    return f"{localization.state} {localization.score:.2f}"


def draw(canvas: Canvas, localization: Localization) -> None:
    """The words at the lower left, behind a symbol and a bar as high as the sound is loud."""
    size = size_on(canvas)
    edge = size // 8
    level = round(min(max((localization.level_db + 60) / 60, 0), 1) * size)
    x, y = size // 2, canvas.height - size // 2 - size - 2 * edge
    plate = _plate(canvas.coding, localization.state, words(localization), size)
    canvas.stick(plate, x, y)
    canvas.stick(_meter(canvas.coding, localization.state, level, size), x, y)


@lru_cache(maxsize=32)
def _plate(coding: Coding, state: State, said: str, size: int) -> Sticker:
    """The label without its meter, for which there is room at the left."""
    edge = size // 8
    gap = np.zeros((size, edge), np.uint8)
    room = np.zeros((size, _room(size)), np.uint8)
    parts = (room, _symbol(state, size), gap, lettering.text(said, size), gap, gap)
    letters = np.pad(np.concatenate(parts, axis=1), ((edge, edge), (0, 0)))
    under = np.full_like(letters, round(255 * _PLATE))
    under[:, : _room(size)] = 0
    return sticker(coding, letters, under, _COLOURS[state])


@lru_cache(maxsize=128)
def _meter(coding: Coding, state: State, level: int, size: int) -> Sticker:
    """A bar that is bright from below up to `level` of `size` pixels."""
    edge = size // 8
    letters = np.zeros((size + 2 * edge, _room(size)), np.uint8)
    bar = letters[edge : edge + size, 2 * edge : 2 * edge + max(3, size // 4)]
    bar[:] = 70
    bar[size - level :] = 255
    return sticker(coding, letters, np.full_like(letters, round(255 * _PLATE)), _COLOURS[state])


def _room(size: int) -> int:
    """An even number: stickers lie side by side on whole chroma pixels."""
    wanted = 3 * (size // 8) + max(3, size // 4)
    return wanted + wanted % 2


@lru_cache(maxsize=16)
def _symbol(state: str, size: int) -> lettering.Mask:
    """A full disc, a half-full one, a ring and a dash: the states, for who can't tell colours."""
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size - 0.5
    radius = np.hypot(x, y)
    inside = {
        "sounding": 0.32 - radius,
        "unsure": np.maximum(0.05 - np.abs(radius - 0.29), np.minimum(0.32 - radius, -x)),
        "unseen": 0.05 - np.abs(radius - 0.29),
        "silent": np.minimum(0.07 - np.abs(y), 0.3 - np.abs(x)),
    }[state]
    return np.rint(np.clip(inside * size + 0.5, 0, 1) * 255).astype(np.uint8)
