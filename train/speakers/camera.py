"""Pictures moved, turned and scaled, and as a camera has them that is worse or farther away."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl.engines.speakers.crop import reduced
from avsl.train.data.prepare import opencv

cv2 = opencv()
Array = NDArray[np.float32]
LIGHT, CODED = 0.3, 0.3
"""How often light comes from a side, and a picture went through JPEG."""


def moved(
    picture: NDArray[np.uint8],
    turn: NDArray[np.float64],
    move: NDArray[np.float64],
    size: tuple[int, int],
    border: int = cv2.BORDER_REPLICATE,
    beyond: float = 0.0,
) -> Array:
    """A picture `[h, w]` of which each pixel x lies at `turn @ x + move` in one of `size` (width,
    height); reduced before where it shrinks to less than half, so that nothing is left out."""
    scale = float(np.sqrt(np.linalg.det(turn)))
    by = min(max(1, int(1 / scale)), *picture.shape)
    to = np.column_stack([turn * by, move + turn @ np.full(2, (by - 1) / 2)])
    small = reduced(picture, by)
    out: Array = cv2.warpAffine(small, to, size, borderMode=border, borderValue=beyond)
    return out


def turning(scale: float, roll: float) -> NDArray[np.float64]:
    """The matrix `[2, 2]` that scales and turns clockwise, by radians."""
    c, s = np.cos(roll) * scale, np.sin(roll) * scale
    return np.array([[c, -s], [s, c]])


def worse(rng: np.random.Generator, picture: Array) -> Array:
    """Brightness `[h, w]`, 0 to 255, in other light, from farther away or blurred, with noise,
    coded."""
    x = _lit(rng, picture)
    h, w = x.shape
    if rng.random() < LIGHT:
        angle = rng.uniform(0, 2 * np.pi)
        down, across = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
        x = x * (1 + rng.uniform(0, 0.5) * (across * np.cos(angle) + down * np.sin(angle)))
    kind = rng.random()
    if kind < 0.3:
        by = rng.uniform(1.2, 4)
        small = max(20, int(w / by)), max(20, int(h / by))
        x = cv2.resize(cv2.resize(x, small, interpolation=cv2.INTER_AREA), (w, h))
    elif kind < 0.4:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.5, 2))
    x = _noisy(rng, x, 8)
    if rng.random() < CODED:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 80))]
        code = cv2.imencode(".jpg", x.astype(np.uint8), quality)[1]
        x = cv2.imdecode(code, cv2.IMREAD_GRAYSCALE).astype(np.float32)
    return x


def a_little_worse(rng: np.random.Generator, picture: NDArray[np.uint8]) -> Array:
    """The same in other light, now and then blurred, with noise."""
    x = _lit(rng, picture)
    if rng.random() < 0.2:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.2))
    return _noisy(rng, x, 7)


def _lit(rng: np.random.Generator, picture: NDArray[Any]) -> Any:
    x = 255 * (np.clip(picture, 0, 255) / 255) ** np.exp(rng.normal(0, 0.3))
    return x * rng.uniform(0.5, 1.2) + rng.uniform(-10, 20)


def _noisy(rng: np.random.Generator, x: Any, most: float) -> Array:
    x = x + rng.standard_normal(x.shape) * rng.uniform(0, most)
    out: Array = np.clip(x, 0, 255).astype(np.float32)
    return out
