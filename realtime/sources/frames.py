"""What flows through the loop."""

from __future__ import annotations

from dataclasses import dataclass

import av


@dataclass(frozen=True)
class Frame:
    """One upright picture and the moment it was captured."""

    picture: av.VideoFrame
    """The decoder's planes as they are (files: yuv420p, yuv420p10le ...), or bgr24 (cameras)."""
    time: float
    """Seconds on the stream clock: container time in files, monotonic time live."""
    index: int
