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
from avsl.realtime import lettering

Plane = NDArray[Any]

# From where the glow begins (0) to certainty (1): dark violet over orange to pale yellow. Lightness
# rises all the way, so it reads without colour vision, and the dark rim sets the glow off from
# bright and from orange things.
_RAMP_AT = (0.0, 0.25, 0.45, 0.7, 1.0)
_RAMP = np.array(
    [(30, 0, 50), (110, 5, 90), (235, 80, 20), (255, 170, 20), (255, 245, 160)], np.float64
)
_RIM = 0.15
"""Around what glows, the rim reaches down to this far under the threshold."""
_RISE = 0.25
"""Probability over which the glow comes in."""
_OPAQUE = 0.62
"""How much of the picture the strongest glow hides at full opacity."""
_UNSURE = 0.5
"""Opacity where something passes the threshold of the glow, but not that of `sounding`."""
_STEPS = 127
"""Steps of opacity: (colour - pixel) * step stays inside int16."""

_LABELS = {
    "silent": ("SILENT", (150, 150, 150)),
    "unseen": ("UNSEEN", (120, 180, 255)),
    "unsure": ("UNSURE", (255, 190, 60)),
    "sounding": ("SOUNDING", (255, 240, 140)),
}
_LEAST_SIDE = 96
"""Smaller pictures have no room for a label."""


