"""The live loop on devices that drivers' real interfaces open: what it says, and in step."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from fake_engine import FakeEngine
from live_process import PlugIn, StartLive
from rig import Env, FakeMicrophone, http_camera, running
from scene import clicks, coloured_things, flashes, their_tones

from avsl.demos.scenes import Scene
from avsl.demos.scenes.clips import DEMO_SECONDS, demo_scene, moving_demo_scene
from avsl.demos.scenes.movers import SECONDS, MovingScene
from avsl.engines import Engine, open_engine
from avsl.engines.bundle import DRAWN
from avsl.engines.motion.engine import MotionEngine
from avsl.realtime.films import annotate

CELL = 1 / 20


Json = dict[str, Any]


def paired_with_the_file(folder: Path, engine: Engine) -> list[tuple[Json, Json]]:
    """What was said live (`live.jsonl`), and what the file path says of the same picture in the
    recording of the same run (`seen.mp4`)."""
    annotate(folder / "seen.mp4", folder / "file.mp4", engine, events=folder / "file.jsonl")
    live, file = (
        [json.loads(line) for line in (folder / name).read_text().splitlines()][1:]
        for name in ("live.jsonl", "file.jsonl")
    )
    times = np.array([event["time"] for event in file])
    pairs = []
    for event in live[1:]:  # an mp4's first picture is at 0, whenever it was taken
        k = int(np.abs(times - event["time"]).argmin())
        assert abs(times[k] - event["time"]) < 1e-3
        pairs.append((event, file[k]))
    return pairs


def same(a: Json, b: Json, glow: float) -> bool:
    """Same state, and each peak of one has a peak of the other within one cell, but for those at
    the edge of glowing: the recording is H.264 and AAC."""
    apart = [
        min((max(abs(x - u), abs(y - v)) for u, v, _ in others["peaks"]), default=1.0)
        for peaks, others in ((a["peaks"], b), (b["peaks"], a))
        for x, y, p in peaks
        if p > glow + 0.03
    ]
    return a["state"] == b["state"] and max(apart, default=0.0) < 1.01 * CELL


def flashes_and_clicks(path: Path) -> tuple[list[float], list[float]]:
    """Times in a recording at which the picture becomes bright, and at which a click is heard."""
    bright, clicked, dark = [], [], True
    with av.open(str(path)) as container:
        for frame in container.decode():
            assert frame.time is not None
            if isinstance(frame, av.VideoFrame):
                lit = float(frame.to_ndarray()[: frame.height : 8].mean()) > 120
                if lit and dark:
                    bright.append(frame.time)
                dark = not lit
                continue
            for k in np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.25):
                at = frame.time + float(k) / frame.sample_rate
                if not clicked or at > clicked[-1] + 0.5:
                    clicked.append(at)
    return bright, clicked


def play(
    scene: Scene | MovingScene, seconds: float, size: tuple[int, int],
    microphone: FakeMicrophone, soon: float,
) -> np.ndarray:  # fmt: skip
    """Plays a scene's sound to the microphone; what the camera is to see, BGR at 30 a second."""
    microphone.play(scene.sound(0, seconds, 48_000), soon)
    times = np.arange(round(30 * seconds)) / 30
    return np.stack([scene.render(t, *size)[0][..., ::-1] for t in times.tolist()])


def live(env: Env, folder: Path, arguments: str) -> None:
    """The program as a person starts it, without a window, to its end."""
    files = "--no-window --record seen.mp4 --events live.jsonl"
    command = [sys.executable, "-m", "avsl.realtime.cli", "--camera", "0", *files.split()]
    with running([*command, *arguments.split()], env, cwd=folder) as process:
        assert process.wait(60) == 0


