"""How close to the floor: `python -m avsl.realtime.benchmark [--live] [--json FILE]`.

The floor of annotating is decoding and encoding the same film with the same settings and nothing
in between; both are timed in turn in one run, so the machine's moods cancel out.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from avsl.engines.errors import exit_on_user_error
from avsl.engines.machine import cpu


class Stages:
    """Seconds spent in each named part of a loop."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start


def pass_through(source: Path, target: Path) -> int:
    """Decodes and encodes a film, nothing in between; returns the number of frames."""
    from avsl.realtime.media_in import open_video
    from avsl.realtime.media_out import VideoWriter

    video = open_video(source)
    writer = VideoWriter(target, video)
    count = 0
    for frame in video.frames():
        writer.write(frame.picture)
        count += 1
    writer.finish()
    video.close()
    return count


def staged(source: Path, target: Path, engine: Any) -> tuple[int, dict[str, float]]:
    """The loop of `annotate`, its parts timed one by one; encoding goes on in x264's own threads
    beside the others, and what is timed of it is what the loop waits."""
    from avsl.engines import Resizer, describe, level_db
    from avsl.realtime.media_in import Sound, open_video
    from avsl.realtime.media_out import VideoWriter
    from avsl.realtime.overlay import Overlay

    window, thresholds = engine.spec.window, engine.spec.thresholds
    stages, count = Stages(), 0
    resize, overlay = Resizer(engine.spec.picture_size), Overlay(thresholds)
    video, sound = open_video(source), Sound(source, window.rate, 4.0)
    writer = VideoWriter(target, video)
    frames = video.frames()
    hop, embedding = None, None
    maps = None if hasattr(engine, "embed") else engine.maps()
    while True:
        with stages("decode"):
            frame = next(frames, None)
        if frame is None:
            break
        with stages("hear"):
            timeline = sound.listen(frame.time)
            samples = timeline.read(window.end(frame.time), window.length)
        with stages("resize"):
            picture = resize(frame.picture)
        if maps:
            with stages("motion"):
                maps.watch(frame.time, picture, timeline)
                map_ = maps.map()
        else:
            with stages("sound network"):
                if hop != window.end(frame.time):
                    hop, embedding = window.end(frame.time), engine.embed(samples)
            with stages("picture network"):
                map_ = engine.localize(picture, embedding)
        with stages("draw"):
            localization = describe(frame.time, map_, level_db(samples[-800:]), False, thresholds)
            frame.picture.make_writable()
            overlay.draw(frame.picture, localization)
        with stages("encode"):
            writer.write(frame.picture)
        count += 1
    with stages("encode"):
        writer.finish()
    video.close()
    sound.close()
    return count, {name: 1000 * s / count for name, s in stages.seconds.items()}


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def benchmark_files(seconds: float, rounds: int, engine_name: str | None) -> dict[str, Any]:
    """Times annotating against its floor at 1280x720, and its stages."""
    from avsl.demos.clips import demo_scene, write_clip
    from avsl.engines import choose_engine
    from avsl.realtime.annotate import annotate

    engine = choose_engine(engine_name)
    with tempfile.TemporaryDirectory() as folder:
        film, out = Path(folder) / "film.mp4", Path(folder) / "out.mp4"
        write_clip(demo_scene(), film, seconds, size=(720, 1280))
        frames = pass_through(film, out)
        floors, ours = [], []
        for _ in range(rounds):
            out.unlink()
            floors.append(timed(lambda: pass_through(film, out)))
            ours.append(timed(lambda: annotate(film, out, engine, overwrite=True)))
        _, stages = staged(film, out, engine)
    ratios = [floor / own for floor, own in zip(floors, ours, strict=True)]
    return {
        "cpu": cpu(),
        "engine": f"{engine.spec.name} {engine.spec.version}",
        "picture": "1280x720",
        "frames": frames,
        "decode_encode_fps": round(frames / statistics.median(floors), 1),
        "annotate_fps": round(frames / statistics.median(ours), 1),
        "share_of_floor": round(statistics.median(ratios), 3),
        "share_of_floor_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "stages_ms": {name: round(ms, 3) for name, ms in stages.items()},
    }


def report(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    stages = result["stages_ms"]
    whole = sum(stages.values())
    low, high = result["share_of_floor_range"]
    return "\n".join(
        [
            f"{result['cpu']}; engine {result['engine']}; {result['picture']}, every frame",
            "",
            "| | frames/s |",
            "|---|---:|",
            f"| decode and encode alone | {result['decode_encode_fps']} |",
            f"| annotate | {result['annotate_fps']} |",
            f"| share of the floor | {100 * result['share_of_floor']:.0f} % "
            f"({100 * low:.0f} to {100 * high:.0f}) |",
            "",
            "| stage | ms a frame | share |",
            "|---|---:|---:|",
            *(f"| {name} | {ms:.2f} | {100 * ms / whole:.0f} % |" for name, ms in stages.items()),
        ]
    )


def command(
    seconds: Annotated[float, typer.Option(min=1, help="Length of film or session.")] = 8.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 3,
    engine: Annotated[str | None, typer.Option(help="Engine folder, motion, or both.")] = None,
    live: Annotated[
        bool, typer.Option("--live", help="The live loop instead, on fake devices.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
) -> None:
    """Time annotating against decoding and encoding alone, and each of its stages; or, live, how
    old the picture on the screen is."""
    result: Any
    if live:
        from avsl.realtime import benchmark_live

        result = benchmark_live.benchmark_live(seconds, engine)
        print(f"{cpu()}\n\n{benchmark_live.report(result)}")
    else:
        result = benchmark_files(seconds, rounds, engine)
        print(report(result))
    if out:
        out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    with exit_on_user_error():
        typer.run(command)
