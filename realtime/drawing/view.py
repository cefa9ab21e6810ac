"""What the window shows: the picture with its glow, figures, keys, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from avsl.realtime.sources.opencv import cv2  # before everything that imports av

# isort: split
import av
import numpy as np

from avsl.engines import Localization, Thresholds
from avsl.engines.localization import FLOOR_DB
from avsl.realtime.drawing import label
from avsl.realtime.drawing.overlay import Overlay
from avsl.realtime.sources.frames import Frame

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
OPACITY_STEP = 0.1
THRESHOLD_STEP = 0.05
WHITE = (255, 255, 255)
AMBER = (60, 190, 255)  # as everything here, blue first

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Figures:
    """What the HUD says."""

    camera_fps: float
    maps_per_s: float
    age_ms: float
    skipped: int
    now: Localization | None
    notes: tuple[str, ...] = ()
    """What else there is to know of the source: no microphone, and the like."""
    running: tuple[str, ...] = ()
    """Recording, and the like: said also where the figures are off."""


class View:
    """How pictures are shown, which keys change."""

    def __init__(self, thresholds: Thresholds) -> None:
        self.overlay = Overlay(thresholds)
        self.frozen = False
        self._figures = True
        self._help = False
        self._mirror = False

    def react(self, key: str) -> None:
        """Does what a key stands for; others do nothing."""
        overlay = self.overlay
        if key == " ":
            self.frozen = not self.frozen
        elif key == "h":
            self._figures = not self._figures
        elif key == "o":
            overlay.visible = not overlay.visible
        elif key in "+=":  # + lies on the key of =
            overlay.opacity = min(1.0, overlay.opacity + OPACITY_STEP)
        elif key == "-":
            overlay.opacity = max(0.0, overlay.opacity - OPACITY_STEP)
        elif key == "[":
            overlay.threshold = max(THRESHOLD_STEP, overlay.threshold - THRESHOLD_STEP)
        elif key == "]":
            overlay.threshold = min(1 - THRESHOLD_STEP, overlay.threshold + THRESHOLD_STEP)
        elif key == "m":
            self._mirror = not self._mirror
        elif key == "?":
            self._help = not self._help

    def draw(self, frame: Frame, now: Localization | None) -> Any:
        """The picture with its glow, as new BGR `[h, w, 3]` uint8."""
        planes = frame.picture.to_ndarray()  # a copy: others use the same picture
        if self._mirror:
            _mirror(planes, frame.picture.height)
            now = now and now.mirrored()
        if now:
            canvas = av.VideoFrame.from_numpy_buffer(planes, "yuv420p")
            canvas.colorspace = frame.picture.colorspace
            self.overlay.draw(canvas, now)
        return cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)

    def render(
        self, frame: Frame, now: Localization | None, figures: Figures, missing: Sequence[str]
    ) -> Any:
        """All that the window shows, as new BGR `[h, w, 3]` uint8."""
        picture = self.draw(frame, now)
        lines = [(line, WHITE) for line in _lines(figures) if self._figures]
        lines += [(line, WHITE) for line in (*figures.running, *["frozen"] * self.frozen)]
        lines += [(line, AMBER) for line in missing]
        if self._help:
            lines += [(f"{key}\t{what}", WHITE) for key, what in KEYS]
        if lines:
            _panel(picture, lines)
        return picture


def _lines(figures: Figures) -> list[str]:
    now = figures.now
    heard = "starting"
    if now:
        bars = "|" * round(20 * (1 + max(now.level_db, -60.0) / 60))
        level = "digital silence" if now.level_db <= FLOOR_DB else f"{now.level_db:.0f} dB"
        heard = f"{bars:.<20}  {level}   {label.line(now)}"
    return [
        f"camera {figures.camera_fps:.1f} fps   maps {figures.maps_per_s:.1f}/s   "
        f"age {figures.age_ms:.0f} ms   skipped {figures.skipped}",
        heard,
        *figures.notes,
    ]


def _mirror(planes: Any, height: int) -> None:
    """Turns yuv420p planes `[h * 3 / 2, w]` left to right, in place."""
    planes[:height] = planes[:height, ::-1].copy()
    chroma = planes[height:].reshape(height, -1)  # two rows of half the width in each row
    chroma[:] = chroma[:, ::-1].copy()


def _panel(picture: Any, lines: Sequence[tuple[str, Colour]]) -> None:
    """Lines of text on a darkened stripe at the top, tabs between their columns."""
    height, width = picture.shape[:2]
    font = cv2.FONT_HERSHEY_SIMPLEX
    scale = max(0.35, min(height / 1300, width / 2000))
    (_, above), below = cv2.getTextSize("Hg|", font, scale, 1)
    step = round((above + below) * 1.35)
    stripe = picture[: step * len(lines) + step // 2]
    np.right_shift(stripe, 1, out=stripe)
    for k, (line, colour) in enumerate(lines):
        base = step // 4 + step * k + above + below // 2
        for column, text in enumerate(line.split("\t")):
            at = (step // 2 + 3 * step * column, base)
            cv2.putText(picture, text, at, font, scale, colour, 1, cv2.LINE_AA)
