"""What drawn things look like: sixteen families, each a shape with a texture; colours overlap.

Everything is a function of continuous coordinates, so a thing is the same at any resolution.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Field = Callable[[Array, Array], Array]

# Shapes: how far inside a point lies, in units of the thing's half size; negative outside.


def _polygon(*corners: tuple[float, float]) -> Field:
    """A polygon by its corners, in order; it need not be convex."""

    def inside(u: Array, v: Array) -> Array:
        distance = np.full(u.shape, 9.0, np.float32)
        odd = np.zeros(u.shape, bool)
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            dx, dy = x1 - x0, y1 - y0
            along = np.clip(((u - x0) * dx + (v - y0) * dy) / (dx * dx + dy * dy), 0, 1)
            distance = np.minimum(distance, np.hypot(u - x0 - along * dx, v - y0 - along * dy))
            if dy:
                crosses = (v >= min(y0, y1)) & (v < max(y0, y1))
                odd ^= crosses & (u < x0 + (v - y0) * dx / dy)
        return np.where(odd, distance, -distance).astype(np.float32)

    return inside


def _polar(radius: Callable[[Array], Array]) -> Field:
    """A shape by its outline's distance from the middle at each angle."""
    return lambda u, v: radius(np.arctan2(v, u)) - np.hypot(u, v)


def _crescent(u: Array, v: Array) -> Array:
    return np.minimum(0.95 - np.hypot(u, v), np.hypot(u - 0.45, v + 0.1) - 0.68)


def _drop(u: Array, v: Array) -> Array:
    width = 0.62 * np.sqrt(np.clip(1 - v * v, 0, None)) * np.clip((v + 1) / 1.5, 0, 1)
    return np.minimum(width - np.abs(u), 0.98 - np.abs(v))


def _bars(u: Array, v: Array) -> Array:
    nearest = np.abs(u - np.clip(np.round(u / 0.66), -1, 1) * 0.66)
    return np.minimum(0.2 - nearest, 0.88 - np.abs(v))


def _frame(u: Array, v: Array) -> Array:
    return 0.2 - np.abs(np.maximum(np.abs(u), np.abs(v)) - 0.68)


SHAPES: dict[str, Field] = {
    "disc": lambda u, v: 0.92 - np.hypot(u, v),
    "square": lambda u, v: 0.8 - np.maximum(np.abs(u), np.abs(v)),
    "triangle": _polygon((0, -0.95), (0.92, 0.75), (-0.92, 0.75)),
    "ring": lambda u, v: 0.25 - np.abs(np.hypot(u, v) - 0.7),
    "star": _polar(lambda a: 0.62 + 0.36 * (2 / np.pi) * np.arcsin(np.sin(5 * a))),
    "cross": lambda u, v: np.maximum(
        np.minimum(0.95 - np.abs(u), 0.3 - np.abs(v)), np.minimum(0.95 - np.abs(v), 0.3 - np.abs(u))
    ),
    "crescent": _crescent,
    "drop": _drop,
    "flower": _polar(lambda a: 0.72 + 0.24 * np.cos(7 * a)),
    "gear": _polar(lambda a: 0.8 + 0.16 * np.tanh(6 * np.sin(10 * a))),
    "arrow": _polygon(
        (0, -0.95), (0.9, 0), (0.36, 0), (0.36, 0.95), (-0.36, 0.95), (-0.36, 0), (-0.9, 0)
    ),
    "bolt": _polygon(
        (0.25, -0.98), (-0.7, 0.15), (-0.08, 0.15), (-0.3, 0.98), (0.7, -0.2), (0.08, -0.2)
    ),
    "bars": _bars,
    "frame": _frame,
    "hourglass": _polygon(
        (-0.85, -0.92), (0.85, -0.92), (0.1, 0), (0.85, 0.92), (-0.85, 0.92), (-0.1, 0)
    ),
    "ell": _polygon(
        (-0.75, -0.92), (-0.15, -0.92), (-0.15, 0.35), (0.8, 0.35), (0.8, 0.92), (-0.75, 0.92)
    ),
}

