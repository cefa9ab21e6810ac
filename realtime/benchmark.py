"""How close to the floor: `python -m avsl.realtime.benchmark [--live]`.

Two networks: the one that ships, and the paper's pair with random weights (or what `--engine`
names). The floor of annotating is decoding and encoding the same film with the same settings and
nothing in between. It, annotating and what that is set against (`benchmark_rivals.py`) are timed in
turn in one run, so the machine's moods cancel out. On an NVIDIA GPU, `benchmark_roofline.py` adds
how near each layer is to its limit.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from avsl.engines.backends.machine import cpu
from avsl.engines.errors import UserError, exit_on_user_error

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


def staged(source: Path, target: Path, engine: Any) -> dict[str, float]:
    """The loop of `annotate`, its parts timed one by one, in ms a picture; encoding goes on in
    x264's own threads beside the others, and what is timed of it is what the loop waits."""
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
        with stages("map"):
            localization = describe(frame.time, map_, level_db(samples[-800:]), False, thresholds)
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


def papers_pair(bundle: Path) -> Path:
    """Has the paper's pair written, by a process of its own: nothing here imports training."""
    command = [sys.executable, "-m", "avsl.train.papers_pair", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"the paper's pair can't be made: {done.stderr.strip().splitlines()[-1]}")
    return bundle


def benchmark_files(film: Path, rounds: int, engine: Any, rivals: bool) -> dict[str, Any]:
    """Times annotating a film against its floor, its stages, and, of a network, its `rivals`."""
    from avsl.realtime.annotate import annotate

    out = film.with_name("out.mp4")
    frames = pass_through(film, out)
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    stages: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
    alone: defaultdict[str, list[float]] = defaultdict(list)
    engines, plain = {"annotate": engine}, None
    if rivals:
        from avsl.realtime.benchmark_rivals import DefaultOnnxRuntime, PlainLoop

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


def report(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    networks = result["networks"]

    def row(name: str, *cells: str) -> str:
        return f"| {name} | {' | '.join(cells)} |"

    def table(title: str, rows: dict[str, Callable[[dict[str, Any]], str]]) -> list[str]:
        lines = [row(title, *(n["engine"] for n in networks)), "|---|" + "---:|" * len(networks)]
        for name, cell in rows.items():
            cells = [""] * len(networks)
            for i, network in enumerate(networks):
                with suppress(KeyError):  # a rival that was not run, or a stage that is not there
                    cells[i] = cell(network)
            if any(cells):
                lines.append(row(name, *cells))
        return [*lines, ""]

    def span(values: list[float], unit: float = 1, after: str = "") -> str:
        middle, low, high = (f"{unit * value:.{0 if unit > 1 else 1}f}" for value in values)
        return f"{middle}{after} ({low} to {high})"

    def stage(name: str) -> Callable[[dict[str, Any]], str]:
        return lambda n: (
            f"{n['stages_ms'][name]:.2f} "
            f"({100 * n['stages_ms'][name] / sum(n['stages_ms'].values()):.0f} %)"
        )

    return "\n".join(
        [
            f"{result['machine']}; {result['picture']}, every frame",
            *(f"{n['engine']}: {n['backend']}" for n in networks),
            "",
            *table(
                "frames/s",
                {
                    "decode and encode alone": lambda n: f"{n['fps']['floor']}",
                    "annotate": lambda n: f"{n['fps']['annotate']}",
                    "annotate, default ONNX Runtime": lambda n: f"{n['fps']['default']}",
                    "plain PyTorch loop": lambda n: f"{n['fps']['plain']}",
                    "annotate: share of decode and encode": lambda n: span(
                        n["share_of_floor"], 100, " %"
                    ),
                    "annotate: times the plain loop": lambda n: span(n["times_plain"]),
                },
            ),
            *table(
                "networks, ms a picture",
                {
                    "beside decoder and encoder": lambda n: f"{n['networks_ms']['annotate']}",
                    "default ONNX Runtime there": lambda n: f"{n['networks_ms']['default']}",
                    "times faster": lambda n: span(n["networks_times_default"]),
                    "alone": lambda n: f"{n['alone_ms']['annotate']}",
                    "default ONNX Runtime alone": lambda n: f"{n['alone_ms']['default']}",
                    "times faster alone": lambda n: span(n["alone_times_default"]),
                },
            ),
            *table(
                "stage, ms a picture",
                {name: stage(name) for n in networks for name in n["stages_ms"]},
            ),
            *(line for n in networks for line in n.get("roofline", {}).get("lines", [])),
        ]
    )


def command(
    seconds: Annotated[float, typer.Option(min=1, help="Length of film or session.")] = 8.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 3,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="real, pair (the paper's), drawn, both, motion, a folder; may repeat."),
    ] = None,
    backend: Annotated[str, typer.Option(help="What runs the networks.")] = "auto",
    live: Annotated[
        bool, typer.Option("--live", help="The live loop instead, on fake devices.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
    chart: Annotated[Path | None, typer.Option(help="Draw the figures here (PNG).")] = None,
) -> None:
    """Time annotating against decoding and encoding alone, against ONNX Runtime as it comes and
    a plain PyTorch loop, and each of its stages; or, live, how old the picture on the screen is."""
    result: Any
    if chart and not importlib.util.find_spec("matplotlib"):
        raise UserError("--chart needs matplotlib; pip install 'avsl[train]'")
    if live:
        from avsl.realtime import benchmark_live

        result = benchmark_live.benchmark_live(seconds, engine[0] if engine else None)
        print(f"{cpu()}\n\n{benchmark_live.report(result)}")
    else:
        result = measured(seconds, rounds, engine or ["real", "pair"], backend)
        print(report(result))
    if out:
        out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    if chart and not live:
        from avsl.realtime.benchmark_chart import draw

        draw(result, chart)


def measured(
    seconds: float, rounds: int, engines: list[str], backend: str = "auto"
) -> dict[str, Any]:
    """All figures of the engines that are asked for, on a film of 1280x720; `pair` is the paper's,
    with random weights."""
    from avsl.demos.clips import demo_scene, write_clip
    from avsl.engines import choose_engine

    able = all(importlib.util.find_spec(name) for name in ("torch", "onnx", "onnxscript"))
    if not able:
        print(
            "without PyTorch: no paper's pair, nothing to compare with (pip install 'avsl[train]')"
        )
    machine, on_gpu = cpu(), False
    if able:
        from avsl.realtime import benchmark_roofline

        on_gpu = benchmark_roofline.on_gpu()
        machine += f"; {benchmark_roofline.gpu()}" if on_gpu else "; no GPU"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film = folder / "film.mp4"
        write_clip(demo_scene(), film, seconds, rate=FPS, size=(720, 1280))
        networks = []
        for each in engines if able else (one for one in engines if one != "pair"):
            named = papers_pair(folder / "pair") if each == "pair" else each
            engine: Any = choose_engine(named, backend)
            network = hasattr(engine, "bundle")
            networks.append(benchmark_files(film, rounds, engine, able and network))
            if network and on_gpu:
                networks[-1]["roofline"] = benchmark_roofline.roofline(engine.bundle)
    return {"machine": machine, "picture": "1280x720", "networks": networks}


if __name__ == "__main__":
    with exit_on_user_error():
        typer.run(command)
