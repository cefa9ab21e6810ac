"""Things and places out of photographs whose alpha says where the thing is (`avsl-train prepare`
makes them): cut out, as a tile with what is around it, or as the photograph that a scene is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from avsl.demos.scenes.cast import Camera, Family, Host, Mask, Painter, Place

Rgba = NDArray[np.uint8]
TILES = 0.35
"""How often a thing is a tile rather than cut out."""
HOSTS = 0.4
"""How often a scene is put into a photograph that has a thing in it."""
GREY = 0.2
"""How often a thing has no colour: all cars of Caltech-101 are grey, and must not be told by it."""


def extent(rgba: Rgba) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 in pixels around what the alpha shows; x1 and y1 lie beyond it."""
    shown = rgba[..., 3] > 127
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def photo_painter(rng: np.random.Generator, rgba: Rgba, whole: bool) -> Painter:
    """A thing of a photograph, each time a little different: flipped, turned, in other light.

    Args:
        whole: whether there is a photograph under the transparent parts, too.
    """
    x0, y0, x1, y1 = extent(rgba)
    tile = whole and rng.random() < TILES
    angle = 0.0 if tile else float(np.deg2rad(rng.normal(0, 8)).clip(-0.5, 0.5))
    if tile:
        margin = rng.uniform(0, 0.35, 4) * (x1 - x0, y1 - y0, x1 - x0, y1 - y0)
        x0, y0 = max(0, round(x0 - margin[0])), max(0, round(y0 - margin[1]))
        x1, y1 = round(x1 + margin[2]), round(y1 + margin[3])
    part = rgba[y0:y1, x0:x1]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    if whole:
        part = np.dstack([in_light(rng, part[..., :3]), part[..., 3]])
    part = np.ascontiguousarray(part)
    edge = rng.uniform(0.02, 0.12)
    h, w = part.shape[:2]
    w = w * float(np.exp(rng.normal(0, 0.12))) if whole else float(w)

    def paint(
        canvas: Mask, x: float, y: float, size: float, pixels: tuple[float, float]
    ) -> tuple[Mask, tuple[slice, slice]]:
        width = size if w >= h else size * w / h
        across = max(2, round(width * pixels[0]))
        down = max(2, round(width * h / w * pixels[1]))
        scaled = _turned(_scaled(part, down, across), angle)
        left, top = round(x * pixels[0] - across / 2), round(y * pixels[1] - down / 2)
        rows = slice(max(0, top), max(0, min(canvas.shape[0], top + down)))
        columns = slice(max(0, left), max(0, min(canvas.shape[1], left + across)))
        inside = (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        cover = scaled[..., 3][inside]
        opaque = np.maximum(_soft(down, across, edge)[inside], cover) if tile else cover
        below = canvas[rows, columns]
        below += (scaled[..., :3][inside] - below) * opaque[..., None]
        return cover, (rows, columns)

    return paint


def in_light(rng: np.random.Generator, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same colours in other light: darker or lighter, tinted, now and then grey."""
    x = rgb.astype(np.float32) / 255
    if rng.random() < GREY:
        x[:] = x.mean(2, keepdims=True)
    x **= np.float32(np.exp(rng.normal(0, 0.25)))
    x *= (np.exp(rng.normal(0, 0.15)) * np.exp(rng.normal(0, 0.06, 3))).astype(np.float32)
    return np.rint(x.clip(0, 1) * 255).astype(np.uint8)


def _scaled(rgba: Rgba, height: int, width: int) -> Mask:
    frame = av.VideoFrame.from_ndarray(rgba, format="rgba")
    small: Any = frame.reformat(
        width, height, "rgba", interpolation=Interpolation.AREA
    ).to_ndarray()
    scaled: Mask = small.astype(np.float32) / np.float32(255)
    return scaled


def _turned(rgba: Mask, angle: float) -> Mask:
    """Turned about its middle; what comes in from outside is transparent."""
    if not angle:
        return rgba
    h, w = rgba.shape[:2]
    down, across = np.mgrid[:h, :w].astype(np.float32)
    down, across = down - (h - 1) / 2, across - (w - 1) / 2
    rows = np.rint(down * np.cos(angle) - across * np.sin(angle) + (h - 1) / 2).astype(np.intp)
    columns = np.rint(across * np.cos(angle) + down * np.sin(angle) + (w - 1) / 2).astype(np.intp)
    turned = rgba[rows.clip(0, h - 1), columns.clip(0, w - 1)]
    turned[..., 3] *= (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    return turned


def _soft(height: int, width: int, edge: float) -> Mask:
    """1 in the middle, falling to 0 over `edge` of the width at each side."""
    down, across = (
        np.minimum(np.arange(n) + 0.5, n - np.arange(n) - 0.5) / (edge * n) for n in (height, width)
    )
    return np.minimum(down[:, None], across).clip(0, 1).astype(np.float32)


def crop_place(
    rng: np.random.Generator, picture: NDArray[np.uint8], aspect: float, least: float
) -> tuple[float, float, float, float]:
    """x0, y0, width, height in pixels of a part of a picture of the right aspect, so that nothing
    in it is squeezed; at least `least` of what there is room for."""
    h, w = picture.shape[:2]
    wide = rng.uniform(least, 1) * min(w, h * aspect)
    tall = wide / aspect
    return rng.uniform(0, w - wide), rng.uniform(0, h - tall), wide, tall


def _sampled(
    picture: NDArray[np.uint8],
    part: tuple[float, float, float, float],
    height: int,
    width: int,
    flip: bool,
) -> Mask:
    x0, y0, wide, tall = part
    h, w = picture.shape[:2]
    rows = np.minimum(y0 + (np.arange(height) + 0.5) * tall / height, h - 1).astype(int)
    columns = np.minimum(x0 + (np.arange(width) + 0.5) * wide / width, w - 1).astype(int)
    columns = columns[::-1] if flip else columns
    return picture[rows[:, None], columns].astype(np.float32) / 255


def photo_place(places: Sequence[NDArray[np.uint8]]) -> Place:
    """Backgrounds that are parts of photographs."""

    def place(rng: np.random.Generator, height: int, width: int, aspect: float) -> Mask:
        picture = places[int(rng.integers(len(places)))][..., :3]
        part = crop_place(rng, picture, aspect, 0.5)
        light = np.float32(rng.uniform(0.6, 1.1))
        return (_sampled(picture, part, height, width, rng.random() < 0.5) * light).clip(0, 1)

    return place


def photo_host(
    rng: np.random.Generator, aspect: float, families: Sequence[tuple[Family, Sequence[Rgba]]]
) -> Host | None:
    """A photograph of one of `families`, in which enough of its thing can be seen; or None."""
    if rng.random() > HOSTS:
        return None
    # Nearly as often as there are photographs: what is most often in view has most of them.
    weights = np.array([len(photos) for _, photos in families]) ** 0.75
    family, photos = families[int(rng.choice(len(families), p=weights / weights.sum()))]
    rgba = photos[int(rng.integers(len(photos)))]
    a0, b0, a1, b1 = extent(rgba)
    for _ in range(10):
        part = x0, y0, wide, tall = crop_place(rng, rgba, aspect, 0.55)
        box = np.array([(a0 - x0) / wide, (b0 - y0) / tall, (a1 - x0) / wide, (b1 - y0) / tall])
        seen = np.prod((box.clip(0, 1)[2:] - box.clip(0, 1)[:2]) / (box[2:] - box[:2]))
        if seen > 0.75:
            break
    else:
        return None
    flip = bool(rng.random() < 0.5)
    x0, y0, x1, y1 = (float(v) for v in box.clip(0, 1))
    lit = np.dstack([in_light(rng, rgba[..., :3]), rgba[..., 3]])

    def place(rng: np.random.Generator, height: int, width: int, aspect: float) -> Mask:
        return np.ascontiguousarray(_sampled(lit[..., :3], part, height, width, flip))

    def paint(
        canvas: Mask, x: float, y: float, size: float, pixels: tuple[float, float]
    ) -> tuple[Mask, tuple[slice, slice]]:
        height, width = canvas.shape[:2]
        cover = _sampled(lit[..., 3], part, height, width, flip)
        return cover, (slice(0, height), slice(0, width))

    return Host(family, place, paint, (1 - x1, y0, 1 - x0, y1) if flip else (x0, y0, x1, y1))


def webcam(rng: np.random.Generator) -> Camera:
    """A cheap camera in some light: blur, noise, a tint, compression; now and then no colour."""
    gain = np.exp(rng.normal(-0.05, 0.2)) * np.exp(rng.normal(0, 0.05, 3))
    gamma = np.exp(rng.normal(0, 0.15))
    grey = rng.random() < 0.08
    blur = int(rng.choice([0, 1, 2], p=[0.6, 0.3, 0.1]))
    grain = rng.uniform(0, 0.04) * (rng.random() < 0.6)
    quality = int(rng.integers(3, 20)) * bool(rng.random() < 0.4)

    def camera(rng: np.random.Generator, canvas: Mask) -> Mask:
        x = canvas.clip(0, 1) ** np.float32(gamma) * gain.astype(np.float32)
        if grey:
            x[:] = x.mean(2, keepdims=True)
        for _ in range(blur):
            for axis in (0, 1):
                x = (2 * x + np.roll(x, 1, axis) + np.roll(x, -1, axis)) / 4
        if grain:
            x += rng.standard_normal(x.shape, np.float32) * np.float32(grain)
        x = x.clip(0, 1)
        return _compressed(x, quality) if quality else x

    return camera


def _compressed(x: Mask, quality: int) -> Mask:
    """What JPEG leaves of it; `quality` is a quantiser's scale, 2 (fine) to 31."""
    height, width = x.shape[:2]
    encoder = av.CodecContext.create("mjpeg", "w")
    decoder = av.CodecContext.create("mjpeg", "r")
    assert isinstance(encoder, av.VideoCodecContext) and isinstance(decoder, av.VideoCodecContext)
    encoder.width, encoder.height = width, height
    encoder.pix_fmt, encoder.framerate = "yuvj420p", 25  # type: ignore[assignment]
    encoder.options = {"qmin": str(quality), "qmax": str(quality)}
    frame = av.VideoFrame.from_ndarray(np.rint(x * 255).astype(np.uint8), format="rgb24")
    packets = encoder.encode(frame.reformat(format="yuvj420p")) + encoder.encode(None)
    (seen,) = [f for packet in packets for f in decoder.decode(packet)] + decoder.decode(None)
    return seen.to_ndarray(format="rgb24").astype(np.float32) / np.float32(255)