TEXTURES: tuple[Field, ...] = (
    lambda u, v: 0.5 + 0.5 * np.tanh(4 * np.sin(11 * u)),  # stripes
    lambda u, v: 0.5 + 0.5 * np.tanh(4 * np.sin(8 * u) * np.sin(8 * v)),  # checks
    lambda u, v: 0.5 + 0.5 * np.tanh(6 * (np.cos(9 * u) + np.cos(9 * v) - 0.7)),  # dots
    lambda u, v: 0.5 + 0.5 * np.tanh(4 * np.sin(13 * np.hypot(u, v))),  # rings
    lambda u, v: np.clip(0.5 + 0.6 * v, 0, 1),  # shading
)
FAMILIES = tuple(SHAPES)
FAMILY_SHAPES = tuple(SHAPES.values())

BENCH_SHAPES = ("disc", "square", "triangle", "star", "cross", "drop", "flower", "gear")
"""Shapes that are filled enough to show a texture."""
BENCH_TEXTURES = ("striped", "checked", "dotted", "ringed")
"""Names of the first of `TEXTURES`."""
BENCH_FAMILIES = tuple(
    (shape, texture)
    for row, shape in enumerate(BENCH_SHAPES)
    for column, texture in enumerate(BENCH_TEXTURES)
    if (row + column) % 2 == 0
)
"""Every other combination: each shape comes with two textures, each texture with four shapes."""


@dataclass(frozen=True)
class Look:
    """One individual: a shape, a texture, two colours (RGB in 0..1), and how it is turned."""

    shape: Field
    texture: Field
    colours: tuple[tuple[float, float, float], tuple[float, float, float]]
    angle: float
    stretch: float
    phase: float


def _colours(
    rng: np.random.Generator, hue: float
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    light = rng.uniform(0.65, 1.0)
    first = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.35, 1), light)
    second = colorsys.hsv_to_rgb(
        (hue + rng.normal(0, 0.12)) % 1, rng.uniform(0.2, 1), light * rng.uniform(0.15, 0.6)
    )
    return (first, second) if rng.random() < 0.5 else (second, first)


def individual_look(shape: Field, texture: Field, hue: float, rng: np.random.Generator) -> Look:
    """An individual with a shape and a texture; its colour is within a sixth of the colour circle
    of `hue` (0..1), so that neighbouring hues overlap."""
    return Look(
        shape,
        texture,
        _colours(rng, hue + rng.uniform(-1 / 6, 1 / 6)),
        angle=rng.uniform(-0.35, 0.35),
        stretch=rng.uniform(0.87, 1.15),
        phase=rng.uniform(-0.5, 0.5),
    )


def family_look(family: int, rng: np.random.Generator) -> Look:
    """An individual of a family. Colours of neighbouring families overlap: each takes a third of
    the colour circle."""
    hue = family * 7 % len(FAMILIES) / len(FAMILIES)
    return individual_look(FAMILY_SHAPES[family], TEXTURES[family % len(TEXTURES)], hue, rng)


def bench_look(family: int, rng: np.random.Generator) -> Look:
    """An individual of a family of `BENCH_FAMILIES`. Neighbours, which share a shape, have nearly
    the same colours: only their texture tells them apart."""
    shape, texture = BENCH_FAMILIES[family]
    look = BENCH_TEXTURES.index(texture)
    return individual_look(SHAPES[shape], TEXTURES[look], family / len(BENCH_FAMILIES), rng)


def stranger_look(rng: np.random.Generator) -> Look:
    """A thing of no family: a random outline and texture. It never makes a sound."""
    waves = [(int(k), rng.normal(0, 0.2 / k**0.5), rng.uniform(0, 6.3)) for k in range(1, 5)]
    if rng.random() < 0.5:
        shape = _polar(
            lambda a: np.clip(0.7 + sum(w * np.cos(k * a + p) for k, w, p in waves), 0.15, 1)
        )
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
        radii = rng.uniform(0.45, 1, len(angles))
        corners = zip(radii * np.cos(angles), radii * np.sin(angles), strict=True)
        shape = _polygon(*((float(x), float(y)) for x, y in corners))
    return Look(
        shape,
        TEXTURES[rng.integers(len(TEXTURES))],
        _colours(rng, rng.random()),
        angle=rng.uniform(-np.pi, np.pi),
        stretch=rng.uniform(0.7, 1.4),
        phase=rng.uniform(-0.5, 0.5),
    )


