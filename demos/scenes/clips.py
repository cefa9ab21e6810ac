"""Scenes as video files: the demo clip, and clips for tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from avsl.demos.scenes.cast import DRAWN
from avsl.demos.scenes.movers import MovingScene, make_moving_scene
from avsl.demos.scenes.scene import Scene, Thing, Turn, make_scene

DEMO_SECONDS = 10.0
DEMO_RATE = 25
SOUND_RATE = 48_000


def demo_scene(seed: int = 7) -> Scene:
    """Four things that sound in turn, two of them at once near the end, with silence between."""
    places = {"star": (0.2, 0.16), "ring": (0.76, 0.17), "drop": (0.42, 0.4), "gear": (0.83, 0.42)}
    sizes = {"star": 0.2, "ring": 0.24, "drop": 0.19, "gear": 0.16}
    rng = np.random.default_rng(seed)
    families = {family.name: family for family in DRAWN.families}
    things = tuple(
        Thing(
            name,
            *places[name],
            sizes[name],
            sway=(0.035, 0.02, 0.15, float(rng.uniform(0, 6.3))),
            paint=families[name].look(rng),
            voice=families[name].voice(rng),
            gain=0.8,
        )
        for name in places
    )
    turns = (
        Turn(0.6, 2.4, (0,)),
        Turn(2.4, 4.2, (1,)),
        Turn(5.0, 6.4, (2,)),
        Turn(6.4, 8.0, (3,)),
        Turn(8.0, 9.7, (1, 3)),
    )
    return dataclasses.replace(
        make_scene(seed, 0, kind="silence", aspect=16 / 9),
        kind="one",
        things=things,
        strangers=(),
        turns=turns,
        loudness=0.4,
        noise_db=-45.0,
    )


def moving_demo_scene() -> MovingScene:
    """Two things that move, of which one sounds, then the other."""
    return make_moving_scene(7, 14)


def write_clip(
    scene: Scene | MovingScene,
    path: Path,
    seconds: float,
    *,
    size: tuple[int, int] = (540, 960),
    rate: int = DEMO_RATE,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Writes the first `seconds` of a scene as H.264 with AAC; `size` is height and width."""
    height, width = size
    with av.open(f"file:{path}", "w") as container:
        video = container.add_stream(
            "libx264", rate=rate, options={"preset": "veryfast", "crf": "20"}
        )
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        for index in range(round(seconds * rate)):
            picture, _ = scene.render(index / rate, height, width)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(video.encode(frame))
            progress(index + 1)
        # A second at a time keeps memory flat, and the muxer orders what it is given.
        for start in np.arange(0, seconds, 1.0):
            samples = scene.sound(start, min(1.0, seconds - start), SOUND_RATE)
            block = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            block.sample_rate, block.pts = SOUND_RATE, round(start * SOUND_RATE)
            block.time_base = Fraction(1, SOUND_RATE)
            container.mux(audio.encode(block))
        container.mux(video.encode())
        container.mux(audio.encode())
