"""Video files to annotated files: sound and timing untouched."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from avsl.engines import Engine, Localization, Localizer, Resizer, UserError
from avsl.engines.engine import on_gpu
from avsl.realtime.drawing.overlay import Overlay
from avsl.realtime.sinks.events import EventWriter
from avsl.realtime.sinks.video_file import VideoWriter, check_target
from avsl.realtime.sources.frames import Frame
from avsl.realtime.sources.video_file import SUFFIXES, Sound, open_video

BATCH = 16
"""Pictures that a GPU works on at once."""


@dataclass(frozen=True)
class Report:
    """What became of one file."""

    out: Path
    frames: int
    seconds: float
    """How long it took."""
    notes: tuple[str, ...]
    """What the user should know, a line each."""
    partial: bool
    """Whether it was stopped before the end; `out` is then named as partial."""


@dataclass(frozen=True)
class Progress:
    """How far one file is."""

    frames: int
    done: float
    """Seconds of the film."""
    total: float | None


def annotate(
    source: Path,
    target: Path,
    engine: Engine,
    *,
    every: int = 1,
    events: Path | None = None,
    overwrite: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Report:
    """Draws on every picture of `source` what makes the sound, and writes `target`.

    Every `every`-th picture is localized, the ones between carry the newest map. When `stop` is
    set, what is done so far is completed under the name `<target>.partial.<suffix>`.

    Raises:
        UserError: the source can't be read or the target can't be written; nothing is left of it.
    """
    check_target(target)
    for place in (target, events):
        if place and place.exists() and source.exists() and place.samefile(source):
            raise UserError(f"{place}: is the film itself; name another file to write")
    if events and events.absolute() == target.absolute():
        raise UserError(f"{events}: is the name of OUT, too; --events needs a file of its own")
    if target.exists() and not overwrite:
        raise UserError(f"{target}: exists already; --overwrite replaces it")
    window = engine.spec.window
    began = time.monotonic()
    video = open_video(source)
    sound = Sound(source, window.rate, 4 * window.length / window.rate)
    writer = lines = None
    try:
        writer = VideoWriter(target, video)
        lines = EventWriter(events, engine.spec, source.name, overwrite) if events else None
        drawn = _drawn(video.frames(), sound, engine, every)
        total, count, end = video.seconds, 0, 0.0
        start: float | None = None
        for frame, localization in drawn:
            if stop is not None and stop.is_set():
                break
            if lines and frame.index % every == 0:
                lines.write(localization)
            writer.write(frame.picture)
            start = frame.time if start is None else start
            count, end = count + 1, frame.time
            progress(Progress(count, end - start, total))
        else:
            stop = None
        partial = stop is not None
        place = _partial(target) if partial else None
        out = writer.finish(place, until=end if partial else float("inf"))
        writer_notes, writer = writer.notes, None
        if lines:
            lines.close()
            if lines.problem:
                writer_notes.append(f"events end early; {lines.problem}")
            lines = None
        faults = [note for f in (video.faults, sound.faults) if (note := f.note())]
        said = (*video.notes, *sound.notes, *writer_notes, *faults)
        notes = tuple(f"{source}: {note}" for note in said)
        return Report(out, count, time.monotonic() - began, notes, partial)
    finally:
        for unfinished in (writer, lines):
            if unfinished:
                unfinished.abandon()
        video.close()
        sound.close()


def _drawn(
    frames: Iterator[Frame], sound: Sound, engine: Engine, every: int
) -> Iterator[tuple[Frame, Localization]]:
    """The pictures in order, with what is found drawn on them."""
    if every == 1 and on_gpu(engine):
        from avsl.realtime.drawing.gpu_overlay import drawn_on_gpu

        yield from drawn_on_gpu(frames, sound, engine, BATCH)
        return
    resize, localize = Resizer(engine.spec.picture_size), Localizer(engine)
    overlay = Overlay(engine.spec.thresholds)
    for frame in frames:
        heard, picture = sound.listen(frame.time), frame.picture
        if frame.index % every == 0:
            localization = localize(frame.time, resize(picture), heard)
        picture.make_writable()  # the decoder may still predict from these planes
        overlay.draw(picture, localization)
        yield frame, localization


def _partial(target: Path) -> Path:
    """A name beside `target` that says it is not the whole, and that nothing has yet."""
    names = (f"{target.stem}.partial{n}{target.suffix}" for n in ("", *range(2, 1000)))
    return next(p for name in names if not (p := target.with_name(name)).exists())


def find_videos(sources: Iterable[Path]) -> list[Path]:
    """The files themselves, and for each folder the videos in it, by their suffix.

    Raises:
        UserError: a folder has none.
    """
    found: list[Path] = []
    for source in sources:
        if not source.is_dir():
            found.append(source)
            continue
        videos = sorted(
            path
            for path in source.iterdir()
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        )
        if not videos:
            raise UserError(f"{source}: no videos in this folder")
        found += videos
    return found
