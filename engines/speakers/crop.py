"""A face held still: cut out of the picture at its own resolution, to a fraction of a pixel.

What tells whose voice it is are changes of a mouth by less than a pixel. So a face is not cut out
anew where it is found in each picture: the upper face, which speech hardly moves, is registered to
the picture before (Gauss-Newton on brightness; Lucas & Kanade 1981, Baker & Matthews 2004).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from avsl.engines.pictures import Luma

Crop = NDArray[np.float32]
"""`[112, 112]`, brightness 0 to 255."""

SIDE = 112
EYES = 40.0
"""Pixels of a crop between the eyes."""
MIDDLE = np.float32(56), np.float32(38)
"""Across and down: where the middle between the eyes lies in a crop."""
REACH = 84.0
"""How far what is cut out reaches around the middle of a crop, so that a face may move and turn."""
UPPER = slice(18, 62, 2), slice(18, 94, 2)
"""The upper face, each second pixel: what is registered."""
ROUNDS, ENOUGH, FARTHER = 5, 0.04, 1.4
"""Steps of Gauss-Newton at most, pixels of a crop under which a step ends them, and how much
farther each goes than it says, for plain ones fall short: on four films a face was 0.02 to 0.23
pixels off after them, and is 0.01 to 0.08, after fewer."""
FARTHEST, GREW, ROLLED = 14.0, 0.2, 0.25
"""Pixels of a crop, parts and radians that a face moves from a picture to the next: one that jumps
farther was lost."""


class Place(NamedTuple):
    """Where a face is in a picture."""

    x: float
    y: float
    """The middle between the eyes, in pixels; 0, 0 is the middle of the first one."""
    eyes: float
    """Pixels between the eyes of a face that looks into the camera."""
    roll: float
    """Radians, clockwise."""

    def moved(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points `[..., 2 or 3]` of a crop at this place as they lie in the picture, z as x."""
        k = self.eyes / EYES
        c, s = np.cos(self.roll) * k, np.sin(self.roll) * k
        across, down = points[..., 0] - MIDDLE[0], points[..., 1] - MIDDLE[1]
        out = points * np.float32(k)
        out[..., 0] = self.x + c * across - s * down
        out[..., 1] = self.y + s * across + c * down
        return out

    def stepped(self, by: NDArray[np.float64]) -> Place:
        """This place, moved by a step in a crop: across, down (pixels), growth and turn."""
        c, s = np.cos(self.roll), np.sin(self.roll)
        k = self.eyes / EYES
        x = self.x + k * (c * by[0] - s * by[1])
        y = self.y + k * (s * by[0] + c * by[1])
        return Place(x, y, self.eyes * (1 + by[2]), self.roll + by[3])


class Grid(NamedTuple):
    """Rows and columns of a crop, from the middle between the eyes."""

    down: NDArray[np.float32]
    across: NDArray[np.float32]

    @classmethod
    def of(cls, rows: slice, columns: slice) -> Grid:
        down, across = (np.arange(SIDE, dtype=np.float32)[part] for part in (rows, columns))
        return cls(down - MIDDLE[1], across - MIDDLE[0])


WHOLE, UPPER_GRID = Grid.of(slice(None), slice(None)), Grid.of(*UPPER)


class Cutter:
    """Cuts one picture's faces out: what lies around a place is reduced once, and sampled often."""

    def __init__(self, luma: Luma, around: Place) -> None:
        k = around.eyes / EYES
        self._by = max(1, round(0.8 * k))
        reach = REACH * k
        cx, cy = around.x, around.y + (SIDE / 2 - MIDDLE[1]) * k
        h, w = luma.shape
        x0, x1 = max(0, int(cx - reach)), min(w, int(cx + reach) + 1)
        y0, y1 = max(0, int(cy - reach)), min(h, int(cy + reach) + 1)
        self._left, self._top = x0, y0
        self._part = np.ascontiguousarray(reduced(luma[y0:y1, x0:x1], self._by))
        self._flat = self._part.ravel()

    @property
    def empty(self) -> bool:
        """Whether the place lies outside the picture."""
        return min(self._part.shape) < 8

    def __call__(self, place: Place, grid: Grid = WHOLE) -> Crop:
        """The crop, or what `grid` has of it, at a place near the one this was made for."""
        k = place.eyes / EYES / self._by
        c, s = np.float32(np.cos(place.roll) * k), np.float32(np.sin(place.roll) * k)
        off = (self._by - 1) / 2
        x = np.float32((place.x - self._left - off) / self._by)
        y = np.float32((place.y - self._top - off) / self._by)
        down, across = grid
        h, w = self._part.shape
        px = np.add.outer(x - s * down, c * across)
        py = np.add.outer(y + c * down, s * across)
        np.clip(px, 0, np.float32(w - 1.001), out=px)
        np.clip(py, 0, np.float32(h - 1.001), out=py)
        right, at = px.astype(np.intp), py.astype(np.intp)
        px -= right
        py -= at
        at *= w
        at += right
        # What lies at the four corners; `take` is quicker where it needn't look whether it may.
        flat = self._flat
        out: Crop = flat.take(at, mode="clip")
        at += 1
        over = flat.take(at, mode="clip")
        at += w
        under = flat.take(at, mode="clip")
        at -= 1
        lower = flat.take(at, mode="clip")
        over -= out
        over *= px
        out += over
        under -= lower
        under *= px
        lower += under
        lower -= out
        lower *= py
        out += lower
        return out


