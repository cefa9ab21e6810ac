"""What is recorded live comes back with its times, also when the program is killed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from avsl.engines import UserError
from avsl.realtime.sinks import recorder as module
from avsl.realtime.sinks.recorder import Recorder
from avsl.realtime.sources.frames import Frame

RATE = 48_000


def frame(time_: float, grey: int = 40, size: tuple[int, int] = (64, 48)) -> Frame:
    planes = np.full((size[1] * 3 // 2, size[0]), 128, np.uint8)
    planes[: size[1]] = grey
    return Frame(av.VideoFrame.from_numpy_buffer(planes, "yuv420p"), time_, 0)


def feed(recorder: Recorder, seconds: float, start: float = 12.34, clicks: bool = True) -> None:
    """30 pictures a second, bright for a tenth from each full second on, and a click then."""
    t = np.arange(round(seconds * RATE)) / RATE + start
    sound = np.where(t % 1 < 0.005, 0.8, 0).astype(np.float32)
    first = round(start * RATE)
    for k in range(round(seconds * 30)):
        now = start + k / 30 + 0.003 * np.sin(k)  # cameras aren't regular
        if clicks:
            at = round(k / 30 * RATE)
            recorder.heard(first + at, sound[at : at + RATE // 30])
        recorder.captured(frame(now, 220 if now % 1 < 0.1 else 40))


def read(path: Path) -> tuple[list[tuple[float, float]], list[float]]:
    """Time and grey of each picture, and the times of the clicks."""
    pictures, clicks, last = [], [], -1.0
    with av.open(str(path)) as container:
        for f in container.decode():
            assert f.time is not None
            if isinstance(f, av.VideoFrame):
                assert (f.width, f.height) == (64, 48)
                pictures.append((f.time, float(f.to_ndarray()[:48].mean())))
                continue
            for k in np.flatnonzero(np.abs(f.to_ndarray()[0]) > 0.3):
                at = f.time + float(k) / RATE
                if at > last + 0.5:
                    clicks.append(at)
                    last = at
    return pictures, clicks


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_pictures_and_sound_keep_their_times(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    zero = 12.3
    recorder = Recorder(path, RATE, start=zero)
    feed(recorder, 4.0)
    assert not path.exists()
    recorder.close()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    pictures, clicks = read(path)
    times = np.array([t for t, _ in pictures])
    expected = 12.34 + np.arange(120) / 30 + 0.003 * np.sin(np.arange(120)) - zero
    assert np.abs(times[1:] - expected[1:]).max() < 0.0011  # mkv counts in milliseconds
    flashes = [
        t for (t, g), (_, before) in zip(pictures[1:], pictures, strict=False) if g > 150 > before
    ]
    assert len(flashes) == len(clicks) == 4
    assert clicks == pytest.approx([0.7, 1.7, 2.7, 3.7], abs=0.002)
    assert all(0 <= f - c < 0.04 for f, c in zip(flashes, clicks, strict=True))


def test_missing_sound_becomes_silence_and_what_follows_stays_in_step(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.mp4", RATE, start=10.0)
    feed(recorder, 1.0, 10.0)
    feed(recorder, 3.0, 11.0, clicks=False)
    feed(recorder, 1.5, 14.0)
    recorder.close()
    pictures, clicks = read(tmp_path / "a.mp4")
    assert len(pictures) == 165
    # The first click lies in the first AAC frame, which is left out.
    assert clicks[-2:] == pytest.approx([4.0, 5.0], abs=0.002)


def test_a_camera_that_changes_its_size(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.mp4", None)
    for k in range(10):
        recorder.captured(frame(k / 30, size=(64, 48) if k < 5 else (128, 96)))
    recorder.close()
    assert len(read(tmp_path / "a.mp4")[0]) == 10


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_playable_when_killed(tmp_path: Path, suffix: str) -> None:
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from test_recorder import *\n"
        "r = Recorder(Path(sys.argv[2]), RATE, start=12.3); feed(r, 5.0)\n"
        "while r._written < 150: time.sleep(0.01)\n"
        "print('fed', flush=True); time.sleep(60)"
    )
    path = tmp_path / f"a{suffix}"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(path)], stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout and child.stdout.readline() == b"fed\n"
        child.kill()
    assert not path.exists()
    pictures, clicks = read(tmp_path / f"a.partial{suffix}")
    assert len(pictures) >= 110
    assert clicks[:3] == pytest.approx([0.7, 1.7, 2.7], abs=0.002)


def test_a_full_queue_loses_pictures_and_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_BYTES", 10 * 64 * 48 * 3 // 2)
    recorder = Recorder(tmp_path / "a.mp4", None, draw=lambda *_: time.sleep(0.02))
    what = object()
    for k in range(40):
        recorder.localized(frame(k / 30), what)  # type: ignore[arg-type]
    recorder.close()
    assert recorder.lost > 10
    assert len(read(tmp_path / "a.mp4")[0]) == 40 - recorder.lost


def test_no_space_left_ends_the_file_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    full = tmp_path / "a.partial.mp4"
    full.symlink_to("/dev/full")
    monkeypatch.setattr(module, "partial_name", lambda path: full)
    recorder = Recorder(tmp_path / "a.mp4", RATE, start=12.3)
    feed(recorder, 3.0)
    with pytest.raises(UserError, match=r"a\.mp4: .*No space left"):
        recorder.close()
    assert not (tmp_path / "a.mp4").exists()


def test_what_is_there_stays(tmp_path: Path) -> None:
    """What a killed run has left, a link, and what is no file."""
    (tmp_path / "a.partial.mp4").write_text("dear")
    (tmp_path / "elsewhere.mp4").write_text("old")
    (tmp_path / "a.mp4").symlink_to("elsewhere.mp4")
    recorder = Recorder(tmp_path / "a.mp4", None, overwrite=True)
    feed(recorder, 1.0)
    recorder.close()
    assert (tmp_path / "a.mp4").is_symlink()
    assert len(read(tmp_path / "elsewhere.mp4")[0]) > 20
    assert (tmp_path / "a.partial.mp4").read_text() == "dear"
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UserError, match=r"is no file that a recording could replace"):
        Recorder(tmp_path / "folder.mp4", None, overwrite=True)


def test_bad_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "there.mp4").touch()
    for name, words in {
        "a.gif": "written as", "there.mp4": "exists already", "no/a.mp4": "can't be written",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=words):
            Recorder(tmp_path / name, RATE)
    Recorder(tmp_path / "there.mp4", RATE, overwrite=True).close()
    assert (tmp_path / "there.mp4").exists()  # nothing was recorded, so nothing is replaced
    assert shutil.disk_usage(tmp_path).free