def paint(
    canvas: Array, look: Look, x: float, y: float, size: float, pixels: tuple[float, float]
) -> tuple[Array, tuple[slice, slice]]:
    """Paints a thing on `canvas` (`[h, w, 3]`, RGB in 0..1), in place.

    Args:
        x, y: its middle, in widths of the picture from the left and the top.
        size: its width, in widths of the picture.
        pixels: how many pixels of the canvas a picture's width is, across and down (they differ
            where the canvas is stretched).

    Returns:
        How much of each pixel it covers (0..1), and the part of the canvas that this is for.
    """
    height, width = canvas.shape[:2]
    reach = size * 0.67
    x0, x1 = int(max(0, (x - reach) * pixels[0])), int(min(width, (x + reach) * pixels[0] + 1))
    y0, y1 = int(max(0, (y - reach) * pixels[1])), int(min(height, (y + reach) * pixels[1] + 1))
    where = slice(y0, max(y0, y1)), slice(x0, max(x0, x1))
    columns = ((np.arange(x0, max(x0, x1)) + 0.5) / pixels[0] - x).astype(np.float32)
    rows = ((np.arange(y0, max(y0, y1)) + 0.5) / pixels[1] - y).astype(np.float32)[:, None]
    cos, sin = np.cos(look.angle) * 2 / size, np.sin(look.angle) * 2 / size
    u = ((columns * cos + rows * sin) / look.stretch).astype(np.float32)
    v = ((rows * cos - columns * sin) * look.stretch).astype(np.float32)
    pixel = 2 / size / min(pixels)
    cover = np.clip(look.shape(u, v) / pixel + 0.5, 0, 1).astype(np.float32)
    seen = cover > 0  # half of the rectangle or less: the rest needs no texture and no blending
    mix = look.texture(u[seen] + look.phase, v[seen] + look.phase).astype(np.float32)[:, None]
    first, second = (np.asarray(c, np.float32) for c in look.colours)
    part = canvas[where]
    below = part[seen]
    part[seen] = below + (first + (second - first) * mix - below) * cover[seen][:, None]
    return cover, where


def _grid_up(grid: Array, height: int, width: int) -> Array:
    """A coarse `[n, m, 3]` grid, bilinear to `[height, width, 3]`."""

    def between(low: Array, high: Array, share: Array) -> Array:
        return low + (high - low) * share

    def cells(count: int, size: int) -> tuple[NDArray[np.intp], Array]:
        at = (np.arange(size) + 0.5) / size * (count - 1)
        low = np.minimum(at.astype(np.intp), count - 2)
        return low, (at - low).astype(np.float32)

    rows, down = cells(grid.shape[0], height)
    columns, across = cells(grid.shape[1], width)
    wide = between(grid[:, columns], grid[:, columns + 1], across[:, None])
    return between(wide[rows], wide[rows + 1], down[:, None, None])


def background(rng: np.random.Generator, height: int, width: int, aspect: float) -> Array:
    """A cluttered place without things, RGB `[height, width, 3]` in 0..1."""
    base = rng.uniform(0.1, 0.9, 3) * rng.uniform(0.4, 1)
    canvas = np.zeros((height, width, 3), np.float32) + base.astype(np.float32)
    strength = rng.uniform(0.05, 0.35)
    tint = rng.uniform(0, 0.5)
    for octave in range(6):
        n = 2 ** (octave + 1) + 1
        m = round(n * aspect) + 1
        grey = rng.normal(0, 1, (n, m, 1))
        colour = rng.normal(0, 1, (n, m, 3))
        grid = (grey * (1 - tint) + colour * tint) * strength * 0.8**octave
        canvas += _grid_up(grid.astype(np.float32), height, width)
    pixels = (float(width), height * aspect)
    for _ in range(rng.integers(0, 7)):  # strokes: furniture, cables, edges of things
        columns = ((np.arange(width) + 0.5) / pixels[0]).astype(np.float32)
        rows = ((np.arange(height) + 0.5) / pixels[1]).astype(np.float32)[:, None]
        angle, thick = rng.uniform(0, np.pi), 10 ** rng.uniform(-2.6, -1.1)
        across = (columns - rng.random()) * np.sin(angle) - (rows - rng.random() / aspect) * np.cos(
            angle
        )
        along = (columns - rng.random()) * np.cos(angle) + rows * np.sin(angle)
        inside = np.minimum(thick - np.abs(across), rng.uniform(0.1, 0.8) - np.abs(along))
        cover = np.clip(inside * min(pixels) + 0.5, 0, 1)[..., None] * rng.uniform(0.3, 1)
        canvas += (rng.random(3).astype(np.float32) - canvas) * cover.astype(np.float32)
    return np.clip(canvas, 0, 1)