def reduced(luma: Luma, by: int) -> NDArray[np.float32]:
    """The mean of `by` x `by` pixels, 0 to 255."""
    scale = 1.0 if luma.dtype == np.uint8 else 0.25
    if by == 1:
        return luma * np.float32(scale)
    h, w = (side // by * by for side in luma.shape)
    # The sum of so many still fits.
    small = luma.dtype == np.uint8 and by <= 16
    kind: Any = np.uint16 if small else np.uint32
    rows = luma[:h:by].astype(kind)
    for k in range(1, by):
        rows += luma[k:h:by]
    total = rows[:, :w:by].astype(kind)
    for k in range(1, by):
        total += rows[:, k:w:by]
    return total * np.float32(scale / (by * by))


class Template:
    """The upper face of a crop, ready for others to be registered to it."""

    def __init__(self, crop: Crop) -> None:
        rows, columns = UPPER
        self._upper = crop[UPPER]
        left, right = (
            crop[rows, columns.start + by : columns.stop + by : columns.step] for by in (-1, 1)
        )
        over, under = (
            crop[rows.start + by : rows.stop + by : rows.step, columns] for by in (-1, 1)
        )
        gx, gy = ((right - left) / 2).ravel(), ((under - over) / 2).ravel()
        y, x = _UPPER_AT
        # By how much brightness changes where the face moves, grows and turns; and lights up.
        slopes = gx, gy, gx * x + gy * y, gy * x - gx * y, np.ones_like(gx)
        self._slopes = np.stack([*slopes, gx])  # the last row is each step's own

    def find(self, cutter: Cutter, place: Place) -> Place | None:
        """Where the face of this crop is in another picture, near `place`; None if it is lost."""
        start = place
        slopes, off = self._slopes[:5], self._slopes[5]
        for _ in range(ROUNDS):
            np.subtract(cutter(place, UPPER_GRID), self._upper, out=off.reshape(self._upper.shape))
            size = np.abs(off - _middle(off))
            size *= 1 / (2 * _middle(size) + 1)
            size *= size
            size += 1
            # einsum, since a matrix product would wake the threads of numpy's BLAS.
            sums = np.einsum("ip,jp->ij", slopes / size, self._slopes).astype(np.float64)
            square = sums[:, :5]
            square[_DIAGONAL] += 1e-4 * square[_DIAGONAL] + 1e-3
            step = -FARTHER * np.linalg.solve(square, sums[:, 5])
            place = place.stepped(step)
            across, down, growth, turn, _ = np.abs(step)
            if max(across, down, growth * EYES, turn * EYES) < ENOUGH:
                break
        k = start.eyes / EYES
        far = np.hypot(place.x - start.x, place.y - start.y) > FARTHEST * k
        grew = abs(place.eyes / start.eyes - 1) > GREW
        if far or grew or abs(place.roll - start.roll) > ROLLED or not np.isfinite(place.x):
            return None
        return place


_DIAGONAL = np.diag_indices(5)
_UPPER_AT = np.mgrid[UPPER].reshape(2, -1).astype(np.float32) - np.array([MIDDLE[::-1]]).T
"""Where the pixels of `UPPER` lie, down and across from the middle between the eyes."""


def _middle(x: NDArray[np.float32]) -> np.float32:
    """About the median."""
    few = x[::5]
    half = len(few) // 2
    return np.float32(np.partition(few, half)[half])
