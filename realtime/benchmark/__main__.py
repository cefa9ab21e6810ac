"""How close to the floor: `python -m avsl.realtime.benchmark [--live]`.

Two networks: the one that ships, and the paper's pair with random weights (or what `--engine`
names). The floor of annotating is decoding and encoding the same film with the same settings and
nothing in between. It, annotating and what that is set against (`rivals.py`) are timed in
turn in one run, so the machine's moods cancel out. On an NVIDIA GPU, `roofline.py` adds
how near each layer is to its limit.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from avsl.engines.backends.machine import cpu
from avsl.engines.errors import UserError, exit_on_user_error
from avsl.realtime.benchmark.film import FPS, benchmark_files
from avsl.realtime.benchmark.report import report


def papers_pair(bundle: Path) -> Path:
    """Has the paper's pair written, by a process of its own: nothing here imports training."""
    command = [sys.executable, "-m", "avsl.train.papers_pair", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"the paper's pair can't be made: {done.stderr.strip().splitlines()[-1]}")
    return bundle


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
        from avsl.realtime.benchmark import live_run

        result = live_run.benchmark_live(seconds, engine[0] if engine else None)
        print(f"{cpu()}\n\n{live_run.report(result)}")
    else:
        result = measured(seconds, rounds, engine or ["real", "pair"], backend)
        print(report(result))
    if out:
        out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    if chart and not live:
        from avsl.realtime.benchmark.chart import draw

        draw(result, chart)


def measured(
    seconds: float, rounds: int, engines: list[str], backend: str = "auto"
) -> dict[str, Any]:
    """All figures of the engines that are asked for, on a film of 1280x720; `pair` is the paper's,
    with random weights."""
    from avsl.demos.scenes.clips import demo_scene, write_clip
    from avsl.engines import choose_engine

    able = all(importlib.util.find_spec(name) for name in ("torch", "onnx", "onnxscript"))
    if not able:
        print(
            "without PyTorch: no paper's pair, nothing to compare with (pip install 'avsl[train]')"
        )
    machine, on_gpu = cpu(), False
    if able:
        from avsl.realtime.benchmark import roofline

        on_gpu = roofline.on_gpu()
        machine += f"; {roofline.gpu()}" if on_gpu else "; no GPU"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film = folder / "film.mp4"
        write_clip(demo_scene(), film, seconds, rate=FPS, size=(720, 1280))
        networks = []
        for each in engines if able else (one for one in engines if one != "pair"):
            named = papers_pair(folder / "pair") if each == "pair" else each
            engine: Any = choose_engine(named, backend)
            network = hasattr(engine, "bundle")
            # What has names for things is built by others, and its networks can't be rebuilt here.
            rivals = able and network and not engine.spec.kinds
            networks.append(benchmark_files(film, rounds, engine, rivals))
            if network and on_gpu:
                networks[-1]["roofline"] = roofline.roofline(engine.bundle)
    return {"machine": machine, "picture": "1280x720", "networks": networks}


if __name__ == "__main__":
    with exit_on_user_error():
        typer.run(command)
