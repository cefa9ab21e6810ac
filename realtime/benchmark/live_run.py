"""How fresh, how fast, at what cost: the live loop on fake devices, 30 pictures a second.

The fake devices are those of the tests (`tests/devices`), so this runs in a checkout: a camera
that OpenCV's V4L2 backend opens, a PulseAudio source, an X server. The session is `run_live` with
a window in a process of its own, whose CPU time is counted; the devices' isn't.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from avsl.engines.errors import UserError, exit_on_user_error

SIZES = ((640, 480), (1280, 720))
WARM_UP_S = 2.0
RIG = Path(__file__).resolve().parents[2] / "tests" / "devices"


def benchmark_live(
    seconds: float = 30.0, engine: str | None = None, sizes: tuple[tuple[int, int], ...] = SIZES
) -> list[dict[str, Any]]:
    """Runs a session of so many seconds at each size and returns its figures.

    Raises:
        UserError: this is no checkout, or a system package is missing.
    """
    if not (RIG / "rig.py").exists():
        raise UserError("the live benchmark needs a checkout: its devices lie in tests/devices")
    sys.path.insert(0, str(RIG))
    import rig  # type: ignore[import-not-found]

    try:
        rig.need_opencv()
        rig.need_portaudio()
        with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
            clip, sound = _scene()
            start = float(int(time.monotonic()) + 2)
            camera = stack.enter_context(rig.fake_camera(Path(name), clip, start))
            microphone = stack.enter_context(rig.fake_microphone())
            microphone.play(sound, start)
            env = {**camera.env, **microphone.env, **stack.enter_context(rig.fake_display())}
            return [_session(rig, env, size, seconds, engine) for size in sizes]
    except rig.MissingPackage as missing:
        raise UserError(str(missing)) from None


def report(results: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    rows = [
        f"| {r['size']} | {r['pictures']} | {r['skipped']} | {r['localized_per_s']:.1f} | "
        + " / ".join(f"{r[f'age_p{p}_ms']:.0f}" for p in (50, 95, 99))
        + f" | {r['cpu_percent']:.0f} % | {r['memory_mb']:.0f} | {r['memory_mb_per_h']:+.0f} |"
        for r in results
    ]
    return "\n".join(
        [
            "| camera | pictures | skipped | localized/s | age ms p50/p95/p99 | CPU | MB | MB/h |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
            *rows,
        ]
    )


def _scene() -> tuple[Any, Any]:
    """Two seconds in which something sounds all the time, so that every picture is worked on."""
    from avsl.demos.scenes.clips import demo_scene

    scene = demo_scene()
    start = scene.turns[0].start
    times = start + np.arange(60) / 30
    clip = np.stack([scene.render(t, 720, 1280)[0][..., ::-1] for t in times])
    return clip, scene.sound(start, 2.0, 48_000)


def _session(
    rig: Any, env: dict[str, str], size: tuple[int, int], seconds: float, engine: str | None
) -> dict[str, Any]:
    options = {"size": size, "duration": seconds} | ({"engine": engine} if engine else {})
    command = [sys.executable, "-m", "avsl.realtime.benchmark.live_run", json.dumps(options)]
    memory: list[tuple[float, float]] = []
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with rig.running(command, env, **pipes) as process:
        began = time.monotonic()
        while process.poll() is None:
            with contextlib.suppress(OSError, StopIteration):
                memory.append((time.monotonic() - began, _resident_mb(process.pid)))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(min(5.0, seconds / 20))
        out, said = process.communicate()
    if process.returncode:
        raise UserError(f"the session failed: {said.strip().splitlines()[-1]}")
    figures: dict[str, Any] = json.loads(out)
    # What is loaded and what queues fill in the first minute is no growth.
    late = np.array([m for m in memory if m[0] > min(60, seconds / 3)][:-1])
    figures["memory_mb"] = float(late[-1, 1])
    figures["memory_mb_per_h"] = 3600 * float(np.polyfit(late[:, 0], late[:, 1], 1)[0])
    return figures


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def _measured(options: dict[str, Any]) -> dict[str, Any]:
    """Runs one session here and returns its figures."""
    from avsl.realtime.live import LiveOptions, run_live  # before anything that imports av

    size = tuple(options.pop("size"))
    done = run_live(LiveOptions(size=size, **options))
    ages = np.array(done.ages_ms)[round(30 * WARM_UP_S) :]
    return {
        "size": "{}x{}".format(*size),
        "pictures": done.pictures,
        "skipped": done.skipped,
        "localized_per_s": done.localized / done.seconds,
        **{f"age_p{p}_ms": float(np.percentile(ages, p)) for p in (50, 95, 99)},
        "cpu_percent": 100 * done.cpu_seconds / done.seconds,
    }


if __name__ == "__main__":
    with exit_on_user_error():
        print(json.dumps(_measured(json.loads(sys.argv[1]))))
