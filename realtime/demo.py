"""`avsl-live --demo`: a film that comes along, or a drawn scene, so that there is something to
annotate."""

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
from avsl.engines import Engine, UserError
from avsl.realtime.sinks.part_file import check_target
from avsl.realtime.sources.ffmpeg import open_file

FILM = Path(__file__).parent / "demo_film" / "demo.mp4"
"""Photographs, recordings and a woman who speaks; SOURCES.md beside it says whose."""
FILM_SHOWS = (
    "a woman, a dog, a piano, a motorcycle, a saxophone and a helicopter sound in turn, once two "
    "at once; the rooster isn't in view"
)
DRAWN_FOR = ("drawn", "motion")
"""Engines that know nothing of the film: they are shown what they can do."""
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


def demo_film(engine: Engine, drawn: bool, folder: Path) -> tuple[Path, str]:
    """The film to annotate, and what is in it, in words. A `drawn` one is made in `folder`, under a
    progress bar, and so is one for an engine that knows nothing of the film that comes along."""
    from rich.console import Console
    from rich.progress import Progress

    if not drawn and engine.spec.name not in DRAWN_FOR:
        return FILM, FILM_SHOWS
    clip = folder / "scene.mp4"
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("drawing a scene", total=1.0)
        moving = engine.spec.name == "motion"
        return clip, draw_demo(clip, moving, lambda share: bar.update(task, completed=share))


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
