"""`avsl-live --demo`: a scene is drawn, so that there is something to annotate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from avsl.demos.scenes.clips import (
    DEMO_RATE,
    DEMO_SECONDS,
    demo_scene,
    moving_demo_scene,
    write_clip,
)
from avsl.demos.scenes.movers import SECONDS
from avsl.engines import UserError
from avsl.realtime.sinks.part_file import check_target
from avsl.realtime.sources.ffmpeg import open_file

TARGET = Path("avsl-demo.mp4")
TITLE = "avsl-live --demo"
"""What a film that the demo has made is known by."""


def check_demo(out: Path, overwrite: bool) -> None:
    """Run once more, the demo makes the same film again: there is nothing of the user's to lose.

    Raises:
        UserError: `out` is the user's, or no film can have that name.
    """
    check_target(out)
    if out.exists() and not overwrite and not _made_here(out):
        raise UserError(f"{out}: exists already; --overwrite replaces it")


def _made_here(path: Path) -> bool:
    try:
        with open_file(path) as container:
            return bool(container.metadata.get("title") == TITLE)
    except UserError:
        return False


def draw_demo(clip: Path, moving: bool, progress: Callable[[float], None]) -> str:
    """Writes the scene to `clip`, telling what share of it is drawn, and returns what is in it, in
    words. `moving` is for an engine that knows nothing of the drawn families: it is shown things
    that move as they sound."""
    seconds = SECONDS if moving else DEMO_SECONDS
    scene = moving_demo_scene() if moving else demo_scene()
    pictures = seconds * DEMO_RATE
    write_clip(scene, clip, seconds, title=TITLE, progress=lambda n: progress(n / pictures))
    if moving:
        return "two things move, one with the sound you hear, then the other"
    return "four drawn things sound in turn, at the end two at once"
