"""A device that fails doesn't end the program: it says what is missing and takes it back."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from live_process import HERE, Json, LiveProcess, PlugIn, StartLive, screenshot
from rig import Env, FakeMicrophone, http_camera, http_fault
from scene import RATE, coloured_things

RECOVERY_S = 3.0
"""What the program promises, from the device's return on."""


def steady() -> np.ndarray:
    """A tone that never ends."""
    t = np.arange(RATE) / RATE
    return (0.25 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)


def heard(event: Json) -> bool:
    return event["level_db"] > -40


def settle(live: LiveProcess) -> tuple[int, int]:
    """Waits until it runs and hears, and returns how many threads and descriptors it has."""
    live.wait_for_event(heard)
    time.sleep(1.0)
    return live.threads, live.descriptors


def check_end(live: LiveProcess, folder: Path, files: tuple[str, ...]) -> None:
    """Ends with Ctrl-C within a second, without a traceback, every file complete."""
    assert live.end(signal.SIGINT) < 1.0
    assert live.process.returncode == 0, live.said
    assert not [line for line in live.said if "Traceback" in line or "Error" in line], live.said
    assert not list(folder.glob("*partial*"))
    for name in files:
        with av.open(str(folder / name)) as container:
            times = [float(f.time or 0) for f in container.decode(video=0)]
            container.seek(0)
            sound = sum(f.samples for f in container.decode(audio=0)) / RATE
        assert np.all(np.diff(times) > 0)
        assert abs(sound - times[-1]) < 0.2


@pytest.mark.flaky(reruns=4)  # it looks at the window; see test_window.py
def test_camera_that_is_unplugged_or_freezes(
    plug_in: PlugIn, microphone: FakeMicrophone, display: Env, start_live: StartLive, tmp_path: Path
) -> None:
    camera = plug_in(coloured_things(1.0))
    microphone.play(steady())
    live = start_live(
        {**camera.env, **microphone.env, **display}, record="seen.mp4", out="shown.mp4"
    )
    before = settle(live)
    top = screenshot(display)[:160, :1280].astype(int)

    camera.fault("unplug", 3)
    live.wait_for_words("camera 0: there is no", 3)
    time.sleep(0.5)  # the picture says so, too: amber on the HUD's stripe
    now = screenshot(display)[:160, :1280].astype(int)
    amber = (now[..., 0] > now[..., 2] + 120) & (top[..., 0] < top[..., 2] + 60)
    assert amber.sum() > 100
    gone = live.wait_for_event()
    assert gone > 0.5  # it was really away
    live.wait_for_words("camera 0: back", 1)

    camera.fault("pause", 1)
    live.wait_for_words("camera 0: no picture comes", 3)
    time.sleep(2.5)
    camera.fault("pause", 0)
    assert live.wait_for_event() < RECOVERY_S

    camera.fault("drop", 0.8)  # slow: six pictures a second
    time.sleep(1.5)
    count = len(live.events)
    time.sleep(2)
    assert 4 < len(live.events) - count < 30
    camera.fault("drop", 0)
    time.sleep(1)
    assert (live.threads, live.descriptors) == before
    check_end(live, tmp_path, ("seen.mp4", "shown.mp4"))


def test_unplugged_for_long(plug_in: PlugIn, start_live: StartLive) -> None:
    """The pause between two attempts to open it grows to a second and no further."""
    camera = plug_in(coloured_things(1.0))
    live = start_live(camera.env, microphone="none", window=False)
    live.wait_for_event()
    camera.fault("unplug", 6)
    began = time.monotonic()
    live.wait_for_words("there is no", 3)
    live.wait_for_event()
    assert time.monotonic() - began < 6 + RECOVERY_S


def test_camera_by_address_that_hangs(
    opencv: None, microphone: FakeMicrophone, start_live: StartLive, tmp_path: Path
) -> None:
    microphone.play(steady())
    with http_camera(tmp_path, coloured_things(1.0)) as address:
        live = start_live(microphone.env, camera=address, window=False, record="seen.mp4")
        before = settle(live)
        http_fault(address, "pause", 1)
        live.wait_for_words("no picture comes", 4)
        time.sleep(2.5)
        http_fault(address, "pause", 0)
        assert live.wait_for_event() < RECOVERY_S
        time.sleep(1)
        assert (live.threads, live.descriptors) == before
        check_end(live, tmp_path, ("seen.mp4",))