class Overlay:
    """Draws localizations on pictures. The attributes may be changed between two pictures."""

    def __init__(self, thresholds: Thresholds) -> None:
        self.threshold = thresholds.glow
        """Probability from which on a place glows; where none reaches it, nothing is tinted."""
        self.opacity = 1.0
        self.visible = True

    def draw(self, picture: av.VideoFrame, localization: Localization) -> None:
        """Draws in place on a `yuv420p`, `yuvj420p`, `yuv420p10le`, `rgb24` or `bgr24` picture,
        whose memory must be the caller's own."""
        if not self.visible:
            return
        canvas = Canvas(picture)
        if self.opacity > 0 and localization.state != "silent":
            self._glow(canvas, localization)
        if min(picture.width, picture.height) >= _LEAST_SIDE:
            _label(canvas, localization)

    def _glow(self, canvas: Canvas, localization: Localization) -> None:
        map_ = localization.map
        begin = max(self.threshold - _RIM, 0.02)
        opaque = _OPAQUE * self.opacity * (_UNSURE if localization.state == "unsure" else 1)
        (tall, wide), (m, n) = canvas.coarse, map_.shape
        row, down = _bilinear(m, tall)
        column, across = _bilinear(n, wide)
        for top, bottom, left, right in _parts(map_ > begin):
            if map_[top:bottom, left:right].max() < self.threshold:
                continue
            # The bilinear foot of a cell reaches into its neighbours, by half of them.
            rows = slice(
                max(0, (2 * top - 1) * tall // (2 * m)), (2 * bottom + 1) * tall // (2 * m)
            )
            cols = slice(
                max(0, (2 * left - 1) * wide // (2 * n)), (2 * right + 1) * wide // (2 * n)
            )
            # Not as matrix products: BLAS would wake threads that spin, for 20 x 20 numbers.
            low, high = column[cols], column[cols] + 1
            lines = map_[:, low] + (map_[:, high] - map_[:, low]) * across[cols]
            above, below = lines[row[rows]], lines[row[rows] + 1]
            p = above + (below - above) * down[rows, None]
            share = np.clip((p - begin) * (1 / _RISE), 0, 1)
            strength = share * share * (3 - 2 * share) * (opaque * _STEPS)
            canvas.tint(
                (rows.start, cols.start),
                strength.astype(np.int16),
                np.clip((p - begin) * (255 / (1 - begin)), 0, 255).astype(np.uint8),
            )


def _label(canvas: Canvas, localization: Localization) -> None:
    """State and score at the lower left, behind a symbol and a bar as high as the sound is loud."""
    state = localization.state
    word, colour = _LABELS[state]
    if state in ("unsure", "sounding"):
        word += f" {round(100 * localization.score)} %"
    size = min(max(11, min(canvas.width, canvas.height) // 28), 72)
    margin, edge, bar = size // 2, size // 8, max(2, size // 5)
    meter = np.full((size, bar), 70, np.uint8)
    level = min(max((localization.level_db + 60) / 60, 0), 1)
    meter[size - round(level * size) :] = 255
    masks = (meter, _symbol(state, size), lettering.text(word, size))
    width = sum(mask.shape[1] for mask in masks) + (len(masks) - 1) * edge + 4 * edge
    x, y = margin, canvas.height - margin - size - 2 * edge
    canvas.shade(x, y, width, size + 2 * edge, 0.6)
    x += 2 * edge
    for mask in masks:
        canvas.stamp(mask, x, y + edge, colour)
        x += mask.shape[1] + edge


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


@lru_cache(maxsize=16)
def _bilinear(cells: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """For each of `size` pixels the cell before it, and how far it lies towards the next one; cell
    middles are aligned, maps have two cells a side or more."""
    at = np.clip((np.arange(size) + 0.5) / size * cells - 0.5, 0, cells - 1)
    low = np.minimum(at.astype(np.intp), cells - 2)
    return low, (at - low).astype(np.float32)


class Canvas:
    """A picture's planes as arrays that write through, whatever its format."""

    def __init__(self, picture: av.VideoFrame) -> None:
        self.width, self.height = picture.width, picture.height
        name = picture.format.name
        self._yuv = name.startswith("yuv")
        dtype = np.uint16 if name.endswith("10le") else np.uint8
        channels = 1 if self._yuv else 3
        self._planes = [_view(plane, dtype, channels) for plane in picture.planes]
        full = name.startswith("yuvj") or picture.color_range == 2
        hd = picture.height >= 720
        matrix = {1: 709, 5: 601, 6: 601, 9: 2020, 10: 2020}.get(int(picture.colorspace), 0)
        self._colour = (
            _Yuv(
                matrix or (709 if hd else 601),
                full,
                10 if dtype == np.uint16 else 8,
                int(picture.color_trc),
            )
            if self._yuv
            else _Rgb(name == "bgr24")
        )
        self.coarse = (self.height + 1) // 2, (self.width + 1) // 2
        """Height and width of the half-size grid on which glows are made."""

    def tint(self, corner: tuple[int, int], strength: Plane, index: NDArray[np.uint8]) -> None:
        """Blends the ramp's colours in, on the coarse grid from `corner` (row, column) on:
        `strength` int16 in 0.._STEPS, `index` into the ramp, both `[h, w]`."""
        table = self._colour.ramp()
        top, left = corner
        half = (slice(top, top + strength.shape[0]), slice(left, left + strength.shape[1]))
        if self._yuv:
            _mix_large(self._planes[0], half, table[0][index], strength)
            for plane, colours in zip(self._planes[1:], table[1:], strict=True):
                _mix(plane[half], colours[index], strength)
        else:
            for channel, colours in enumerate(table):
                _mix_large(self._planes[0][..., channel], half, colours[index], strength)

    def stamp(self, mask: lettering.Mask, x: int, y: int, rgb: tuple[int, int, int]) -> None:
        """Draws `mask` (0..255) in one colour, its top left at x, y; what lies outside is cut."""
        x, y = x // 2 * 2, y // 2 * 2
        mask = mask[: max(0, self.height - y), : max(0, self.width - x)]
        h, w = mask.shape
        if not mask.size:
            return
        strength = (mask.astype(np.int16) * _STEPS + 127) // 255
        colour = self._colour.of(rgb)
        if not self._yuv:
            for channel, value in enumerate(colour):
                _mix(self._planes[0][y : y + h, x : x + w, channel], value, strength)
            return
        _mix(self._planes[0][y : y + h, x : x + w], colour[0], strength)
        even = np.zeros((-(-h // 2) * 2, -(-w // 2) * 2), np.int16)
        even[:h, :w] = strength
        half = (even[0::2, 0::2] + even[0::2, 1::2] + even[1::2, 0::2] + even[1::2, 1::2]) // 4
        for plane, value in zip(self._planes[1:], colour[1:], strict=True):
            part = plane[y // 2 : y // 2 + half.shape[0], x // 2 : x // 2 + half.shape[1]]
            _mix(part, value, half[: part.shape[0], : part.shape[1]])

    def shade(self, x: int, y: int, width: int, height: int, amount: float) -> None:
        """Darkens a rectangle."""
        self.stamp(np.full((height, width), round(255 * amount), np.uint8), x, y, (0, 0, 0))


def _view(plane: Any, dtype: Any, channels: int) -> Plane:
    """A plane's pixels without the padding of its lines, writable."""
    line = np.frombuffer(plane, np.uint8).reshape(-1, abs(plane.line_size))
    pixels = line[: plane.height, : plane.width * channels * np.dtype(dtype).itemsize].view(dtype)
    return pixels.reshape(plane.height, plane.width, channels) if channels > 1 else pixels


def _mix(pixels: Plane, colour: Any, strength: Plane) -> None:
    """pixels += (colour - pixels) * strength / _STEPS, in place; the shapes may differ by the odd
    last row and column of a plane."""
    h, w = pixels.shape
    strength = strength[:h, :w]
    if not np.isscalar(colour):
        colour = colour[:h, :w]
    wide = np.int16 if pixels.dtype == np.uint8 else np.int32
    below = pixels.astype(wide)
    # 127 steps divided by 128: a shift, and a full step still hides all but one level.
    step = strength.astype(wide)
    pixels[...] = below + (((colour - below) * step + 64) >> 7)


def _mix_large(pixels: Plane, half: tuple[slice, slice], colour: Plane, strength: Plane) -> None:
    """`_mix` on a plane of twice the size, `half` being where: each of the four pixels of a square
    gets the same, which spares making everything four times as large."""
    rows, columns = (slice(2 * part.start, 2 * part.stop) for part in half)
    part = pixels[rows, columns]
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        _mix(part[y::2, x::2], colour, strength)


class _Rgb:
    def __init__(self, reversed_: bool) -> None:
        self._order = -1 if reversed_ else 1

    def of(self, rgb: tuple[int, int, int]) -> tuple[int, ...]:
        return rgb[:: self._order]

    def ramp(self) -> tuple[Plane, ...]:
        table = _ramp_rgb().round().astype(np.int16)
        return tuple(table[:, c] for c in range(3))[:: self._order]


class _Yuv:
    """RGB as the picture's own Y'CbCr: matrix 601, 709 or 2020, range, depth and transfer."""

    def __init__(self, matrix: int, full: bool, bits: int, transfer: int) -> None:
        self._key = (matrix, full, bits, transfer)

    def of(self, rgb: tuple[int, int, int]) -> tuple[int, ...]:
        return _yuv_of(rgb, *self._key)

    def ramp(self) -> tuple[Plane, ...]:
        return _ramp_yuv(*self._key)


@lru_cache(maxsize=64)
def _yuv_of(
    rgb: tuple[int, int, int], matrix: int, full: bool, bits: int, transfer: int
) -> tuple[int, ...]:
    codes = _to_yuv(np.array([rgb], np.float64), matrix, full, bits, transfer)[0]
    return tuple(int(code) for code in codes)


@lru_cache(maxsize=1)
def _ramp_rgb() -> NDArray[np.float64]:
    at = np.linspace(0, 1, 256)
    return np.stack([np.interp(at, _RAMP_AT, _RAMP[:, c]) for c in range(3)], axis=1)


@lru_cache(maxsize=16)
def _ramp_yuv(matrix: int, full: bool, bits: int, transfer: int) -> tuple[Plane, ...]:
    table = _to_yuv(_ramp_rgb(), matrix, full, bits, transfer)
    wide = np.int16 if bits == 8 else np.int32
    return tuple(np.ascontiguousarray(table[:, c]).astype(wide) for c in range(3))


def _to_yuv(
    rgb: NDArray[np.float64], matrix: int, full: bool, bits: int, transfer: int
) -> NDArray[np.int64]:
    """`[n, 3]` RGB in 0..255 to code values. Luma weights are those of BT.601, 709 and 2020."""
    kr, kb = {601: (0.299, 0.114), 709: (0.2126, 0.0722), 2020: (0.2627, 0.0593)}[matrix]
    # White of an ordinary picture lies well below the top of HDR signals (BT.2408): 75 % in HLG
    # (transfer 18), 58 % in PQ (16). At full signal the glow would blind.
    share = {18: 0.75, 16: 0.58}.get(transfer, 1.0)
    r, g, b = (rgb / 255 * share).T
    y = kr * r + (1 - kr - kb) * g + kb * b
    u, v = (b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)
    top = 2**bits - 1
    if full:
        codes = (y * top, u * top + (top + 1) / 2, v * top + (top + 1) / 2)
    else:
        unit = 2 ** (bits - 8)
        codes = ((16 + 219 * y) * unit, (128 + 224 * u) * unit, (128 + 224 * v) * unit)
    return np.clip(np.rint(np.stack(codes, axis=1)), 0, top).astype(np.int64)
