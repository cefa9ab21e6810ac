"""A picture's planes, whatever its format, and how colours are blended into them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
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

# From where the glow begins (0) to certainty (1): dark violet over orange to pale yellow. Lightness
# rises all the way, so it reads without colour vision, and the dark rim sets the glow off from
# bright and from orange things.
_RAMP_AT = (0.0, 0.2, 0.4, 0.7, 1.0)
_RAMP = np.array(
    [(30, 0, 50), (110, 5, 90), (235, 80, 20), (255, 170, 20), (255, 245, 160)], np.float64
)
_RISE = 0.2
"""Probability over which the glow comes in."""


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
