"""What scenes are made of: families of things, how each is painted and sounds, and their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avsl.demos.scenes.looks import (
    BENCH_FAMILIES,
    FAMILIES,
    Look,
    background,
    bench_look,
    family_look,
    paint,
    stranger_look,
)
from avsl.demos.scenes.voices import Voice, family_voice, stranger_voice

SIZES = (0.12, 0.5)
"""Smallest and largest width of a thing, in widths of the picture; log-uniform between them."""

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in 0..1 from the top left."""
Mask = NDArray[np.float32]
Picture = NDArray[np.uint8]
Painter = Callable[
    [NDArray[np.float32], float, float, float, tuple[float, float]],
    tuple[Mask, tuple[slice, slice]],
]
"""Paints a thing on a canvas at x, y with a size; see `looks.paint`."""
Place = Callable[[np.random.Generator, int, int, float], NDArray[np.float32]]
"""Draws a background of some height, width and aspect; see `looks.background`."""
Camera = Callable[[np.random.Generator, NDArray[np.float32]], NDArray[np.float32]]
"""What a camera makes of a canvas (`[h, w, 3]`, RGB in 0..1)."""


@dataclass(frozen=True)
class Family:
    """A kind of thing: how to make an individual's look, and its voice."""

    name: str
    look: Callable[[np.random.Generator], Painter]
    voice: Callable[[np.random.Generator], Voice]


def painter(look: Look) -> Painter:
    """Paints a look."""
    return lambda canvas, x, y, size, pixels: paint(canvas, look, x, y, size, pixels)


STRANGER = Family("", lambda rng: painter(stranger_look(rng)), stranger_voice)


@dataclass(frozen=True)
class Host:
    """A photograph that is the place of a scene and has a thing of a family in it already."""

    family: Family
    place: Place
    paint: Painter
    """Paints nothing, and says what the thing covers."""
    box: Box
    """Around the thing, in 0..1 of the picture."""


@dataclass(frozen=True)
class Cast:
    """What scenes are made of: families, and the place they are in (see `looks.background`)."""

    families: tuple[Family, ...]
    background: Place
    sizes: tuple[float, float] = SIZES
    """As `SIZES`."""
    aspect: float | None = None
    """Width over height of every picture; by default each scene draws its own."""
    strangers: tuple[Family, ...] = (STRANGER,)
    """Things that never sound and may be part of the background."""
    outside: Callable[[np.random.Generator], Voice] = stranger_voice
    """What sounds without being in view, besides families that are not in the scene."""
    host: Callable[[np.random.Generator, float], Host | None] | None = None
    """Draws the photograph that a scene of some aspect is put into, or None for a background."""
    camera: Callable[[np.random.Generator], Camera] | None = None
    """Draws the camera that a scene is seen through."""


def _drawn(family: int, name: str) -> Family:
    return Family(
        name,
        lambda rng: painter(family_look(family, rng)),
        lambda rng: family_voice(family, rng),
    )


DRAWN = Cast(
    tuple(_drawn(i, name) for i, name in enumerate(FAMILIES)),
    background,
)
"""The sixteen drawn families."""

BENCH = Cast(
    tuple(
        Family(
            f"{texture} {shape}",
            lambda rng, i=i: painter(bench_look(i, rng)),  # type: ignore[misc]
            lambda rng, i=i: family_voice(i, rng),  # type: ignore[misc]
        )
        for i, (shape, texture) in enumerate(BENCH_FAMILIES)
    ),
    background,
    sizes=(0.20, 0.58),
    aspect=1.0,
    strangers=(),
)
"""Sixteen families with look-alikes, large enough to cover each other where there are many: what
methods are compared on."""
