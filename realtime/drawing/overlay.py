"""The look: a glow on what sounds, and a small label that says how sure it is.

Everything is drawn on the planes that a picture has, and only where the map glows: a trip to RGB
and back costs ten times as much and changes every pixel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from avsl.engines import Localization, Thresholds
from avsl.engines.localization import Map
from avsl.realtime.drawing import lettering

Plane = NDArray[Any]
Rgb = tuple[int, int, int]
Tinted = tuple[Plane, Plane, Plane]
"""The planes Y, U and V of a picture, without padding."""
Place = tuple[slice, slice]
"""Rows and columns of the coarse grid."""

# From where the glow begins (0) to certainty (1): dark violet over orange to pale yellow. Lightness
# rises all the way, so it reads without colour vision, and the dark rim sets the glow off from
# bright and from orange things.
_RAMP_AT = (0.0, 0.2, 0.4, 0.7, 1.0)
_RAMP = np.array(
    [(30, 0, 50), (110, 5, 90), (235, 80, 20), (255, 170, 20), (255, 245, 160)], np.float64
)
_RIM = 0.15
"""Around what glows, the rim reaches down to this far under the threshold."""
_RISE = 0.2
"""Probability over which the glow comes in."""
_OPAQUE = 0.62
"""How much of the picture the strongest glow hides at full opacity."""
_UNSURE = 0.75
"""Opacity where something passes the threshold of the glow, but not that of `sounding`."""
_BAND = 65536
"""Places of the coarse grid that are drawn at a time: what is made for them stays in the cache."""

_LABELS: dict[str, tuple[str, Rgb]] = {
    "silent": ("SILENT", (200, 200, 200)),
    "unseen": ("UNSEEN", (150, 205, 255)),
    "unsure": ("UNSURE", (255, 190, 60)),
    "sounding": ("SOUNDING", (255, 240, 140)),
}
_PLATE = 0.75
"""How dark the label's plate is: grey letters keep 4.5 : 1 to it on a white picture."""
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
            _label(canvas, localization)

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


