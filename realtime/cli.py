"""`avsl-live`: files and cameras in, pictures with what sounds out."""

from __future__ import annotations

import importlib.metadata
import math
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avsl.engines.errors import UserError, exit_on_user_error
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
            help="What runs the engine: auto, tensorrt, torch, openvino or onnxruntime.",
        ),
    ] = "auto",
    events: Annotated[
        Path | None, typer.Option(help="Write what is found as JSON lines; - is the terminal.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")] = False,
    every: Annotated[
        int, typer.Option(min=1, help="Localize every N-th picture.", rich_help_panel=FILES)
    ] = 1,
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
            metavar="MS", help="How much later than the picture sound comes.", rich_help_panel=LIVE
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
    del version
    if list_devices:
        from avsl.realtime.sources.devices import list_devices as print_devices

        print_devices()
    elif camera is not None:
        if files:
            raise UserError(f"{files[0]}: files and --camera don't go together; leave out one")
        from avsl.realtime.live import LiveOptions, run_live  # before anything else of ours

        options = LiveOptions(
            camera=camera,
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
        print(run_live(options).line, file=sys.stderr)
    elif demo:
        _demo(_open(engine or "drawn", backend))
    elif not files:
        raise UserError("no FILE and no --camera given; avsl-live --help shows both")
    elif verify:
        _verify(files, _open(engine, backend), out)
    else:
        if out is None:
            raise UserError(f"{files[0]}: where to? add -o OUT, a video file or a folder")
        _annotate_all(files, out, _open(engine, backend), every, events, overwrite)


def _open(name: str | None, backend: str) -> Engine:
    """The engine for files, whose pictures may go through it many at once."""
    from avsl.engines import choose_engine
    from avsl.engines.backends.plans import FILE_BATCH

    def say(line: str) -> None:
        print(f"avsl-live: {line}", file=sys.stderr)

    return choose_engine(name, backend, batch=FILE_BATCH, prepare=True, say=say)


def _annotate(
    source: Path,
    target: Path,
    engine: Engine,
    every: int = 1,
    events: Path | None = None,
    overwrite: bool = False,
) -> Report:
    """Annotates one file under a progress bar and says what there is to say about it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    from avsl.realtime.films import Progress as Done
    from avsl.realtime.films import annotate

    columns = (
        TextColumn("{task.description}"),
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
        task = bar.add_task(source.name, total=None, frames=0, rate=0.0)

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
            events=events,
            overwrite=overwrite,
            progress=progress,
            stop=stop,
        )
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    if report.partial:
        print(f"stopped: what was done is in {report.out}", file=sys.stderr)
        sys.exit(128 + signals[0])
    return report


def _done(source: Path, report: Report) -> None:
    rate = report.frames / max(report.seconds, 1e-3)
    print(
        f"{source} -> {report.out} ({report.frames} frames, {rate:.0f} frames/s)", file=sys.stderr
    )


def _annotate_all(
    sources: list[Path],
    out: Path,
    engine: Engine,
    every: int,
    events: Path | None,
    overwrite: bool,
) -> None:
    from avsl.realtime.films import check_apart, find_videos, targets

    videos = find_videos(sources)
    if len(sources) == 1 and not sources[0].is_dir() and not _is_folder(out):
        _done(videos[0], _annotate(videos[0], out, engine, every, events, overwrite))
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
            _done(video, _annotate(video, place, engine, every, None, overwrite))
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            failed.append(video)
    if there:
        print(
            f"{there} of {len(videos)} there already in {out}; --overwrite makes them anew",
            file=sys.stderr,
        )
    if failed:
        names = ", ".join(str(video) for video in failed)
        print(f"{len(failed)} of {len(videos)} failed: {names}", file=sys.stderr)
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
            print(f"note: {source}: folders in it are left out: {names}", file=sys.stderr)


def _is_folder(path: Path) -> bool:
    """Whether an OUT is meant as a folder: it is one, or is named like one."""
    return path.is_dir() or not (path.suffix or path.exists())


def _demo(engine: Engine) -> None:
    import tempfile

    from rich.console import Console
    from rich.progress import Progress

    from avsl.demos.scenes.clips import (
        DEMO_RATE,
        DEMO_SECONDS,
        demo_scene,
        moving_demo_scene,
        write_clip,
    )
    from avsl.demos.scenes.movers import SECONDS

    # Motion alone knows nothing of the drawn families: it is shown things that move as they sound.
    moving = engine.spec.name == "motion"
    seconds = SECONDS if moving else DEMO_SECONDS
    target = Path("avsl-demo.mp4")
    # Run once more, the demo makes the same file again: there is nothing of the user's to lose.
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "scene.mp4"
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("drawing a scene", total=seconds * DEMO_RATE)
            scene = moving_demo_scene() if moving else demo_scene()
            write_clip(scene, clip, seconds, progress=lambda n: bar.update(task, completed=n))
        _annotate(clip, target, engine, overwrite=True)
    what = (
        "two things move, one with the sound you hear, then the other"
        if moving
        else "four drawn things sound in turn, at the end two at once"
    )
    print(
        f"{target}: {what}; what sounds glows.\n"
        "Next: avsl-live YOUR.mp4 -o out.mp4, or avsl-live --camera 0"
    )


def _verify(files: list[Path], engine: Engine, out: Path | None) -> None:
    from avsl.realtime.verify import tell, verify

    if len(files) > 2:
        raise UserError(f"{files[2]}: --verify takes FILE and one OTHER")
    strip = out or Path("avsl-verify.png")
    tell(verify(files[0], files[1] if len(files) == 2 else None, engine, strip))


def main() -> None:
    """Runs the program; a fault that a user can mend is one line and exit code 2."""
    with exit_on_user_error():
        app()


if __name__ == "__main__":
    main()
