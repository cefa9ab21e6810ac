"""What is said of a moment in words: the one place for all that shows it to people."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from avsl.engines import Localization
from avsl.realtime.drawing import lettering
from avsl.realtime.drawing.canvas import Canvas, Rgb

_COLOURS: dict[str, Rgb] = {
    "silent": (200, 200, 200),
    "unseen": (150, 205, 255),
    "unsure": (255, 190, 60),
    "sounding": (255, 240, 140),
}
_PLATE = 0.75
"""How dark the label's plate is: grey letters keep 4.5 : 1 to it on a white picture."""


def words(localization: Localization) -> str:
    """What the label says."""
    state = localization.state
    if state in ("unsure", "sounding"):
        return f"{state.upper()} {round(100 * localization.score)} %"
    return state.upper()


def line(localization: Localization) -> str:
    """The same for the figures in the window: the score in any state."""
    return f"{localization.state} {localization.score:.2f}"


def draw(canvas: Canvas, localization: Localization) -> None:
    """The words at the lower left, behind a symbol and a bar as high as the sound is loud."""
    state = localization.state
    size = min(max(11, min(canvas.width, canvas.height) // 28), 72)
    margin, edge, bar = size // 2, size // 8, max(3, size // 4)
    meter = np.full((size, bar), 70, np.uint8)
    level = min(max((localization.level_db + 60) / 60, 0), 1)
    meter[size - round(level * size) :] = 255
    gap = np.zeros((size, edge), np.uint8)
    text = lettering.text(words(localization), size)
    mask = np.concatenate((gap, gap, meter, gap, _symbol(state, size), gap, text, gap), axis=1)
    x, y = margin, canvas.height - margin - size - 2 * edge
    canvas.shade(x, y, mask.shape[1] + edge, size + 2 * edge, _PLATE)
    canvas.stamp(mask, x, y + edge, _COLOURS[state])


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
