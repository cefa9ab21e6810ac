"""The window: what is in it, what the keys do, and how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from live_process import LiveProcess, PlugIn, StartLive, close_window, press, screenshot
from numpy.typing import NDArray
from rig import Env, FakeMicrophone, running
from scene import RATE, coloured_things

# Without a window manager Qt misses, in one start of ten, that its window has appeared, and paints
# nothing: cv2 alone does so too, and with a window manager it does not happen.
pytestmark = pytest.mark.flaky(reruns=4)

SIZE = (640, 480)
Picture = NDArray[np.uint8]


@pytest.fixture
def shown(
    plug_in: PlugIn, microphone: FakeMicrophone, display: Env, start_live: StartLive
) -> tuple[LiveProcess, Env]:
    """Four still discs in a window; the red one, on the left, sounds."""
    camera = plug_in(coloured_things(1.0)[:1])
    t = np.arange(RATE) / RATE
    microphone.play((0.25 * np.sin(2 * np.pi * 440 * t)).astype(np.float32))
    live = start_live({**camera.env, **microphone.env, **display}, size=SIZE)
    live.wait_for_event(lambda event: event["state"] == "sounding")
    time.sleep(0.5)
    return live, display


def look(env: Env) -> Picture:
    """The window's picture; it lies at the top left of the display."""
    return screenshot(env)[: SIZE[1], : SIZE[0]]


def after(env: Env, *keys: str) -> Picture:
    press(env, *keys)
    time.sleep(0.5)
    return look(env)


def wait_for_picture(env: Env, rows: slice) -> bool:
    """Whether a picture is seen in some rows of the window within six seconds."""
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline:
        if screenshot(env)[: SIZE[1], : SIZE[0]][rows].std() > 20:
            return True
        time.sleep(0.2)
    return False


def changed(a: Picture, b: Picture) -> NDArray[np.bool_]:
    return np.abs(a.astype(int) - b).max(2) > 24


def test_keys_change_the_picture(shown: tuple[LiveProcess, Env]) -> None:
    live, env = shown
    first = look(env)
    assert first.std() > 20  # there is a picture
    height, width = first.shape[:2]
    left = (slice(height // 8, height * 7 // 8), slice(0, width * 3 // 8))
    assert np.median(first[height // 2, :, :]) == pytest.approx(
        110, abs=12
    )  # its grey, its colours

    bare = after(env, "h")
    hud = changed(first, bare)
    assert hud[:40].mean() > 0.5 and not hud[height // 4 : height * 3 // 4].any()

    plain = after(env, "o")
    glow = changed(bare, plain)
    assert glow[left].sum() > 200
    assert not glow[: height * 3 // 4, width * 3 // 8 :].any()

    assert changed(after(env, "o"), plain)[left].sum() > 200
    weak = after(env, "minus", "minus", "minus", "minus", "minus")
    assert (
        np.abs(weak.astype(int) - plain)[left].sum()
        < 0.8 * np.abs(bare.astype(int) - plain)[left].sum()
    )
    after(env, "plus", "plus", "plus", "plus", "plus")
    small = after(env, *["bracketright"] * 8)
    assert changed(small, plain)[left].sum() < 0.8 * glow[left].sum()
    after(env, *["bracketleft"] * 8)

    mirrored = after(env, "m")
    row = slice(height // 8, height * 3 // 4)
    assert np.abs(mirrored[row, ::-1].astype(int) - bare[row]).mean() < 4
    after(env, "m")

    helped = after(env, "question")
    assert changed(bare, helped)[: height // 2].mean() > 0.3
    after(env, "question")
    assert live.process.poll() is None


def test_freeze_snapshot_record_quit(shown: tuple[LiveProcess, Env], tmp_path: Path) -> None:
    live, env = shown
    press(env, "space")
    time.sleep(0.4)
    count = len(live.events)
    time.sleep(0.5)
    assert len(live.events) > count + 8  # only the window stands still
    press(env, "space")

    press(env, "s")
    live.wait_for_words(r"wrote avsl-.*\.png", 3)
    (snapshot,) = tmp_path.glob("avsl-*.png")
    with av.open(str(snapshot)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    view = look(env)
    assert changed(picture, view)[SIZE[1] // 4 :].mean() < 0.02  # all but the HUD

    press(env, "r")
    time.sleep(2)
    press(env, "r")
    live.wait_for_words(r"wrote avsl-.*\.mp4", 3)
    (film,) = tmp_path.glob("avsl-*.mp4")
    with av.open(str(film)) as container:
        assert [s.type for s in container.streams] == ["video", "audio"]
        assert len(list(container.decode(video=0))) > 30
    press(env, "q", hold=True)
    assert live.end(None) < 1.0
    assert live.process.returncode == 0, live.said


def test_closing_the_window_ends_it(shown: tuple[LiveProcess, Env]) -> None:
    live, env = shown
    close_window(env)
    assert live.end(None) < 1.0
    assert live.process.returncode == 0, live.said


def test_in_step_shows_the_picture_of_the_map(
    plug_in: PlugIn, display: Env, start_live: StartLive
) -> None:
    camera = plug_in(coloured_things(1.0))
    live = start_live({**camera.env, **display}, microphone="none", in_step=True, size=SIZE)
    live.wait_for_event()
    assert wait_for_picture(display, slice(None))
    assert live.end(signal.SIGINT) < 1.0
    assert live.process.returncode == 0, live.said


def test_the_program_itself(
    plug_in: PlugIn, microphone: FakeMicrophone, display: Env, tmp_path: Path
) -> None:
    """`avsl-live --camera 0` with the engine that ships; whoever imports av before cv2 makes the
    window hang."""
    camera = plug_in(coloured_things(1.0))
    command = [
        "-m",
        "avsl.realtime.cli",
        "--camera",
        "0",
        "--duration",
        "8",
        "--events",
        "-",
        "-o",
        "shown.mp4",
    ]
    with running(
        [sys.executable, *command], {**camera.env, **microphone.env, **display},
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        shown = wait_for_picture(display, slice(200, 500))
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert shown
    assert len(out.splitlines()) > 60, err
    assert "wrote shown.mp4" in err and (tmp_path / "shown.mp4").exists()


def test_av_before_cv2_is_refused_and_does_not_hang(display: Env, opencv: None) -> None:
    code = "import av; from avsl.realtime.sinks.window import Window; Window()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=display, capture_output=True, text=True, timeout=20
    )
    assert "RuntimeError: av was imported before cv2" in done.stderr
