"""`avsl-live`: files and cameras in, pictures with what sounds out."""

from __future__ import annotations

import importlib.metadata
import math
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avsl.engines.errors import UserError, exit_on_user_error, say, visible
from avsl.realtime.modes import FILMS, mode_of
from avsl.realtime.signals import stopping_on_signals

if TYPE_CHECKING:
    from avsl.engines import Engine
    from avsl.realtime.films import Report

# What each way to run needs is imported there: a camera's window wants cv2 before av, and a file
# wants neither cv2 nor sounddevice.

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

FILES, LIVE = "Video files", "Camera and microphone"


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"avsl {importlib.metadata.version('avsl')}")
        raise typer.Exit


@app.command(no_args_is_help=True)
def live(
    context: typer.Context,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Videos, or folders of videos.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Where to: a video file, or a folder for several."),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="both (the default), real, drawn, motion, or an engine's folder.",
        ),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What runs the engine: auto, tensorrt, tensorrt-rtx, torch, openvino or "
            "onnxruntime.",
        ),
    ] = "auto",
    events: Annotated[
        Path | None, typer.Option(help="Write what is found as JSON lines; - is the terminal.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")] = False,
    every: Annotated[
        int, typer.Option(min=1, help="Localize every N-th picture.", rich_help_panel=FILES)
    ] = 1,
    sound_track: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Hear the film's sound track N.",
            rich_help_panel=FILES,
        ),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Make and annotate a scene.", rich_help_panel=FILES)
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Does the engine listen? FILE with its own and with other sounds.",
            rich_help_panel=FILES,
        ),
    ] = False,
    camera: Annotated[
        str | None,
        typer.Option(help="Number, device path, or http/rtsp address.", rich_help_panel=LIVE),
    ] = None,
    microphone: Annotated[
        str | None, typer.Option(help="Name, number, or none.", rich_help_panel=LIVE)
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Write picture and sound as captured.", rich_help_panel=LIVE),
    ] = None,
    in_step: Annotated[
        bool,
        typer.Option(
            "--in-step",
            help="Show the picture that the map was made from, not the newest.",
            rich_help_panel=LIVE,
        ),
    ] = False,
    av_offset: Annotated[
        float,
        typer.Option(
            metavar="MS", help="How much later sound comes than pictures.", rich_help_panel=LIVE
        ),
    ] = 0.0,
    no_window: Annotated[
        bool,
        typer.Option(
            "--no-window", help="Only write what -o, --record, --events ask.", rich_help_panel=LIVE
        ),
    ] = False,
    duration: Annotated[
        float | None,
        typer.Option(metavar="S", min=0.1, help="Stop by itself.", rich_help_panel=LIVE),
    ] = None,
    list_devices: Annotated[
        bool,
        typer.Option("--list-devices", help="Cameras and microphones.", rich_help_panel=LIVE),
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    """Shows which thing in a picture makes the sound you hear.

    avsl-live --demo

    avsl-live film.mp4 -o out.mp4

    avsl-live --camera 0
    """
    del version, list_devices, demo, verify  # `mode_of` asks for them
    sources = context.get_parameter_source
    given = [name for name in context.params if getattr(sources(name), "name", "") == "COMMANDLINE"]
    mode = mode_of(given)
    films = files or []
    if mode == "list_devices":
        from avsl.realtime.sources.devices import list_devices as print_devices

        print_devices()
    elif mode == "camera":
        from avsl.realtime.live import LiveOptions, run_live  # before anything else of ours

        options = LiveOptions(
            camera=camera or "",
            microphone=microphone,
            out=out,
            record=record,
            events=events,
            overwrite=overwrite,
            in_step=in_step,
            av_offset_ms=av_offset,
            window=not no_window,
            engine=engine,
            backend=backend,
            duration=duration or math.inf,
        )
        say(run_live(options).line)
    elif mode == "demo":
        _demo(out, engine or "drawn", backend, every, events, overwrite)
    elif mode == "verify":
        _verify(films, engine, backend, out, overwrite)
    elif mode == FILMS:
        if out is None:
            raise UserError(f"{films[0]}: where to? add -o OUT, a video file or a folder")
        opened = _open(engine, backend, films)
        _annotate_all(films, out, opened, every, sound_track, events, overwrite)


def _open(name: str | None, backend: str, films: list[Path]) -> Engine:
    """The engine for files, whose pictures may go through it many at once. How it runs is said
    where there is something to run it on."""
    from avsl.engines import choose_engine
    from avsl.engines.backends.plans import FILE_BATCH

    lines: list[str] = []
    engine = choose_engine(name, backend, batch=FILE_BATCH, prepare=True, say=lines.append)
    if any(os.path.lexists(film) for film in films):
        for line in lines:
            say(f"avsl-live: {line}")
    return engine


def _annotate(
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


def _annotate_all(
    sources: list[Path],
    out: Path,
    engine: Engine,
    every: int,
    sound_track: int | None,
    events: Path | None,
    overwrite: bool,
) -> None:
    from avsl.realtime.films import check_apart, find_videos, targets

    videos = find_videos(sources)
    if len(sources) == 1 and not sources[0].is_dir() and not _is_folder(out):
        _done(videos[0], _annotate(videos[0], out, engine, every, sound_track, events, overwrite))
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
            _done(video, _annotate(video, place, engine, every, sound_track, None, overwrite))
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


def _demo(
    out: Path | None,
    name: str,
    backend: str,
    every: int,
    events: Path | None,
    overwrite: bool,
) -> None:
    import tempfile

    from rich.console import Console
    from rich.progress import Progress

    from avsl.realtime.demo import TARGET, check_demo, draw_demo

    target = out or TARGET
    check_demo(target, overwrite)
    if events and events.is_file() and not overwrite:
        raise UserError(f"{events}: exists already; --overwrite replaces it")
    engine = _open(name, backend, [Path()])
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "scene.mp4"
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("drawing a scene", total=1.0)
            moving = engine.spec.name == "motion"
            what = draw_demo(clip, moving, lambda share: bar.update(task, completed=share))
        _annotate(clip, target, engine, every, None, events, overwrite=True)
    print(
        f"{visible(str(target))}: {what}; what sounds glows.\n"
        "Next: avsl-live YOUR.mp4 -o out.mp4, or avsl-live --camera 0",
        file=sys.stderr if events else sys.stdout,
    )


def _verify(
    films: list[Path], name: str | None, backend: str, out: Path | None, overwrite: bool
) -> None:
    from avsl.realtime.verify import tell, verify

    if not films:
        raise UserError("--verify takes FILE and one OTHER; name a FILE")
    if len(films) > 2:
        raise UserError(f"{films[2]}: --verify takes FILE and one OTHER")
    if out and out.exists() and not overwrite:
        raise UserError(f"{out}: exists already; --overwrite replaces it")
    strip = out or Path("avsl-verify.png")
    other = films[1] if len(films) == 2 else None
    tell(verify(films[0], other, _open(name, backend, films), strip))


def main() -> None:
    """Runs the program; a fault that a user can mend is one line and exit code 2."""
    with exit_on_user_error():
        app()


if __name__ == "__main__":
    main()