def test_live_is_what_the_file_path_says_of_the_recording(
    plug_in: PlugIn, microphone: FakeMicrophone, display: Env, start_live: StartLive,
    tmp_path: Path, soon: float,
) -> None:  # fmt: skip
    camera = plug_in(coloured_things(), soon)
    microphone.play(their_tones(), soon)
    live = start_live(
        {**camera.env, **microphone.env, **display},
        duration=12.0, record="seen.mp4", out="shown.mp4", events="live.jsonl",
    )  # fmt: skip
    live.end(None, timeout=30)
    assert live.process.returncode == 0, live.said
    engine = FakeEngine()
    pairs = paired_with_the_file(tmp_path, engine)
    assert len(pairs) > 200
    alike = np.mean([same(a, b, engine.spec.thresholds.glow) for a, b in pairs])
    print(f"same: {alike:.3f} of {len(pairs)}")
    assert alike >= 0.95
    # It is no empty agreement: each of the things sounds for a while, one turn is silent.
    states = [event["state"] for event, _ in pairs]
    assert states.count("sounding") > 100 < len(states) - states.count("silent")
    assert {round(5 * p[0]) for e, _ in pairs for p in e["peaks"]} >= {1, 2, 3, 4}
    # The file with the overlay differs from the one as captured where the glow is, only there.
    sounding = [event for event, _ in pairs[60::40] if event["state"] == "sounding"]
    moments = {round(event["time"], 3) for event in sounding}
    seen, shown = (pictures(tmp_path / name, moments) for name in ("seen.mp4", "shown.mp4"))
    assert len(seen) == len(shown) == len(sounding) > 3
    for event in sounding:
        moment = round(event["time"], 3)
        changed = np.abs(seen[moment].astype(int) - shown[moment]).max(2) > 12
        x, y = round(event["peaks"][0][0] * 1280), round(event["peaks"][0][1] * 720)
        assert changed[y - 20 : y + 20, x - 20 : x + 20].mean() > 0.1
        assert changed[:600].mean() < 0.08  # the label lies below


def test_so_it_is_with_a_network(
    plug_in: PlugIn, microphone: FakeMicrophone, tmp_path: Path, soon: float
) -> None:
    clip = play(demo_scene(), DEMO_SECONDS, (270, 480), microphone, soon)
    live({**plug_in(clip, soon).env, **microphone.env}, tmp_path, "--engine drawn --duration 12")
    engine = open_engine(DRAWN)
    pairs = paired_with_the_file(tmp_path, engine)
    assert len(pairs) > 200
    alike = np.mean([same(a, b, engine.spec.thresholds.glow) for a, b in pairs])
    print(f"same: {alike:.3f} of {len(pairs)}")
    assert alike >= 0.95
    assert [a["state"] for a, _ in pairs].count("sounding") > 60


def test_what_moves_with_the_sound(
    plug_in: PlugIn, microphone: FakeMicrophone, tmp_path: Path, soon: float
) -> None:
    """The engine without a network, which remembers: live, and in the recording of it."""
    scene = moving_demo_scene()
    clip = play(scene, SECONDS, (180, 320), microphone, soon)
    live({**plug_in(clip, soon).env, **microphone.env}, tmp_path, "--engine motion --duration 17")
    pairs = paired_with_the_file(tmp_path, MotionEngine())
    alike = np.mean([a["state"] == b["state"] for a, b in pairs])
    places = [a["peaks"][0][0] for a, _ in pairs if a["state"] == "sounding"]
    lefts, rights = ([x for x in places if (x > 0.5) == side] for side in (False, True))
    print(f"same: {alike:.3f} of {len(pairs)}; sounding left {len(lefts)}, right {len(rights)}")
    assert alike > 0.8
    assert min(len(lefts), len(rights)) > 20
    # Each where one of the two is.
    boxes = scene.render(0.0, 180, 320)[1]
    inside = [any(b[0] - 0.05 < x < b[2] + 0.05 for b in boxes) for x in places]
    assert np.mean(inside) > 0.9


def pictures(path: Path, moments: set[float]) -> dict[float, np.ndarray]:
    """The pictures of a recording at some times (in whole milliseconds), RGB."""
    with av.open(str(path)) as container:
        return {
            round(f.time or 0.0, 3): f.to_ndarray(format="rgb24")
            for f in container.decode(video=0)
            if round(f.time or 0.0, 3) in moments
        }


