"""One picture on the GPU, as a call that can be timed."""

from __future__ import annotations

from collections.abc import Callable

import av
import numpy as np

from avsl.engines import Localization, SoundTimeline
from avsl.engines.engine import TensorEngine
from avsl.realtime.drawing.canvas import Canvas
from avsl.realtime.drawing.gpu_overlay import GpuPictures
from avsl.realtime.drawing.overlay import Overlay
from avsl.realtime.sources.frames import Frame


def one_frame(
    engine: TensorEngine, size: tuple[int, int] = (1080, 1920)
) -> Callable[[], Localization]:
    """What it returns embeds a window of sound that is new, localizes a picture of `size` (height,
    width) and draws on it: all that the live loop does with a picture, upload and download
    included. The first call sets up."""
    window = engine.spec.window
    overlay = Overlay(engine.spec.thresholds)
    pictures = GpuPictures(engine, overlay, most=1)
    rng = np.random.default_rng(0)
    picture = av.VideoFrame(size[1], size[0], "yuv420p")
    for channel in Canvas(picture).channels:
        channel[...] = rng.integers(16, 236, channel.shape, np.uint8)
    sound = SoundTimeline(window.rate, 4 * window.length / window.rate)
    hops = 0

    def run() -> Localization:
        nonlocal hops
        hops += 1
        sound.write(hops * window.hop, rng.normal(0, 0.1, window.hop).astype(np.float32))
        time = ((hops + 1) * window.hop + window.guard) / window.rate
        found, tinted = pictures(Frame(picture, time, hops), sound)
        overlay.draw(picture, found, tinted)
        return found

    return run
