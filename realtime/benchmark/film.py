"""Annotating a film, timed against its floor, part by part, and against its rivals."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

FPS = 30


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
    from avsl.realtime.sinks.video_file import VideoWriter
    from avsl.realtime.sources.video_file import open_video

    video = open_video(source)
    writer = VideoWriter(target, video)
    count = 0
    for frame in video.frames():
        writer.write(frame.picture)
        count += 1
    writer.finish()
    video.close()
    return count


def staged(source: Path, target: Path, engine: Any) -> dict[str, float]:
    """The loop of `annotate`, its parts timed one by one, in ms a picture; encoding goes on in
    x264's own threads beside the others, and what is timed of it is what the loop waits."""
    from avsl.engines import Resizer, describe, level_db
    from avsl.engines.engine import named
    from avsl.realtime.drawing.overlay import Overlay
    from avsl.realtime.sinks.video_file import VideoWriter
    from avsl.realtime.sources.film_sound import Sound
    from avsl.realtime.sources.video_file import open_video

    window, thresholds = engine.spec.window, engine.spec.thresholds
    stages, count = Stages(), 0
    video, sound = open_video(source), Sound(source, window.rate, 4.0)
    engine = engine.for_pictures(video.height, video.width)
    resize, overlay = Resizer(engine.spec.picture_size), Overlay(thresholds)
    writer = VideoWriter(target, video)
    frames = video.frames()
    hop: int | None = None
    embedding: Any = None
    names = None
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
                if engine.spec.kinds:
                    map_, kinds = engine.localize_kinds(picture, embedding)
                    names = named(engine.spec, kinds, embedding)
                else:
                    map_ = engine.localize(picture, embedding)
        with stages("map"):
            level = level_db(samples[-800:])
            localization = describe(frame.time, map_, level, False, thresholds, named=names)
        with stages("overlay"):
            frame.picture.make_writable()
            overlay.draw(frame.picture, localization)
        with stages("encode"):
            writer.write(frame.picture)
        count += 1
    with stages("encode"):
        writer.finish()
    video.close()
    sound.close()
    return {name: 1000 * s / count for name, s in stages.seconds.items()}


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def benchmark_files(film: Path, rounds: int, engine: Any, rivals: bool) -> dict[str, Any]:
    """Times annotating a film against its floor, its stages, and, of a network, its `rivals`."""
    from avsl.realtime.films import annotate

    out = film.with_name("out.mp4")
    frames = pass_through(film, out)
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    stages: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
    alone: defaultdict[str, list[float]] = defaultdict(list)
    engines, plain = {"annotate": engine}, None
    if rivals:
        from avsl.realtime.benchmark.rivals import DefaultOnnxRuntime, PlainLoop

        engines["default"] = DefaultOnnxRuntime(engine.bundle)
        plain = PlainLoop(engine.bundle)
    for _ in range(rounds):
        out.unlink()
        seconds["floor"].append(timed(lambda: pass_through(film, out)))
        for name, one in engines.items():
            run = partial(annotate, film, out, one, overwrite=True)
            seconds[name].append(timed(run))
            stages[name].append(staged(film, out, one))
            if plain:
                alone[name].append(networks_alone(one))
        if plain:
            seconds["plain"].append(timed(lambda: plain(film, out)))

    def ratio(over: list[float], under: list[float]) -> list[float]:
        """Median, least and most of the rounds' ratios."""
        ratios = [a / b for a, b in zip(over, under, strict=True)]
        return [round(f(ratios), 3) for f in (statistics.median, min, max)]

    def networks(name: str) -> list[float]:
        return [sum(ms for part, ms in row.items() if "network" in part) for row in stages[name]]

    found: dict[str, Any] = {
        "engine": f"{engine.spec.name} {engine.spec.version}",
        "backend": getattr(engine, "why", engine.spec.name),
        "frames": frames,
        "fps": {name: round(frames / statistics.median(s), 1) for name, s in seconds.items()},
        "share_of_floor": ratio(seconds["floor"], seconds["annotate"]),
        "stages_ms": {
            name: round(statistics.median(row[name] for row in stages["annotate"]), 3)
            for name in stages["annotate"][0]
        },
    }
    if plain:
        found |= {
            "times_plain": ratio(seconds["plain"], seconds["annotate"]),
            "networks_ms": {n: round(statistics.median(networks(n)), 2) for n in engines},
            "networks_times_default": ratio(networks("default"), networks("annotate")),
            "alone_ms": {n: round(statistics.median(alone[n]), 2) for n in engines},
            "alone_times_default": ratio(alone["default"], alone["annotate"]),
        }
    return found


def networks_alone(engine: Any) -> float:
    """ms a picture of both networks with nothing beside them, sound being encoded once per hop."""
    import numpy as np

    spec, rng = engine.spec, np.random.default_rng(0)
    picture = rng.integers(0, 256, (*spec.picture_size, 3), np.uint8)
    samples = rng.normal(0, 0.1, spec.window.length).astype(np.float32)
    hops = min(1.0, spec.window.rate / spec.window.hop / FPS)
    embedding = engine.embed(samples)
    sound = [timed(lambda: engine.embed(samples)) for _ in range(10)]
    seen = [timed(lambda: engine.localize(picture, embedding)) for _ in range(10)]
    return 1000 * (hops * statistics.median(sound) + statistics.median(seen))
