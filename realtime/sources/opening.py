"""Which source a live session's options name."""

from __future__ import annotations

from avsl.realtime.sources.camera_and_microphone import CameraAndMicrophone

# isort: split
from avsl.realtime.live_options import LiveOptions
from avsl.realtime.sources.source import Source


def source_of(options: LiveOptions) -> Source:
    """The source, not yet opened.

    Raises:
        UserError: nothing that there is has such a name.
    """
    return CameraAndMicrophone(
        options.camera,
        options.microphone,
        options.size,
        options.fps,
        options.av_offset_ms / 1000,
    )
