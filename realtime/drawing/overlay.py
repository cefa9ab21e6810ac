"""The look: a glow on what sounds, and a small label that says how sure it is.

Everything is drawn on the planes that a picture has, and only where the map glows: a trip to RGB
and back costs ten times as much and changes every pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from avsl.engines import Localization, Thresholds
from avsl.engines.localization import Map
from avsl.realtime.drawing import label
from avsl.realtime.drawing.canvas import Canvas, Place, Plane, Tinted

_RIM = 0.15
"""Around what glows, the rim reaches down to this far under the threshold."""
_OPAQUE = 0.62
"""How much of the picture the strongest glow hides at full opacity."""
_UNSURE = 0.75
"""Opacity where something passes the threshold of the glow, but not that of `sounding`."""
_BAND = 65536
"""Places of the coarse grid that are drawn at a time: what is made for them stays in the cache."""

_LEAST_SIDE = 120
"""Smaller pictures have no room for a label."""


class Overlay:
    """Draws localizations on pictures. The attributes may be changed between two pictures."""

    def __init__(self, thresholds: Thresholds) -> None:
        self.threshold = thresholds.glow
        """Probability from which on a place glows; where none reaches it, nothing is tinted."""
        self.opacity = 1.0
        self.visible = True

    def draw(
        self, picture: av.VideoFrame, localization: Localization, tinted: Tinted | None = None
    ) -> None:
        """Draws in place on a `yuv420p`, `yuvj420p`, `yuv420p10le`, `rgb24` or `bgr24` picture,
        whose memory must be the caller's own.

        Args:
            tinted: the picture's planes with the glow all over them, where a GPU has made them: it
                is taken from there.
        """
        if not self.visible:
            return
        canvas = Canvas(picture)
        if self.opacity > 0 and localization.state != "silent":
            places = self._places(localization.map, canvas.coarse)
            if tinted:
                canvas.take(tinted, places)
            elif places:
                self._glow(canvas, localization, places)
        if min(picture.width, picture.height) >= _LEAST_SIDE:
            label.draw(canvas, localization)

    def table(self, canvas: Canvas, unsure: bool) -> Plane:
        """For `Canvas.tint`: the ramp's colours over probabilities from `begin` to 1."""
        return canvas.table(self.begin, _OPAQUE * self.opacity * (_UNSURE if unsure else 1))

    @property
    def begin(self) -> float:
        """Probability at which the rim around what glows begins."""
        return max(self.threshold - _RIM, 0.02)

    def _places(self, map_: Map, coarse: tuple[int, int]) -> list[Place]:
        """Where it glows, on the coarse grid: cells, and a foot of half a cell around them."""
        (tall, wide), (m, n) = coarse, map_.shape
        return [
            (_span(top, bottom, m, tall), _span(left, right, n, wide))
            for top, bottom, left, right in _parts(map_ > self.begin)
            if map_[top:bottom, left:right].max() >= self.threshold
        ]

    def _glow(self, canvas: Canvas, localization: Localization, places: list[Place]) -> None:
        map_, begin = localization.map, self.begin
        table = self.table(canvas, localization.state == "unsure")
        row, down = bilinear(map_.shape[0], canvas.coarse[0])
        column, across = bilinear(map_.shape[1], canvas.coarse[1])
        # In steps of the table from here on: interpolating keeps straight lines straight.
        nodes = _thirds(_thirds((map_ - begin) * (255 / (1 - begin))).T).T
        for part, cols in places:
            # Not as matrix products: BLAS would wake threads that spin, for 20 x 20 numbers.
            low, high = column[cols], column[cols] + 1
            lines = nodes[:, low] + (nodes[:, high] - nodes[:, low]) * across[cols]
            step = max(1, _BAND // max(1, len(low)))
            for start in range(part.start, part.stop, step):
                rows = slice(start, min(start + step, part.stop))
                above, below = lines[row[rows]], lines[row[rows] + 1]
                below -= above
                below *= down[rows, None]
                below += above
                index = np.clip(below, 0, 255, out=below).astype(np.uint8)
                canvas.tint(index, (start, cols.start), table)


def _span(first: int, last: int, cells: int, size: int) -> slice:
    """Cells `first` to `last` of `cells`, and half a cell around, on a line of `size` places."""
    start, stop = (2 * first - 1) * size // (2 * cells), (2 * last + 1) * size // (2 * cells)
    return slice(max(0, start), min(size, stop))


def _parts(mask: NDArray[np.bool_]) -> Iterator[tuple[int, int, int, int]]:
    """Rectangles (top, bottom, left, right) that hold all of `mask`, apart where empty rows or
    columns lie between: two things that glow leave the picture between them alone."""
    for top, bottom in _runs(np.any(mask, axis=1)):
        for left, right in _runs(np.any(mask[top:bottom], axis=0)):
            yield top, bottom, left, right


def _runs(line: Any) -> Iterator[tuple[int, int]]:
    """Start and end of each run of True, with two cells or more between them."""
    at = np.flatnonzero(line)
    if not len(at):
        return
    # Feet of neighbours overlap by half a cell; runs that near are one, or it would be drawn twice.
    breaks = np.flatnonzero(np.diff(at) > 2)
    starts, ends = [0, *(breaks + 1)], [*breaks, len(at) - 1]
    yield from ((int(at[a]), int(at[b]) + 1) for a, b in zip(starts, ends, strict=True))


def _thirds(lines: Map) -> Map:
    """Two rows put between each two, `[m, n]` to `[3 m - 2, n]`, on a cubic through the rows
    around: straight interpolation alone makes a diamond of a small round thing. Held between its
    neighbours, for no probability may be shown that isn't in the map."""
    padded = np.concatenate((lines[:1], lines, lines[-1:]))
    before, here, there, after = padded[:-3], lines[:-1], lines[1:], padded[3:]
    low, high = np.minimum(here, there), np.maximum(here, there)
    dense = np.empty((3 * len(lines) - 2, lines.shape[1]), np.float32)
    dense[::3] = lines
    # Catmull-Rom's weights at one third and two thirds.
    dense[1::3] = np.clip((21 * here + 9 * there - 2 * before - after) / 27, low, high)
    dense[2::3] = np.clip((21 * there + 9 * here - 2 * after - before) / 27, low, high)
    return dense


@lru_cache(maxsize=16)
def bilinear(cells: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """For each of `size` pixels the node (`_thirds`) before it, and how far it lies towards the
    next one. The first and the last node are the middles of the first and the last cell."""
    at = 3 * np.clip((np.arange(size) + 0.5) / size * cells - 0.5, 0, cells - 1)
    low = np.minimum(at.astype(np.intp), 3 * cells - 4)
    return low, (at - low).astype(np.float32)
