"""Text without a font file: letters as strokes, drawn at any size.

A bare machine has no fonts and the file path no OpenCV. What is said on a picture is short.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]

# Each glyph is a few polylines; each point is a digit pair, x 0..4 to the right, y 0..6 down to the
# baseline (7 hangs below it).
_STROKES = {
    "A": "062046 1535",
    "B": "0006 0030414233 0333 3344453606",
    "C": "4130100105163645",
    "D": "00062644422000",
    "E": "40000646 0333",
    "F": "400006 0333",
    "G": "413010010516364543 4323",
    "H": "0006 4046 0343",
    "I": "0006",
    "J": "4045361605",
    "K": "0006 4003 0346",
    "L": "000646",
    "M": "0600234046",
    "N": "06004640",
    "O": "103041453616050110",
    "P": "06003041423303",
    "Q": "103041453616050110 2446",
    "R": "06003041423303 2346",
    "S": "4130100102133344453616 1605",
    "T": "0040 2026",
    "U": "000516364540",
    "V": "002640",
    "W": "0016233640",
    "X": "0046 4006",
    "Y": "002340 2326",
    "Z": "00400646",
    "0": "103041453616050110",
    "1": "012026",
    "2": "01103041420646",
    "3": "0110304142331333 3344453616 1605",
    "4": "36300444",
    "5": "4000033344453616 1605",
    "6": "4130100105163645443303",
    "7": "004016",
    "8": "103041423313020110 13334445361605 050413",
    "9": "0516364541301001021343",
    ".": "0606",
    ",": "1607",
    ":": "0202 0606",
    "%": "5016 0010110100 5565665655",
    "+": "0343 2125",
    "-": "0333",
    "/": "0640",
    "(": "10020416",
    ")": "00121406",
    "[": "10000616",
    "]": "00101606",
    "?": "011030414223 2324 2626",
    "!": "0004 0606",
    "'": "0001",
    "=": "0242 0444",
    "<": "400346",
    ">": "004306",
    "_": "0646",
}
_SQUEEZE = 0.72
"""Letters are this much narrower than their grid is square."""


@lru_cache(maxsize=128)
def text(string: str, height: int) -> Mask:
    """`string` (lower case shows as capitals, what has no strokes as a gap) as how much of each
    pixel is covered, uint8 `[height, width]`; not to be written to."""
    gap = np.zeros((height, max(1, round(height * 0.1))), np.uint8)
    parts = [gap]
    for character in string.upper():
        parts += [_glyph(character, height), gap]
    return np.concatenate(parts, axis=1)


@lru_cache(maxsize=512)
def _glyph(character: str, height: int) -> Mask:
    strokes = _STROKES.get(character)
    unit = height / 8.6
    if strokes is None:
        return np.zeros((height, round(2 * unit)), np.uint8)
    weight = max(0.62, 0.5 * unit)  # half the thickness of a stroke, in pixels
    lines = [
        [(int(line[i]), int(line[i + 1])) for i in range(0, len(line), 2)]
        for line in strokes.split()
    ]
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
