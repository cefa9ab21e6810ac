"""Text without a font file: letters as strokes, drawn at any size.

A bare machine has no fonts and the file path no OpenCV. What is said on a picture is short.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]
Point = tuple[float, float]

# Each glyph is a few lines; each point is a digit pair, x 0..4 to the right (7 in the widest),
# y 0..6 down to the baseline (7 hangs below it). A line after ~ is a curve: it starts and ends at
# its end points and is drawn towards those between; one that ends where it starts is a loop.
_STROKES = {
    "A": "062046 1535",
    "B": "0600 ~002040432303 ~032343462606",
    "C": "~4130100105163645",
    "D": "0600 ~001040461606",
    "E": "40000646 0333",
    "F": "400006 0333",
    "G": "~4130100105163645 454323",
    "H": "0006 4046 0343",
    "I": "0006",
    "J": "~3033361605",
    "K": "0006 4003 0346",
    "L": "000646",
    "M": "0600234046",
    "N": "06004640",
    "O": "~103041453616050110",
    "P": "0600 ~002040432303",
    "Q": "~103041453616050110 2446",
    "R": "0600 ~002040432303 2346",
    "S": "~413010010213334445361605",
    "T": "0040 2026",
    "U": "~000306464340",
    "V": "002640",
    "W": "0016233640",
    "X": "0046 4006",
    "Y": "002340 2326",
    "Z": "00400646",
    "0": "~103041453616050110",
    "1": "012026",
    "2": "~011030414206 0646",
    "3": "~01103041423323 ~23334445361605 1323",
    "4": "36300444",
    "5": "400003 ~03334445361605",
    "6": "~413010010204 ~133344453616050413",
    "7": "004016",
    "8": "~103041423313020110 ~133344453616050413",
    "9": "~051636454442 ~331302011030414233",
    ".": "0606",
    ",": "1607",
    ":": "0202 0606",
    "%": "6016 ~0030330300 ~4373764643",
    "+": "0343 2125",
    "-": "0333",
    "/": "0640",
    "(": "~10010516",
    ")": "~00111506",
    "[": "10000616",
    "]": "00101606",
    "?": "~01103041422324 2626",
    "!": "0004 0606",
    "'": "0001",
    '"': "0001 2021",
    "=": "0242 0444",
    "<": "400346",
    ">": "004306",
    "_": "0646",
}
_SQUEEZE = 0.72
"""Letters are this much narrower than their grid is square."""
_BITS = 4
"""Straight bits that a curve is made of, for each point it is drawn towards."""


@lru_cache(maxsize=128)
def text(string: str, height: int) -> Mask:
    """`string` (lower case shows as capitals, what has no strokes as a gap) as how much of each
    pixel is covered, uint8 `[height, width]`; not to be written to."""
    gap = np.zeros((height, max(1, round(height * 0.1))), np.uint8)
    parts = [gap]
    for character in string.upper():
        parts += [_glyph(character, height), gap]
    mask = np.concatenate(parts, axis=1)
    mask.flags.writeable = False  # it is in the cache
    return mask


@lru_cache(maxsize=512)
def _glyph(character: str, height: int) -> Mask:
    unit = height / 8.6
    lines = [_points(line) for line in _STROKES.get(character, "").split()]
    if not lines:
        return np.zeros((height, round(2 * unit)), np.uint8)
    weight = max(0.62, 0.5 * unit)  # half the thickness of a stroke, in pixels
    widest = max(x for line in lines for x, _ in line)
    width = max(1, round(widest * unit * _SQUEEZE + 2 * weight + 0.5))
    y, x = np.mgrid[0:height, 0:width] + 0.5
    nearest = np.full((height, width), np.inf)
    for line in lines:
        points = [(px * unit * _SQUEEZE + weight, (py + 0.8) * unit) for px, py in line]
        for (x0, y0), (x1, y1) in pairwise(points):
            dx, dy = x1 - x0, y1 - y0
            length = dx * dx + dy * dy or 1.0
            along = np.clip(((x - x0) * dx + (y - y0) * dy) / length, 0, 1)
            nearest = np.minimum(nearest, np.hypot(x - x0 - along * dx, y - y0 - along * dy))
    return np.rint(np.clip(weight - nearest + 0.5, 0, 1) * 255).astype(np.uint8)


def _points(line: str) -> list[Point]:
    """The corners of a line, those of a curve being many."""
    digits = line.lstrip("~")
    points = [(float(digits[i]), float(digits[i + 1])) for i in range(0, len(digits), 2)]
    if line == digits:
        return points
    halves = [((a + c) / 2, (b + d) / 2) for (a, b), (c, d) in pairwise(points)]
    if points[0] == points[-1]:
        starts, towards, ends = halves, [*points[1:-1], points[0]], [*halves[1:], halves[0]]
    else:
        starts = [points[0], *halves[1:-1]]
        towards, ends = points[1:-1], [*halves[1:-1], points[-1]]
    bent = [starts[0]]
    for (x0, y0), (x1, y1), (x2, y2) in zip(starts, towards, ends, strict=True):
        for t in (k / _BITS for k in range(1, _BITS + 1)):
            a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
            bent.append((a * x0 + b * x1 + c * x2, a * y0 + b * y1 + c * y2))
    return bent
