"""Films annotated for somebody at a terminal: one under a progress bar, or a whole folder."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from avsl.engines.errors import UserError, say, visible
from avsl.realtime.signals import stopping_on_signals

if TYPE_CHECKING:
    from avsl.engines import Engine
    from avsl.realtime.films import Report


def annotate_one(
    source: Path,
    target: Path,
    engine: Engine,
    every: int,
    sound_track: int | None,
    events: Path | None,
    overwrite: bool,
) -> Report:
    """Annotates one file under a progress bar and says what there is to say about it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    from avsl.realtime.films import Progress as Done
    from avsl.realtime.films import annotate

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[frames]} frames"),
        TextColumn("{task.fields[rate]:.0f} frames/s"),
        TimeLeft(),
    )
    # stdout may be where the events go.
    console = Console(stderr=True)
    quiet = not console.is_terminal
    stop = threading.Event()
    with (
        stopping_on_signals(stop) as signals,
        Progress(*columns, console=console, transient=True, disable=quiet) as bar,
    ):
        task = bar.add_task(visible(source.name), total=None, frames=0, rate=0.0)

        def progress(done: Done) -> None:
            elapsed = bar.tasks[task].elapsed or 0.0
            bar.update(
                task,
                total=done.total,
                completed=done.done,
                frames=done.frames,
                rate=done.frames / max(elapsed, 1e-3),
            )

        report = annotate(
            source,
            target,
            engine,
            every=every,
            sound_track=sound_track,
            events=events,
            overwrite=overwrite,
            progress=progress,
            stop=stop,
        )
    for note in report.notes:
        say(f"note: {note}")
    if report.partial:
        say(f"stopped: what was done is in {report.out}")
        sys.exit(128 + signals[0])
    return report


def _done(source: Path, report: Report) -> None:
    rate = report.frames / max(report.seconds, 1e-3)
    say(f"{source} -> {report.out} ({report.frames} frames, {rate:.0f} frames/s)")


def annotate_all(
    sources: list[Path],
    out: Path,
    engine: Engine,
    every: int,
    sound_track: int | None,
    events: Path | None,
    overwrite: bool,
) -> None:
    """Annotates one film, or several into a folder, one that fails beside the others.

    Raises:
        UserError: it couldn't be begun, or the only one failed.
    """
    from avsl.realtime.films import check_apart, find_videos, targets

    videos = find_videos(sources)
    if len(sources) == 1 and not sources[0].is_dir() and not _is_folder(out):
        _done(
            videos[0], annotate_one(videos[0], out, engine, every, sound_track, events, overwrite)
        )
        return
    if not _is_folder(out):
        raise UserError(f"{out}: several videos need a folder to go to; write -o {out.stem}/")
    if events is not None:
        raise UserError(f"{events}: --events is for one video; give one FILE and one OUT")
    places = targets(videos, out)
    check_apart(videos, places)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: can't be made; {error.strerror}") from None
    _say_what_is_left_out(sources, out)
    there, failed = 0, []
    for video, place in zip(videos, places, strict=True):
        if place.exists() and not overwrite:
            there += 1
            continue
        try:
            _done(video, annotate_one(video, place, engine, every, sound_track, None, overwrite))
        except UserError as error:
            say(f"error: {error}")
            failed.append(video)
    if there:
        say(f"{there} of {len(videos)} there already in {out}; --overwrite makes them anew")
    if failed:
        names = ", ".join(str(video) for video in failed)
        say(f"{len(failed)} of {len(videos)} failed: {names}")
        sys.exit(2 if len(videos) == 1 else 1)


def _say_what_is_left_out(sources: list[Path], out: Path) -> None:
    """A folder stands for the films in it, not for those in folders of its own."""
    for source in sources:
        inner = [
            path.name
            for path in (sorted(source.iterdir()) if source.is_dir() else [])
            if path.is_dir() and not path.name.startswith(".") and not path.samefile(out)
        ]
        if inner:
            names = ", ".join(inner)
            say(f"note: {source}: folders in it are left out: {names}")


def _is_folder(path: Path) -> bool:
    """Whether an OUT is meant as a folder: it is one, or is named like one."""
    return path.is_dir() or not (path.suffix or path.exists())
