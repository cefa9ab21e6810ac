"""Films and live: what somebody's own program needs of it, with an example each in
demos/PYTHON.md.

Names are imported when they are first asked for: a camera's window wants cv2 before the av that
files need, and files need no cv2.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avsl.realtime.drawing.overlay import Overlay
    from avsl.realtime.films import Progress, Report, annotate, find_videos
    from avsl.realtime.live import run_live
    from avsl.realtime.live_options import LiveOptions, LiveReport
    from avsl.realtime.sinks.events import EventWriter, event
    from avsl.realtime.sinks.sink import Sink
    from avsl.realtime.sinks.video_file import VideoWriter
    from avsl.realtime.sources.film_sound import Sound
    from avsl.realtime.sources.frames import Frame
    from avsl.realtime.sources.source import Source
    from avsl.realtime.sources.video_file import Video, open_video

_HOMES = {
    "drawing.overlay": ("Overlay",),
    "films": ("Progress", "Report", "annotate", "find_videos"),
    "live": ("run_live",),
    "live_options": ("LiveOptions", "LiveReport"),
    "sinks.events": ("EventWriter", "event"),
    "sinks.sink": ("Sink",),
    "sinks.video_file": ("VideoWriter",),
    "sources.frames": ("Frame",),
    "sources.source": ("Source",),
    "sources.film_sound": ("Sound",),
    "sources.video_file": ("Video", "open_video"),
}

__all__ = [
    "EventWriter",
    "Frame",
    "LiveOptions",
    "LiveReport",
    "Overlay",
    "Progress",
    "Report",
    "Sink",
    "Sound",
    "Source",
    "Video",
    "VideoWriter",
    "annotate",
    "event",
    "find_videos",
    "open_video",
    "run_live",
]


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"avsl.realtime.{module}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
