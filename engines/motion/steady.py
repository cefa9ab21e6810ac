"""What moved between two pictures, the camera's own motion and the change of light taken out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from avsl.engines.pictures import Picture

Luma = NDArray[np.float32]

FARTHEST = 6.0
"""Pixels that the camera may have moved; beyond it, it is as good as another picture."""
ROUNDS = 3
"""Of the weights that leave moving things out of the search for the camera's motion."""
DIMMER = 40.0
"""Levels in 128 that the light may gain or lose from one picture to the next."""
OUTLIER = 6.0
"""Levels at which a pixel counts half in that search: it belongs to something that moves."""
EDGE_SHARE, GRAIN = 0.12, 1.5
"""How much of its gradient, and how many levels, a pixel may be off without having moved."""
MARGIN = 4
"""Pixels at the border that the camera's motion may have brought in."""


class Camera(NamedTuple):
    """What the camera did between two pictures."""

    down: float = 0.0
    across: float = 0.0
    """By how many pixels what it sees moved."""
    growth: float = 0.0
    """By what part of its size what it sees grew."""


def luma(picture: Picture) -> Luma:
    """Brightness `[h, w]` of an RGB picture, in 0..255, smoothed over 3 x 3 pixels: what is left of
    grain and of the error of a shift by parts of a pixel is small."""
    grey = picture[..., 0] * np.float32(0.3)
    grey += picture[..., 1] * np.float32(0.59)
    grey += picture[..., 2] * np.float32(0.11)
    for axis in (0, 1):
        grey = (2 * grey + _rolled(grey, 1, axis) + _rolled(grey, -1, axis)) / 4
    return grey


def halved(picture: Picture) -> Picture:
    """The mean of 2 x 2 pixels."""
    h, w = (side // 2 * 2 for side in picture.shape[:2])
    rows = picture[:h:2].astype(np.uint16)
    rows += picture[1:h:2]
    return ((rows[:, :w:2] + rows[:, 1:w:2]) >> 2).astype(np.uint8)


def moved(
    before: Luma, now: Luma, cells: tuple[int, int], start: Camera | None = None
) -> tuple[NDArray[np.float32], Camera]:
    """By how many levels each of `cells` changed between two pictures, over what the camera's
    motion and the light explain.

    Args:
        start: the camera's motion that the search begins at: that of the picture before.

    Returns:
        `[m, n]`, and the camera's motion. How far it zooms is found, but not taken out.
    """
    coarse = np.array(start[:2] if start else (0.0, 0.0)) / 2
    coarse = coarse + _explain(_shifted(_halved(before), *coarse), _halved(now))[:2]
    if np.abs(coarse).max() > FARTHEST / 2:
        coarse = np.zeros(2)
    there = _shifted(before, *2 * coarse)
    down, across, gain, offset = found = _explain(there, now)
    grows_down, grows_across = _gradient(there)
    change = now - there * (1 + gain / 128) + (gain - offset)
    change += down * grows_down + across * grows_across
    growth = _growth(change, grows_down, grows_across)
    np.abs(change, out=change)
    change -= EDGE_SHARE * (np.abs(grows_down) + np.abs(grows_across)) + GRAIN
    np.maximum(change, 0, out=change)
    for edge in (slice(None, MARGIN), slice(-MARGIN, None)):
        change[edge] = change[:, edge] = 0
    m, n = cells
    h, w = change.shape
    shift = 2 * coarse + found[:2]
    camera = Camera(float(shift[0]), float(shift[1]), growth)
    return change.reshape(m, h // m, n, w // n).mean((1, 3)), camera


def _growth(change: Luma, grows_down: Luma, grows_across: Luma) -> float:
    """By how much a picture grew about its middle, from what a shift left of the change: least
    squares, weighted as in `_explain`."""
    some = slice(MARGIN, -MARGIN, 2), slice(MARGIN, -MARGIN, 2)
    h, w = change.shape
    y, x = np.arange(h, dtype=np.float32) - h / 2, np.arange(w, dtype=np.float32) - w / 2
    outward = (y[:, None] * grows_down + x * grows_across)[some].ravel()
    left = change[some].ravel()
    growth, weight = 0.0, np.ones_like(left)
    for _ in range(ROUNDS):
        weighted = weight * outward
        growth = -float(np.einsum("p,p->", weighted, left))
        growth /= float(np.einsum("p,p->", weighted, outward)) + 1e-3
        weight = 1 / (1 + np.square((left + np.float32(growth) * outward) / OUTLIER))
    return growth


def _explain(there: Luma, now: Luma) -> NDArray[np.float32]:
    """What leads from one picture to another that is nearly the same: a shift down and across in
    pixels, and a gain (per 128 levels) and an offset of the light. Least squares as in Lucas and
    Kanade (1981), with weights that leave out what moves by itself."""
    some = slice(4, -4, 2), slice(4, -4, 2)
    terms = np.stack(
        [
            *(-growth[some].ravel() for growth in _gradient(there)),
            there[some].ravel() / 128 - 1,
            np.ones(there[some].size, np.float32),
        ]
    )
    change = (now - there)[some].ravel()
    weight = np.ones_like(change)
    for _ in range(ROUNDS):
        weighted = terms * weight
        # einsum, since a matrix product would wake the threads of numpy's BLAS.
        square = np.einsum("ip,jp->ij", weighted, terms)
        square += np.diag([1e-3 * square[0, 0] + 1e-6] * 2 + [1e-3] * 2)
        found = np.linalg.solve(square, np.einsum("ip,p->i", weighted, change))
        left = change - np.einsum("ip,i->p", terms, found.astype(np.float32))
        weight = 1 / (1 + np.square(left / OUTLIER))
    found[:3] = found[:3].clip((-2, -2, -DIMMER), (2, 2, DIMMER))
    return found.astype(np.float32)


def _halved(picture: Luma) -> Luma:
    rows = picture[::2] + picture[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) * np.float32(0.25)


def _shifted(picture: Luma, down: float, across: float) -> Luma:
    """The picture moved by parts of a pixel, by cubic interpolation (Catmull-Rom)."""
    for axis, by in ((0, down), (1, across)):
        whole = int(np.floor(by))
        f = 1 - (by - whole)  # from the pixel before to this one
        taps = (
            -0.5 * f**3 + f**2 - 0.5 * f,
            1.5 * f**3 - 2.5 * f**2 + 1,
            -1.5 * f**3 + 2 * f**2 + 0.5 * f,
            0.5 * f**3 - 0.5 * f**2,
        )
        picture = sum(
            np.float32(tap) * _rolled(picture, whole + k, axis)
            for tap, k in zip(taps, (2, 1, 0, -1), strict=True)
        )
    return picture


def _gradient(picture: Luma) -> tuple[Luma, Luma]:
    """Down and across."""
    down, across = (_rolled(picture, -1, axis) - _rolled(picture, 1, axis) for axis in (0, 1))
    return down / 2, across / 2


def _rolled(picture: Any, by: int, axis: int) -> Any:
    """As `np.roll`, with half of its work."""
    by %= picture.shape[axis]
    if by == 0:
        return picture
    head, tail = [slice(None)] * 2, [slice(None)] * 2
    head[axis], tail[axis] = slice(-by, None), slice(None, -by)
    return np.concatenate([picture[tuple(head)], picture[tuple(tail)]], axis)
