"""However a film ends, by a signal, kill -9 or a full disk: what was done is playable, and whoever
can be told is told where it lies."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from helpers import ToneEngine, faults, frame_times, make_video, pictures

from avsl.engines import Localization, UserError
from avsl.realtime.films import annotate
from avsl.realtime.sinks.events import EventWriter

ANNOTATE = (sys.executable, "-m", "avsl.realtime.cli", "--engine", "motion", "film.mp4", "-o")
LENGTH = 60 * 25


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    options = {"preset": "ultrafast"}
    return make_video(folder / "film.mp4", seconds=60.0, size=(640, 360), options=options)


def begin(folder: Path, film: Path, out: str, **more: Callable[[], None]) -> subprocess.Popen[str]:
    (folder / "film.mp4").symlink_to(film)
    return subprocess.Popen([*ANNOTATE, out], cwd=folder, stderr=subprocess.PIPE, text=True, **more)


def wait_for_pictures(process: subprocess.Popen[str], folder: Path) -> None:
    """Until the hidden file holds more than its head."""
    late = time.monotonic() + 60
    while not any(path.stat().st_size > 30_000 for path in folder.glob(".*.part.*")):
        assert process.poll() is None, "it was over before it could be stopped"
        assert time.monotonic() < late
        time.sleep(0.05)


def check_playable(path: Path, at_least: int = 40) -> None:
    shown = pictures(path)
    assert at_least <= len(shown) < LENGTH
    seconds = len(shown) / 25
    with av.open(str(path)) as container:
        heard = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    assert abs(heard - seconds) < 0.5
    times = frame_times(path)
    assert max(b - a for a, b in itertools.pairwise(times)) < 0.05


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_like_ctrl_c(tmp_path: Path, film: Path, number: signal.Signals) -> None:
    def heeded() -> None:  # as a shell starts it, whatever starts the tests
        signal.signal(number, signal.SIG_DFL)

    process = begin(tmp_path, film, "out.mp4", preexec_fn=heeded)
    wait_for_pictures(process, tmp_path)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert faults(said) == ["stopped: what was done is in out.partial.mp4"]
    assert {path.name for path in tmp_path.iterdir()} == {"film.mp4", "out.partial.mp4"}
    check_playable(tmp_path / "out.partial.mp4")


def test_nohup_outlives_the_terminal(tmp_path: Path) -> None:
    def ignored() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    short = make_video(tmp_path / "short.mp4", seconds=12.0, size=(640, 360))
    process = begin(tmp_path, short, "out.mp4", preexec_fn=ignored)
    wait_for_pictures(process, tmp_path)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(frame_times(tmp_path / "out.mp4")) == 300


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_what_kill_9_leaves_is_playable_and_goes_with_the_next_run(
    tmp_path: Path, film: Path, suffix: str
) -> None:
    process = begin(tmp_path, film, f"out{suffix}")
    wait_for_pictures(process, tmp_path)
    process.kill()
    process.communicate(timeout=60)
    (left,) = tmp_path.glob(".*")
    assert left.name == f".out.{process.pid}.part{suffix}"
    check_playable(left)
    living = tmp_path / f".out.{os.getpid()}.part.{suffix}"  # a name that only looks like one
    alive = tmp_path / f".out.{os.getppid()}.part{suffix}"
    for other in (living, alive):
        other.write_bytes(b"another's")
    annotate(make_video(tmp_path / "short.mp4"), tmp_path / f"out{suffix}", ToneEngine())
    assert not left.exists()
    assert living.exists() and alive.exists()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_full_disk_keeps_what_was_done(tmp_path: Path, film: Path, suffix: str) -> None:
    """A limit on the size of files stands in for the disk: the same writes fail."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    process = begin(tmp_path, film, f"out{suffix}", preexec_fn=limit)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert faults(said) == [
        f"error: out{suffix}: can't be written; a file can't be this large there; "
        f"what was done is in out.partial{suffix}"
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"film.mp4", f"out.partial{suffix}"}
    check_playable(tmp_path / f"out.partial{suffix}")


def test_a_disk_that_is_full_indeed(tmp_path: Path, film: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        process = begin(tmp_path, film, "small/out.mp4")
        _, said = process.communicate(timeout=120)
        assert process.returncode == 2
        assert "no space left on the disk; what was done is in small/out.partial.mp4" in said
        check_playable(small / "out.partial.mp4")
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_whole_file_is_an_ordinary_one(tmp_path: Path, suffix: str) -> None:
    """Its index after its pictures, no fragments: so every player seeks in it at once."""
    source = make_video(tmp_path / "film.mp4", seconds=7.0, options={"bf": "3"})
    annotate(source, tmp_path / f"out{suffix}", ToneEngine())
    data = (tmp_path / f"out{suffix}").read_bytes()
    boxes, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        boxes.append(data[at + 4 : at + 8])
        at += size
    assert [box for box in boxes if box not in (b"free", b"wide")] == [b"ftyp", b"mdat", b"moov"]
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert container.duration == 7_000_000
        assert container.streams.video[0].frames == 175
    assert frame_times(tmp_path / f"out{suffix}") == frame_times(source)


def test_a_film_is_worth_more_than_its_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0

    def fail(writer: EventWriter, localization: Localization) -> None:
        nonlocal count
        count += 1
        if count == 10:
            raise UserError("e.jsonl: can't be written; No space left on device")

    monkeypatch.setattr(EventWriter, "write", fail)
    source, out = make_video(tmp_path / "film.mp4"), tmp_path / "out.mp4"
    with pytest.raises(UserError, match=r"No space left on device; the film is in .*out\.mp4"):
        annotate(source, out, ToneEngine(), events=tmp_path / "e.jsonl")
    assert len(frame_times(out)) == 25
    assert {path.name for path in tmp_path.iterdir()} == {"film.mp4", "out.mp4"}


def test_twenty_films_leave_nothing_behind(tmp_path: Path) -> None:
    """Threads, descriptors and memory of one process, after ten turns and after twenty: allocators
    are full by then."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is read from /proc")
    make_video(tmp_path / "film.mp4", seconds=2.0, size=(320, 240))
    make_video(tmp_path / "law.avi", codec="mpeg4", sound_codec="pcm_mulaw", sound_rate=8000)
    code = """
import os, sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from helpers import ToneEngine
from avsl.engines import UserError
from avsl.realtime.films import annotate
engine, stop = ToneEngine(), threading.Event()
def state():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")), pages // 256
for turn in range(20):
    for film in ("film.mp4", "law.avi"):
        annotate(Path(film), Path("out.mp4"), engine, overwrite=True)
    stop.set()
    annotate(Path("film.mp4"), Path("out.mkv"), engine, stop=stop).out.unlink()
    try:
        annotate(Path("film.mp4"), Path("nowhere/out.mp4"), engine)
    except UserError:
        pass
    if turn in (9, 19):
        print(*state())
"""
    command = [sys.executable, "-c", code, str(Path(__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    early, late = ([int(n) for n in line.split()] for line in done.stdout.splitlines())
    assert late[:2] == early[:2]
    assert late[2] - early[2] < 12, "MB"


def test_a_fault_of_the_engine_s_leaves_nothing(tmp_path: Path) -> None:
    class Broken(ToneEngine):
        def localize(self, picture, embedding):  # type: ignore[no-untyped-def]
            raise RuntimeError("broken")

    before = threading.active_count()
    with pytest.raises(RuntimeError):
        annotate(make_video(tmp_path / "film.mp4"), tmp_path / "out.mp4", Broken())
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
    assert threading.active_count() == before