def test_flash_and_click_are_paired_on_a_busy_machine_too(
    plug_in: PlugIn, microphone: FakeMicrophone, display: Env, start_live: StartLive,
    tmp_path: Path, soon: float,
) -> None:  # fmt: skip
    camera = plug_in(flashes(), soon)
    microphone.play(clicks(), soon)
    env = {**camera.env, **microphone.env, **display}
    live = start_live(env, duration=36.0, size=(640, 480), record="seen.mp4", events="e.jsonl")
    time.sleep(18)
    # The other core is busy for the second half.
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        live.end(None, timeout=50)
    finally:
        busy.kill()
        busy.wait()
    assert live.process.returncode == 0, live.said
    bright, clicked = flashes_and_clicks(tmp_path / "seen.mp4")
    apart = [min((c - b for c in clicked), key=abs) for b in bright[1:]]
    print(f"click after flash: {1e3 * min(apart):.1f} .. {1e3 * max(apart):.1f} ms, {len(apart)}")
    assert len(apart) >= 33 and len(clicked) >= 33
    assert max(map(abs, apart)) < 0.04


def test_sound_known_to_come_late_is_put_earlier(
    plug_in: PlugIn, microphone: FakeMicrophone, start_live: StartLive, tmp_path: Path, soon: float
) -> None:
    camera = plug_in(flashes(), soon)
    microphone.play(clicks(), soon)
    live = start_live(
        {**camera.env, **microphone.env}, window=False, duration=8.0, size=(640, 480),
        av_offset_ms=200.0, record="seen.mkv", out="shown.mkv",
    )  # fmt: skip
    live.end(None, timeout=30)
    # Pictures wait for their sound, and none of them is left out for that.
    assert re.search(r"(\d+) localized", live.said[-1])[1] == str(len(live.events) - 1)  # type: ignore[index]
    assert len(live.events) > 0.9 * int(re.search(r"(\d+) pictures", live.said[-1])[1])  # type: ignore[index]
    for name in ("seen.mkv", "shown.mkv"):
        bright, clicked = flashes_and_clicks(tmp_path / name)
        apart = [min((c - b for c in clicked), key=abs) for b in bright[1:-1]]
        assert len(apart) >= 3
        assert np.median(apart) == pytest.approx(-0.2, abs=0.05)


def test_a_camera_that_queues_is_read_to_its_newest_picture(
    opencv: None, microphone: FakeMicrophone, start_live: StartLive, tmp_path: Path, soon: float
) -> None:
    """MJPEG over HTTP queues without end when it is read slowly; here an engine takes a sixth of
    a second, and five pictures come in that time."""
    microphone.play(their_tones(), soon)
    with http_camera(tmp_path, flashes(), soon) as address:
        live = start_live(
            {**microphone.env, "FAKE_ENGINE_S": "0.16"},
            camera=address, window=False, duration=10.0, record="seen.mp4", out="shown.mp4",
        )  # fmt: skip
        live.end(None, timeout=30)
    assert live.process.returncode == 0, live.said
    # In a queue, a second of the camera would become five of ours.
    taken, _ = flashes_and_clicks(tmp_path / "seen.mp4")
    taken = taken[1:]  # until `soon`, the clip stands still
    assert len(taken) >= 5
    assert np.diff(taken) == pytest.approx(1, abs=0.07)
    localized, _ = flashes_and_clicks(tmp_path / "shown.mp4")
    localized = localized[1:]  # some flashes fall between two maps
    assert len(localized) >= 3
    assert all(min(abs(t - s) for s in taken) < 0.12 for t in localized)
    with av.open(str(tmp_path / "seen.mp4")) as container:
        assert len(list(container.decode(video=0))) > 2 * len(live.events) > 60


def test_without_a_microphone_all_is_silent(
    plug_in: PlugIn, display: Env, start_live: StartLive, tmp_path: Path
) -> None:
    camera = plug_in(coloured_things(1.0))
    live = start_live({**camera.env, **display}, microphone="none", duration=3.0, out="a.mp4")
    live.end(None, timeout=20)
    assert live.process.returncode == 0, live.said
    assert {event["state"] for _, event in live.events[1:]} == {"silent"}
    assert len(live.events) > 60
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
