"""What stands on the live picture: figures, the keys, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from avsl.realtime.opencv import cv2  # before everything that imports av

# isort: split
from avsl.engines.localization import FLOOR_DB, Localization

KEYS = (
    ("q", "quit"),
    ("space", "freeze the picture"),
    ("s", "save a snapshot"),
    ("r", "start or stop recording"),
    ("h", "figures on, off"),
    ("o", "glow on, off"),
    ("+ -", "glow stronger, weaker"),
    ("[ ]", "glow from a lower, higher probability on"),
    ("m", "mirror"),
    ("?", "this help"),
)
WHITE = (255, 255, 255)
AMBER = (60, 190, 255)  # as everything here, blue first


@dataclass(frozen=True)
class Figures:
    """What the HUD shows."""

    camera_fps: float
    maps_per_s: float
    age_ms: float
    skipped: int
    localization: Localization | None
    notes: tuple[str, ...]
    """Recording, frozen, and the like."""


def draw_figures(picture: Any, figures: Figures) -> None:
    """Draws the HUD at the top left of a BGR picture."""
    line = (
        f"camera {figures.camera_fps:.1f} fps   maps {figures.maps_per_s:.1f}/s   "
        f"age {figures.age_ms:.0f} ms   skipped {figures.skipped}"
    )
    now = figures.localization
    if now is None:
        heard = "starting"
    else:
        full = round(20 * (1 - max(now.level_db, -60.0) / -60.0))
        level = "digital silence" if now.level_db <= FLOOR_DB else f"{now.level_db:.0f} dB"
        heard = f"{'|' * full:.<20}  {level}   {now.state} {now.score:.2f}"
    _panel(picture, [line, heard, *figures.notes], WHITE, 0)


def draw_missing(picture: Any, lines: Sequence[str]) -> None:
    """Says what is missing, at the bottom of a BGR picture."""
    _panel(picture, lines, AMBER, picture.shape[0])


def draw_help(picture: Any) -> None:
    """Lists the keys in the middle of a BGR picture."""
    _panel(picture, [f"{key}\t{what}" for key, what in KEYS], WHITE, picture.shape[0] // 2)


def _panel(picture: Any, lines: Sequence[str], colour: tuple[int, int, int], y: int) -> None:
    """Text on a darkened stripe, tabs between its columns; `y`, from 0 to the picture's height, is
    how far down the free height the stripe lies."""
    height, width = picture.shape[:2]
    scale = max(0.35, min(height / 1300, width / 2000))
    (_, above), below = cv2.getTextSize("Hg|", cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    step = round((above + below) * 1.35)
    size = min(step * len(lines) + step // 2, height)
    top = round((height - size) * y / height)
    picture[top : top + size] = np.right_shift(picture[top : top + size], 1)
    for k, text in enumerate(lines):
        base = top + step // 4 + step * k + above + below // 2
        for column, part in enumerate(text.split("\t")):
            at = (step // 2 + 3 * step * column, base)
            cv2.putText(picture, part, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
