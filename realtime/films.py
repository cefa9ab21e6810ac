"""Video files to annotated files: sound and timing untouched."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from avsl.engines import Engine, Localization, Localizer, Resizer, UserError
from avsl.engines.engine import on_gpu, speakers_for
from avsl.realtime.drawing.overlay import Overlay
from avsl.realtime.sinks.events import EventWriter, check_events
from avsl.realtime.sinks.part_file import CONTAINERS, check_target, partial_name
from avsl.realtime.sinks.video_file import VideoWriter
from avsl.realtime.sources.film_sound import Sound
from avsl.realtime.sources.frames import Frame
from avsl.realtime.sources.video_file import SUFFIXES, open_video

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
    sound_track: int | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Report:
    """Draws on every picture of `source` what makes the sound, and writes `target`.

    Every `every`-th picture is localized, the ones between carry the newest map. When `stop` is
    set, what is done so far is completed under the name `<target>.partial.<suffix>`. Sound is
    listened to in track `sound_track`, 1 the film's first (None: the first that sounds); all of
    them are kept. `events` are written as `EventWriter` does, by their suffix.

    Raises:
        UserError: the source can't be read, or the target or the events can't be written. Nothing
            is left of it, or the fault says what is and where.
    """
    check_target(target)
    check_apart([source], [target, *([events] if events else [])])
    if events and events.absolute() == target.absolute():
        raise UserError(f"{events}: is the name of OUT, too; --events needs a file of its own")
    if events:
        check_events(events, engine.spec)
    if target.exists() and not overwrite:
        raise UserError(f"{target}: exists already; --overwrite replaces it")
    window = engine.spec.window
    began = time.monotonic()
    writer = lines = sound = unwritten = None
    video = open_video(source)
    try:
        sound = Sound(source, window.rate, 4 * window.length / window.rate, sound_track)
        writer = VideoWriter(target, video)
        if events:
            lines = EventWriter(events, engine.spec, source.name, overwrite)
        drawn = _drawn(video.frames(), sound, engine, every)
        total, count, end = video.seconds, 0, 0.0
        start: float | None = None
        for frame, localization in drawn:
            if stop is not None and stop.is_set():
                break
            if lines and not unwritten and frame.index % every == 0:
                try:
                    lines.write(localization)
                except UserError as fault:  # a film is worth more than its events
                    unwritten = fault
            writer.write(frame.picture)
            start = frame.time if start is None else start
            count, end = count + 1, frame.time
            progress(Progress(count, end - start, total))
        else:
            stop = None
        partial = stop is not None
        place = partial_name(target) if partial else None
        out = writer.finish(place, until=end if partial else float("inf"))
        writer_notes, writer = writer.notes, None
        if lines:
            try:
                if unwritten:
                    raise unwritten
                lines.close()
            except UserError as fault:
                raise UserError(f"{fault}; the film is in {out}") from None
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
        if sound:
            sound.close()


def _drawn(
    frames: Iterator[Frame], sound: Sound, engine: Engine, every: int
) -> Iterator[tuple[Frame, Localization]]:
    """The pictures in order, with what is found drawn on them."""
    first = next(frames, None)
    if first is None:
        return
    frames = itertools.chain([first], frames)
    engine = engine.for_pictures(first.picture.height, first.picture.width)
    if every == 1 and on_gpu(engine):
        from avsl.realtime.drawing.gpu_overlay import drawn_on_gpu

        yield from drawn_on_gpu(frames, sound, engine, BATCH)
        return
    speakers = speakers_for(engine.spec)
    resize, localize = Resizer(engine.spec.picture_size), Localizer(engine, speakers)
    overlay = Overlay(engine.spec.thresholds)
    for frame in frames:
        heard, picture = sound.listen(frame.time), frame.picture
        if speakers:
            speakers.watch(frame.time, picture, heard)
        if frame.index % every == 0:
            localization = localize(frame.time, resize(picture), heard)
        picture.make_writable()  # the decoder may still predict from these planes
        overlay.draw(picture, localization)
        yield frame, localization


def check_apart(sources: Iterable[Path], places: Iterable[Path]) -> None:
    """Raises UserError where something to be written is one of the films to be read, under
    whatever name: that film would be lost."""
    films = {}
    for source in sources:
        with contextlib.suppress(OSError):  # what is missing is said when it is its turn
            films[_identity(source)] = source
    for place in places:
        with contextlib.suppress(OSError):
            if film := films.get(_identity(place)):
                which = "the film itself" if film == place else f"the film itself, {film}"
                raise UserError(f"{place}: is {which}; name another place to write to")


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def targets(videos: Sequence[Path], folder: Path) -> list[Path]:
    """Where each film of several goes in a folder: its own name, in a container that can be
    written. Where two would have one name, the film that is called so has it; another one's says
    what it was (`a.avi.mp4`), or counts (`a-2.mp4`)."""

    def suffix(video: Path) -> str:
        return video.suffix if video.suffix.lower() in CONTAINERS else ".mp4"

    def names(video: Path) -> Iterator[str]:
        yield video.stem + suffix(video)
        if suffix(video) != video.suffix:
            yield video.name + suffix(video)
        yield from (f"{video.stem}-{n}{suffix(video)}" for n in itertools.count(2))

    found: dict[int, str] = {}
    taken: set[str] = set()
    for number in sorted(range(len(videos)), key=lambda n: suffix(videos[n]) != videos[n].suffix):
        # Some disks take a.mp4 and A.mp4 for one.
        name = next(name for name in names(videos[number]) if name.casefold() not in taken)
        taken.add(name.casefold())
        found[number] = name
    return [folder / found[number] for number in range(len(videos))]


def find_videos(sources: Iterable[Path]) -> list[Path]:
    """The files themselves, and for each folder the videos in it, by their suffix; each once.

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
    return list({path.absolute(): path for path in found}.values())
