"""The look: a glow on what sounds, its name, and a small label that says how sure it is.

Everything is drawn on the planes that a picture has, and only where the map glows: a trip to RGB
and back costs ten times as much and changes every pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import av
import numpy as np
from numpy.typing import NDArray

from avsl.engines import Localization, Thresholds
from avsl.engines.localization import Map
from avsl.realtime.drawing import label, names
from avsl.realtime.drawing.canvas import STEPS, Canvas, Inks, Place, Tinted
from avsl.realtime.drawing.steady import Cells, Steady

_RIM = 0.15
"""Around what glows, the rim reaches down to this far under the threshold."""
_UNSURE = 0.65
"""Opacity where something passes the threshold of the glow, but not that of `sounding`."""
LINES = 8
"""Steps in which the line around what glows gets stronger."""
LINE_FROM, LINE_OVER = 0.1, 0.15
"""Its peak must be so far over the threshold, and has the whole line so much farther up."""
_BAND = 65536
"""Places of the coarse grid that are drawn at a time: what is made for them stays in the cache."""

_LEAST_SIDE = 120
"""Smaller pictures have no room for a label."""


class Overlay:
    """Draws the localizations of one stream on its pictures, in order. The attributes may be
    changed between two pictures."""

    def __init__(self, thresholds: Thresholds) -> None:
        self.threshold = thresholds.glow
        """Probability from which on a place glows; where none reaches it, nothing is tinted."""
        self.opacity = 1.0
        self.visible = True
        self._steady = Steady(thresholds)

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
        shown = self._steady(localization, self.threshold, self.begin)
        now = shown.localization
        lettered = min(picture.width, picture.height) >= _LEAST_SIDE
        if self.opacity > 0 and shown.parts:
            places = _places(shown.parts, now.map.shape, canvas.coarse)
            looks = [self._look(now, part) for part in shown.parts]
            # What lingers isn't in what was tinted elsewhere, all of it in the look of the highest.
            whole = now.map is localization.map and now.state == localization.state
            there = self._look(localization) if tinted and whole else None
            for place, look in zip(places, looks, strict=True):
                if tinted and look == there:
                    canvas.take(tinted, place)
            rest = [one for one in zip(places, looks, strict=True) if one[1] != there]
            if rest:
                self._glow(canvas, now.map, rest)
            if lettered and shown.names:
                names.draw(canvas, shown.names)
        if lettered:
            label.draw(canvas, now)

    def inks(self, canvas: Canvas, look: int) -> Inks:
        """For `Canvas.tint`: probabilities from `begin` to 1, in one of `1 + LINES` looks: 0 where
        the state is unsure, else the stronger the line the higher the peak is."""
        opacity = self.opacity * (1 if look else _UNSURE)
        return canvas.inks(self.begin, self.threshold, opacity, max(0, look - 1) / (LINES - 1))

    def _look(self, localization: Localization, part: Cells | None = None) -> int:
        """How a part of the map is drawn, or all of it at once."""
        if localization.state == "unsure":
            return 0
        top, bottom, left, right = part or (0, None, 0, None)
        best = float(localization.map[top:bottom, left:right].max())
        line = (best - self.threshold - LINE_FROM) * (LINES / LINE_OVER)
        return 1 + int(min(max(line, 0), LINES - 1))

    @property
    def begin(self) -> float:
        """Probability at which the rim around what glows begins."""
        return max(self.threshold - _RIM, 0.02)

    def _glow(self, canvas: Canvas, map_: Map, places: list[tuple[Place, int]]) -> None:
        """Tints places, each in its look."""
        begin = self.begin
        row, down = bilinear(map_.shape[0], canvas.coarse[0])
        column, across = bilinear(map_.shape[1], canvas.coarse[1])
        # In steps of the table from here on: interpolating keeps straight lines straight.
        nodes = _thirds(_thirds((map_ - begin) * ((STEPS - 1) / (1 - begin))).T).T
        for (part, cols), look in places:
            inks = self.inks(canvas, look)
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
                index = np.minimum(np.maximum(below, 0, out=below), STEPS - 1, out=below)
                canvas.tint(index.astype(np.intp), (start, cols.start), inks)


def _places(parts: Sequence[Cells], cells: tuple[int, ...], coarse: tuple[int, int]) -> list[Place]:
    """Where it glows, on the coarse grid: cells, and a foot of half a cell around them."""
    (tall, wide), (m, n) = coarse, cells
    return [
        (_span(top, bottom, m, tall), _span(left, right, n, wide))
        for top, bottom, left, right in parts
    ]


def _span(first: int, last: int, cells: int, size: int) -> slice:
    """Cells `first` to `last` of `cells`, and half a cell around, on a line of `size` places."""
    start, stop = (2 * first - 1) * size // (2 * cells), (2 * last + 1) * size // (2 * cells)
    return slice(max(0, start), min(size, stop))


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
    first = (21 * here + 9 * there - 2 * before - after) / 27
    np.minimum(np.maximum(first, low), high, out=dense[1::3])  # much faster than `np.clip`
    second = (21 * there + 9 * here - 2 * after - before) / 27
    np.minimum(np.maximum(second, low), high, out=dense[2::3])
    return dense


@lru_cache(maxsize=16)
def bilinear(cells: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """For each of `size` pixels the node (`_thirds`) before it, and how far it lies towards the
    next one. The first and the last node are the middles of the first and the last cell."""
    at = 3 * np.clip((np.arange(size) + 0.5) / size * cells - 0.5, 0, cells - 1)
    low = np.minimum(at.astype(np.intp), 3 * cells - 4)
    return low, (at - low).astype(np.float32)
