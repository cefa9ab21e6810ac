"""Names beside what glows: inside the picture, apart from each other, readable on anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from avsl.realtime.drawing import label, lettering
from avsl.realtime.drawing.canvas import Canvas, Coding, Rgb, Sticker, sticker
from avsl.realtime.drawing.steady import Name

_COLOUR: Rgb = (255, 255, 255)
_HALO = 0.8
"""How dark the halo around the letters is: they keep 4.5 : 1 to it on a white picture."""

Rect = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""


def draw(canvas: Canvas, names: Sequence[Name]) -> None:
    """Each name over what it stands for, else under it or at its side, else as near as there is
    room; what has no room at all is left out."""
    size = label.size_on(canvas)
    taken = [label.area(canvas)]
    for name in names:
        letters = _letters(canvas.coding, name.text, size)
        place = _place(canvas, name, letters.size, size // 4, taken)
        if place:
            taken.append(place)
            canvas.stick(letters, place[0], place[1])


def _place(
    canvas: Canvas, name: Name, size: tuple[int, int], gap: int, taken: Sequence[Rect]
) -> Rect | None:
    (height, width), (right, bottom) = size, (canvas.width - size[1], canvas.height - size[0])
    if right < 0 or bottom < 0:
        return None
    for x, y in _wishes(canvas, name, size, gap):
        x, y = min(max(x, 0), right) // 2 * 2, min(max(y, 0), bottom) // 2 * 2
        rect = x, y, x + width, y + height
        if not any(_overlap(rect, other) for other in taken):
            return rect
    return None


def _wishes(
    canvas: Canvas, name: Name, size: tuple[int, int], gap: int
) -> Iterator[tuple[int, int]]:
    """Top left corners, the best first."""
    height, width = size
    left, top, right, bottom = (
        round(edge * side)
        for edge, side in zip(name.box, 2 * (canvas.width, canvas.height), strict=True)
    )
    middle, over = (left + right - width) // 2, top - height - gap
    if over >= 0:
        yield middle, over
    if bottom + gap + height <= canvas.height:
        yield middle, bottom + gap
    level = (top + bottom - height) // 2
    if right + gap + width <= canvas.width:
        yield right + gap, level
    if left - gap - width >= 0:
        yield left - gap - width, level
    for step in range(2 * canvas.height // height):  # over it, or across it, a line up or down
        away = (step + 1) // 2 * height
        yield middle, max(over, 0) + (away if step % 2 else -away)


def _overlap(one: Rect, other: Rect) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@lru_cache(maxsize=64)
def _letters(coding: Coding, name: str, size: int) -> Sticker:
    wide = max(1, size // 7)
    letters = np.pad(lettering.text(name, size), wide)
    tall, long = letters.shape
    padded = np.pad(letters, wide)
    halo = np.zeros_like(letters)
    for y in range(-wide, wide + 1):
        for x in range(-wide, wide + 1):
            if x * x + y * y <= wide * wide + 1:
                moved = padded[wide + y : wide + y + tall, wide + x : wide + x + long]
                np.maximum(halo, moved, out=halo)
    return sticker(coding, letters, np.rint(halo * _HALO).astype(np.uint8), _COLOUR)
