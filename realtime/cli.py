"""`avsl-live`: files and cameras in, pictures with what sounds out."""

from __future__ import annotations

import importlib.metadata
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avsl.engines.errors import UserError, exit_on_user_error, say, visible
from avsl.realtime.modes import FILMS, mode_of
from avsl.realtime.progress import annotate_all, annotate_one

if TYPE_CHECKING:
    from avsl.engines import Engine

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
        typer.Option("-o", "--out", help="Where to: a video, or a folder for several."),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="both (the default), real, small, drawn, motion, or an engine's folder.",
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
    only: Annotated[
        str | None, typer.Option(metavar="KINDS", help="Hear only these: dog,acoustic guitar.")
    ] = None,
    ignore: Annotated[str | None, typer.Option(metavar="KINDS", help="Never hear these.")] = None,
    events: Annotated[
        Path | None,
        typer.Option(help="What is found, or who spoke: .rttm, .srt."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")] = False,
    every: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Localize every N-th picture.", rich_help_panel=FILES
        ),
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
        bool,
        typer.Option(
            "--demo",
            help="Annotate our film; or: --demo drawn",
            rich_help_panel=FILES,
        ),
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
            help="Show the picture that the map is of.",
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
            "--no-window", help="Only write -o, --record, --events.", rich_help_panel=LIVE
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
    list_kinds: Annotated[
        bool, typer.Option("--list-kinds", help="What the engine knows by name.")
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
    del version, list_devices, list_kinds, verify  # `mode_of` asks for them
    sources = context.get_parameter_source
    given = [name for name in context.params if getattr(sources(name), "name", "") == "COMMANDLINE"]
    films = files or []
    drawn = demo and films == [Path("drawn")]  # the one word that --demo takes
    mode = mode_of([name for name in given if name != "files" or not drawn])
    if mode == "list_devices":
        from avsl.realtime.sources.devices import list_devices as print_devices

        print_devices()
    elif mode == "list_kinds":
        from avsl.engines import kinds_of

        print("\n".join(kinds_of(engine)))
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
            only=_words(only),
            ignore=_words(ignore),
            duration=duration or math.inf,
        )
        say(run_live(options).line)
    elif mode == "demo":
        _demo(out, engine or ("drawn" if drawn else None), backend, every, events, overwrite, drawn)
    elif mode == "verify":
        _verify(films, engine, backend, out, overwrite)
    elif mode == FILMS:
        if out is None:
            raise UserError(f"{films[0]}: where to? add -o OUT, a video file or a folder")
        opened = _open(engine, backend, films, _words(only), _words(ignore))
        annotate_all(films, out, opened, every, sound_track, events, overwrite)


def _words(listed: str | None) -> tuple[str, ...]:
    return () if listed is None else tuple(listed.split(","))


def _open(
    name: str | None,
    backend: str,
    films: list[Path],
    only: tuple[str, ...] = (),
    ignore: tuple[str, ...] = (),
) -> Engine:
    """The engine for files, whose pictures may go through it many at once. How it runs is said
    where there is something to run it on."""
    from avsl.engines import choose_engine
    from avsl.engines.backends.plans import FILE_BATCH

    lines: list[str] = []
    engine = choose_engine(
        name,
        backend,
        batch=FILE_BATCH,
        prepare=True,
        only=only,
        ignore=ignore,
        say=lines.append,
    )
    if any(os.path.lexists(film) for film in films):
        for line in lines:
            say(f"avsl-live: {line}")
    return engine


def _demo(
    out: Path | None,
    name: str | None,
    backend: str,
    every: int,
    events: Path | None,
    overwrite: bool,
    drawn: bool,
) -> None:
    import tempfile

    from avsl.realtime.demo import TARGET, check_demo, demo_film

    target = out or TARGET
    check_demo(target, overwrite)
    if events and events.is_file() and not overwrite:
        raise UserError(f"{events}: exists already; --overwrite replaces it")
    engine = _open(name, backend, [Path()])
    with tempfile.TemporaryDirectory() as folder:
        film, what = demo_film(engine, drawn, Path(folder))
        annotate_one(film, target, engine, every, None, events, overwrite=True)
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