def test_microphone_that_is_suspended_or_goes(
    plug_in: PlugIn, microphone: FakeMicrophone, display: Env, start_live: StartLive, tmp_path: Path
) -> None:
    camera = plug_in(coloured_things(1.0))
    microphone.play(steady())
    live = start_live(
        {**camera.env, **microphone.env, **display}, record="seen.mp4", out="shown.mp4"
    )
    before = settle(live)

    microphone.suspend(True)
    live.wait_for_words("microphone: no sound comes", 3)
    live.wait_for_event(lambda event: event["state"] == "silent")  # pictures go on
    time.sleep(2)
    microphone.suspend(False)
    assert live.wait_for_event(heard) < RECOVERY_S

    microphone.signal(signal.SIGSTOP)
    time.sleep(2.5)
    live.wait_for_event()
    microphone.signal(signal.SIGCONT)
    assert live.wait_for_event(heard) < RECOVERY_S

    microphone.stop()
    live.wait_for_words("microphone: (gone|can't be opened)", 4)
    live.wait_for_event(lambda event: event["state"] == "silent")
    time.sleep(2)
    microphone.start()
    assert live.wait_for_event(heard) < RECOVERY_S

    microphone.pactl("set-source-mute", "fakemic", "1")
    live.wait_for_words("digital silence, muted?", 5)
    microphone.pactl("set-source-mute", "fakemic", "0")
    assert live.wait_for_event(heard) < RECOVERY_S
    time.sleep(1)
    assert (live.threads, live.descriptors) == before
    check_end(live, tmp_path, ("seen.mp4", "shown.mp4"))


def test_ends_within_a_second_while_both_devices_hang(
    plug_in: PlugIn, microphone: FakeMicrophone, start_live: StartLive, tmp_path: Path
) -> None:
    camera = plug_in(coloured_things(1.0))
    microphone.play(steady())
    live = start_live({**camera.env, **microphone.env}, window=False, record="seen.mp4")
    settle(live)
    camera.fault("pause", 1)
    microphone.signal(signal.SIGSTOP)
    time.sleep(2.2)
    check_end(live, tmp_path, ("seen.mp4",))


def test_a_reader_of_events_that_goes(plug_in: PlugIn, tmp_path: Path) -> None:
    env = {**os.environ, **plug_in(coloured_things(1.0)).env}
    app = [sys.executable, str(HERE / "live_app.py")]
    arguments = ["microphone='none'", "window=False", "events='-'", "record='seen.mp4'"]
    with subprocess.Popen(
        [*app, *arguments, "duration=3.0"], env=env, cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as live:  # fmt: skip
        assert live.stdout and live.stderr
        for _ in range(5):
            assert live.stdout.readline()
        live.stdout.close()
        said = live.stderr.read()
    assert live.returncode == 0, said
    assert "events: the reader has gone" in said and "Error" not in said
    assert (tmp_path / "seen.mp4").exists()


def test_events_can_be_followed_and_outlive_a_kill(
    plug_in: PlugIn, start_live: StartLive, tmp_path: Path
) -> None:
    camera = plug_in(coloured_things(1.0))
    live = start_live(
        camera.env, microphone="none", window=False, events="e.jsonl", record="seen.mkv"
    )
    events = tmp_path / "e.jsonl"
    live.wait_until(lambda: events.exists() and len(events.read_text().splitlines()) > 60)
    live.end(signal.SIGKILL)
    assert all(map(json.loads, events.read_text().splitlines()))
    (left,) = tmp_path.glob("seen.*")
    before = left.read_bytes()
    assert left.name == "seen.partial.mkv" and len(before) > 1000
    # The next recording of this name leaves alone what the killed one has left.
    again = start_live(camera.env, microphone="none", window=False, record="seen.mkv", duration=2.0)
    again.end(None)
    assert again.process.returncode == 0, again.said
    assert left.read_bytes() == before
    assert (tmp_path / "seen.mkv").exists() and len([*tmp_path.glob("seen.*")]) == 2


@pytest.mark.parametrize("where", ["-", "pipe"])
def test_a_reader_of_events_that_hangs_holds_nothing_up(
    plug_in: PlugIn, tmp_path: Path, where: str
) -> None:
    env = {**os.environ, **plug_in(coloured_things(1.0)).env}
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)  # full after a second
    arguments = ["microphone='none'", "window=False", f"events={where!r}", "duration=18.0"]
    with pipe.open("w") as writer:
        done = subprocess.run(
            [sys.executable, str(HERE / "live_app.py"), *arguments], env=env, cwd=tmp_path,
            stdout=writer, stderr=subprocess.PIPE, text=True, timeout=40,
        )  # fmt: skip
    os.close(reader)
    assert done.returncode == 0, done.stderr
    assert "events: the reader can't keep up, some are left out" in done.stderr
    assert "Traceback" not in done.stderr and "Fatal" not in done.stderr