def _label(canvas: Canvas, localization: Localization) -> None:
    """State and score at the lower left, behind a symbol and a bar as high as the sound is loud."""
    state = localization.state
    word, colour = _LABELS[state]
    if state in ("unsure", "sounding"):
        word += f" {round(100 * localization.score)} %"
    size = min(max(11, min(canvas.width, canvas.height) // 28), 72)
    margin, edge, bar = size // 2, size // 8, max(3, size // 4)
    meter = np.full((size, bar), 70, np.uint8)
    level = min(max((localization.level_db + 60) / 60, 0), 1)
    meter[size - round(level * size) :] = 255
    gap = np.zeros((size, edge), np.uint8)
    mask = np.concatenate(
        (gap, gap, meter, gap, _symbol(state, size), gap, lettering.text(word, size), gap), axis=1
    )
    x, y = margin, canvas.height - margin - size - 2 * edge
    canvas.shade(x, y, mask.shape[1] + edge, size + 2 * edge, _PLATE)
    canvas.stamp(mask, x, y + edge, colour)


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


@dataclass(frozen=True)
class _Coding:
    """How a picture writes colours as numbers."""

    matrix: int
    """0 for RGB; or of Y'CbCr as in BT.601, 709 or 2020."""
    full: bool
    bits: int
    transfer: int
    reversed_: bool

    @property
    def wide(self) -> Any:
        """What a code value times 128 fits in."""
        return np.uint16 if self.bits == 8 else np.uint32

    def codes(self, rgb: NDArray[np.float64]) -> NDArray[np.int64]:
        """`[n, 3]` RGB in 0..255 as `[n, 3]` code values, in the order of the channels."""
        if not self.matrix:
            return np.rint(rgb[:, :: -1 if self.reversed_ else 1]).astype(np.int64)
        kr, kb = {601: (0.299, 0.114), 709: (0.2126, 0.0722), 2020: (0.2627, 0.0593)}[self.matrix]
        # White of an ordinary picture lies well below the top of HDR signals (BT.2408): 75 % in
        # HLG (transfer 18), 58 % in PQ (16). At full signal the glow would blind.
        r, g, b = (rgb / 255 * {18: 0.75, 16: 0.58}.get(self.transfer, 1.0)).T
        y = kr * r + (1 - kr - kb) * g + kb * b
        u, v = (b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)
        top, unit = 2**self.bits - 1, 2 ** (self.bits - 8)
        if self.full:
            codes = (y * top, u * top + 128 * unit, v * top + 128 * unit)
        else:
            codes = ((16 + 219 * y) * unit, (128 + 224 * u) * unit, (128 + 224 * v) * unit)
        return np.clip(np.rint(np.stack(codes, axis=1)), 0, top).astype(np.int64)


class Canvas:
    """A picture's planes as arrays that write through, whatever its format."""

    def __init__(self, picture: av.VideoFrame) -> None:
        self.width, self.height = picture.width, picture.height
        self.coarse = (self.height + 1) // 2, (self.width + 1) // 2
        """Height and width of the half-size grid on which glows are made."""
        name = picture.format.name
        yuv, deep = name.startswith("yuv"), name.endswith("10le")
        dtype = np.uint16 if deep else np.uint8
        planes = [_view(plane, dtype, 1 if yuv else 3) for plane in picture.planes]
        self.channels = planes if yuv else [planes[0][..., c] for c in range(3)]
        """`[height, width]` each, or Y, and U and V of half of that."""
        self._halved = (False, yuv, yuv)
        matrix = {1: 709, 5: 601, 6: 601, 9: 2020, 10: 2020}.get(int(picture.colorspace))
        self._coding = _Coding(
            (matrix or (709 if picture.height >= 720 else 601)) if yuv else 0,
            name.startswith("yuvj") or picture.color_range == 2,
            10 if deep else 8,
            int(picture.color_trc),
            name == "bgr24",
        )

    def table(self, begin: float, opaque: float) -> Plane:
        """For `tint`: the ramp's colours over probabilities from `begin` to 1."""
        return _table(self._coding, begin, opaque)

    def tint(self, index: NDArray[np.uint8], corner: tuple[int, int], table: Plane) -> None:
        """Blends the table's entries in, `index` `[h, w]` lying at `corner` (row, column) of the
        coarse grid."""
        (top, left), (h, w) = corner, index.shape
        taken = table.take(index, axis=0)
        keep = taken[..., 0]
        keep_twice = _twice(keep)
        for number, (pixels, halved) in enumerate(zip(self.channels, self._halved, strict=True)):
            add = taken[..., number + 1]
            if halved:
                _mix(pixels[top : top + h, left : left + w], keep, add)
                continue
            add_twice = _twice(add)
            for line in (2 * top, 2 * top + 1):
                part = pixels[line : line + 2 * h - 1 : 2, 2 * left : 2 * (left + w)]
                _mix(part, keep_twice, add_twice)

    def take(self, planes: Tinted, places: Iterable[Place]) -> None:
        """Puts those of `planes` in the place of the picture's own at `places`."""
        for rows, cols in places:
            twice = (slice(2 * rows.start, 2 * rows.stop), slice(2 * cols.start, 2 * cols.stop))
            for pixels, halved, plane in zip(self.channels, self._halved, planes, strict=True):
                where = (rows, cols) if halved else twice
                pixels[where] = plane[where]

    def stamp(self, mask: lettering.Mask, x: int, y: int, rgb: Rgb) -> None:
        """Draws `mask` (0..255) in one colour, its top left at x, y (odd ones one less); what lies
        outside is cut."""
        x, y = x // 2 * 2, y // 2 * 2
        mask = mask[max(0, -y) : max(0, self.height - y), max(0, -x) : max(0, self.width - x)]
        if not mask.size:
            return
        x, y, (h, w) = max(0, x), max(0, y), mask.shape
        share = (mask.astype(self._coding.wide) * 128 + 127) // 255
        even = np.zeros((h + h % 2, w + w % 2), self._coding.wide)
        even[:h, :w] = share
        half = (even[0::2, 0::2] + even[0::2, 1::2] + even[1::2, 0::2] + even[1::2, 1::2]) // 4
        self._blend(x, y, w, h, share, half, rgb)

    def shade(self, x: int, y: int, width: int, height: int, amount: float) -> None:
        """Darkens a rectangle."""
        share = np.full((1, 1), round(128 * amount), self._coding.wide)
        self._blend(x // 2 * 2, y // 2 * 2, width, height, share, share, (0, 0, 0))

    def _blend(
        self, x: int, y: int, width: int, height: int, share: Plane, half: Plane, rgb: Rgb
    ) -> None:
        colours = zip(self.channels, self._halved, _codes(self._coding, rgb), strict=True)
        for pixels, halved, code in colours:
            if halved:
                part = pixels[y // 2 : (y + height + 1) // 2, x // 2 : (x + width + 1) // 2]
            else:
                part = pixels[y : y + height, x : x + width]
            step = half if halved else share
            _mix(part, 128 - step, step * code + 64)


def _view(plane: Any, dtype: Any, channels: int) -> Plane:
    """A plane's pixels without the padding of its lines, writable."""
    line = np.frombuffer(plane, np.uint8).reshape(-1, abs(plane.line_size))
    pixels = line[: plane.height, : plane.width * channels * np.dtype(dtype).itemsize].view(dtype)
    return pixels.reshape(plane.height, plane.width, channels) if channels > 1 else pixels


def _mix(pixels: Plane, keep: Plane, add: Plane) -> None:
    """pixels = (pixels * keep + add) / 128, in place; `add` is a colour times its share of 128, and
    64 to round. Planes of odd size lack the last row and column of what is drawn."""
    h, w = pixels.shape
    mixed = pixels.astype(keep.dtype)
    mixed *= keep[:h, :w]
    mixed += add[:h, :w]
    mixed >>= 7
    pixels[...] = mixed


def _twice(values: Plane) -> Plane:
    """Each column twice: `np.repeat`, several times as fast."""
    twice = np.empty((values.shape[0], 2 * values.shape[1]), values.dtype)
    twice[:, 0::2] = values
    twice[:, 1::2] = values
    return twice


@lru_cache(maxsize=64)
def _codes(coding: _Coding, rgb: Rgb) -> tuple[int, ...]:
    return tuple(int(code) for code in coding.codes(np.array([rgb], np.float64))[0])


@lru_cache(maxsize=16)
def _table(coding: _Coding, begin: float, opaque: float) -> Plane:
    """`[256, 4]`: what `_mix` wants for each step of probability from `begin` to 1, first `keep`,
    then `add` of each channel."""
    at = np.linspace(0, 1, 256)
    ramp = np.stack([np.interp(at, _RAMP_AT, _RAMP[:, c]) for c in range(3)], axis=1)
    rise = np.clip(at * (1 - begin) / _RISE, 0, 1)
    share = np.rint(rise * rise * (3 - 2 * rise) * opaque * 128).astype(np.int64)[:, None]
    return np.concatenate((128 - share, share * coding.codes(ramp) + 64), axis=1).astype(
        coding.wide
    )
