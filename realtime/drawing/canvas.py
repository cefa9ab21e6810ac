"""A picture's planes, whatever its format, and how colours are blended into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from avsl.realtime.drawing import lettering

Plane = NDArray[Any]
Rgb = tuple[int, int, int]
Tinted = tuple[Plane, Plane, Plane]
"""The planes Y, U and V of a picture, without padding."""
Place = tuple[slice, slice]
"""Rows and columns of the coarse grid."""

# From where the glow begins to certainty: a dark rim, that sets it off from bright and from orange
# things, a bright line around what glows, and a filling so light that what lies under it can still
# be read. Dark, bright, then lighter the surer: it reads without colour vision.
_DARK: Rgb = (25, 0, 45)
_LINE: Rgb = (255, 232, 130)
_WEAK: Rgb = (245, 110, 20)
_SURE: Rgb = (255, 200, 60)
_LINE_WIDE, _LINE_SOFT = 0.05, 0.15
"""Probability over which the line is drawn, and over which it fades into the filling."""
STEPS = 1024
"""Of probability that look different: with fewer, the line would have teeth."""


@dataclass(frozen=True)
class Coding:
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


@dataclass(frozen=True)
class Inks:
    """What `Canvas.tint` puts on, for each of `STEPS` of probability."""

    table: Plane
    """`[STEPS, 4]`: what is kept of 128, and what is added to each channel."""

    @cached_property
    def columns(self) -> list[tuple[Plane, Plane]]:
        """Each column for planes of full size, two neighbours side by side in one number, and for
        those of half the size."""
        wide, two = (np.uint16, np.uint32) if self.table.itemsize == 2 else (np.uint32, np.uint64)
        columns = [np.ascontiguousarray(column, wide) for column in self.table.T]
        return [(np.repeat(column, 2).view(two), column) for column in columns]


@dataclass(frozen=True)
class Sticker:
    """Letters and what lies under them, ready for pictures of one coding."""

    keep: tuple[Plane, Plane]
    """What is kept of 128, at full and at half size."""
    add: tuple[Plane, ...]
    """What is added, for each channel."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.keep[0].shape[0], self.keep[0].shape[1]


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
        self.coding = Coding(
            (matrix or (709 if picture.height >= 720 else 601)) if yuv else 0,
            name.startswith("yuvj") or picture.color_range == 2,
            10 if deep else 8,
            int(picture.color_trc),
            name == "bgr24",
        )

    def inks(self, begin: float, threshold: float, opacity: float, line: float) -> Inks:
        """For `tint`: the looks of probabilities from `begin` to 1; `line` is how strong the line
        at `threshold` is, 0..1."""
        return _inks(self.coding, begin, threshold, opacity, line)

    def tint(self, index: NDArray[np.intp], corner: tuple[int, int], inks: Inks) -> None:
        """Blends the inks' steps in, `index` `[h, w]` lying at `corner` (row, column) of
        the coarse grid."""
        (top, left), (h, w) = corner, index.shape
        keep, *adds = inks.columns
        taken: dict[bool, Plane] = {}
        for pixels, halved, add in zip(self.channels, self._halved, adds, strict=True):
            if halved not in taken:
                taken[halved] = keep[halved].take(index).view(self.coding.wide)
            there = add[halved].take(index).view(self.coding.wide)
            if halved:
                _mix(pixels[top : top + h, left : left + w], taken[halved], there)
                continue
            for line in (2 * top, 2 * top + 1):
                part = pixels[line : line + 2 * h - 1 : 2, 2 * left : 2 * (left + w)]
                _mix(part, taken[halved], there)

    def take(self, planes: Tinted, place: Place) -> None:
        """Puts those of `planes` in the place of the picture's own at `place`."""
        rows, cols = place
        twice = (slice(2 * rows.start, 2 * rows.stop), slice(2 * cols.start, 2 * cols.stop))
        for pixels, halved, plane in zip(self.channels, self._halved, planes, strict=True):
            where = place if halved else twice
            pixels[where] = plane[where]

    def stamp(self, mask: lettering.Mask, x: int, y: int, rgb: Rgb) -> None:
        """Draws `mask` (0..255) in one colour, its top left at x, y (odd ones one less); what lies
        outside is cut."""
        self.stick(sticker(self.coding, mask, np.zeros_like(mask), rgb), x, y)

    def stick(self, what: Sticker, x: int, y: int) -> None:
        """Draws a sticker, its top left at x, y (odd ones one less); what lies outside is cut."""
        x, y = x // 2, y // 2
        for pixels, halved, add in zip(self.channels, self._halved, what.add, strict=True):
            keep, times = what.keep[halved], 1 if halved else 2
            rows = slice(max(0, -times * y), max(0, pixels.shape[0] - times * y))
            cols = slice(max(0, -times * x), max(0, pixels.shape[1] - times * x))
            keep, add = keep[rows, cols], add[rows, cols]
            top, left = max(0, times * y), max(0, times * x)
            part = pixels[top : top + keep.shape[0], left : left + keep.shape[1]]
            _mix(part, keep, add)


def sticker(coding: Coding, letters: lettering.Mask, under: lettering.Mask, rgb: Rgb) -> Sticker:
    """`letters` in one colour on black as dense as `under`; both `[h, w]`, 0..255."""
    tall, long = letters.shape
    shares = np.zeros((2, tall + tall % 2, long + long % 2))
    shares[:, :tall, :long] = np.stack((letters, under)) / 255
    halves = shares.reshape(2, (tall + 1) // 2, 2, (long + 1) // 2, 2).mean((2, 4))
    steps = [
        (np.rint(128 * over), np.rint(128 * (1 - over) * below))
        for over, below in (shares, halves if coding.matrix else shares)
    ]
    keep = tuple((128 - over - below).astype(coding.wide) for over, below in steps)
    inks = coding.codes(np.array([rgb, (0, 0, 0)], np.float64)).T
    add = []
    for channel, (ink, black) in enumerate(inks):
        over, below = steps[1 if channel and coding.matrix else 0]
        add.append((over * ink + below * black + 64).astype(coding.wide))
    return Sticker((keep[0], keep[1]), tuple(add))


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


@lru_cache(maxsize=64)
def _inks(coding: Coding, begin: float, threshold: float, opacity: float, line: float) -> Inks:
    lined = threshold + _LINE_WIDE
    drawn = tuple(round(a + (b - a) * line) for a, b in zip(_WEAK, _LINE, strict=True))
    looks: list[tuple[float, Sequence[int], float]] = [
        (begin, _DARK, 0.0),
        (begin + 0.2 * (threshold - begin), _DARK, 0.32),
        (threshold, drawn, 0.46 + 0.08 * line),
        (lined, drawn, 0.46 + 0.08 * line),
        (lined + _LINE_SOFT, _WEAK, 0.42 - 0.16 * line),
        (1.0, _SURE, 0.28),
    ]
    at = np.linspace(begin, 1, STEPS)
    where = [min(p, 1.0) for p, _, _ in looks]
    colours = np.array([rgb for _, rgb, _ in looks], np.float64)
    ramp = np.stack([np.interp(at, where, colours[:, c]) for c in range(3)], axis=1)
    hidden = np.interp(at, where, [share for _, _, share in looks])
    share = np.rint(hidden * opacity * 128).astype(np.int64)[:, None]
    table = np.concatenate((128 - share, share * coding.codes(ramp) + 64), axis=1)
    return Inks(table.astype(coding.wide))
