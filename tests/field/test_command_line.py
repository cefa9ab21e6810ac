"""What a person types: an option that has no use is refused, what is theirs stays, and names are
shown so that they can do nothing to the terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import pytest
from helpers import faults, frame_times, make_video

MOTION = ("--engine", "motion")


def avsl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avsl.realtime.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)


REFUSED = {
    "--camera 0 --demo": "--camera and --demo don't go together; leave out one",
    "--list-devices --verify": "--list-devices and --verify don't go together; leave out one",
    "--camera 0 --every 3": "--every is for --demo and films, not for --camera; leave it out",
    "--camera 0 f.mp4": "files and --camera don't go together; leave out one",
    "--demo f.mp4": "files and --demo don't go together; leave out one",
    "--demo --record a.mkv": "--record is for --camera, not for --demo; leave it out",
    "f.mp4 -o o.mp4 --record r.mkv": "--record is for --camera, not for films; leave it out",
    "f.mp4 -o o.mp4 --microphone x": "--microphone is for --camera, not for films; leave it out",
    "f.mp4 -o o.mp4 --in-step": "--in-step is for --camera, not for films; leave it out",
    "f.mp4 -o o.mp4 --no-window": "--no-window is for --camera, not for films; leave it out",
    "f.mp4 -o o.mp4 --duration 3": "--duration is for --camera, not for films; leave it out",
    "f.mp4 -o o.mp4 --av-offset 0": "--av-offset is for --camera, not for films; leave it out",
    "--verify f.mp4 --events -": "--events is for --camera and --demo and films, not for --verify; "
    "leave it out",
    "--list-devices --engine real": "--engine is for --list-kinds and --camera and --demo and "
    "--verify and films, not for --list-devices; leave it out",
    "--record r.mkv": "no FILE and no --camera given; avsl-live --help shows both",
    "--camera 0 --no-window --record r.mkv --av-offset nan": "--av-offset nan: from -2000 to 2000 "
    "milliseconds",
    "--camera 0 --no-window --record r.mkv --av-offset 1e9": "--av-offset 1e+09: from -2000 to "
    "2000 milliseconds",
    "--camera ² --no-window --record r.mkv": "camera ²: a camera is a number (0), a device "
    "(/dev/video0), or an http or rtsp address; avsl-live --list-devices shows what there is",
    "none.mp4 -o out.mp4": "none.mp4: no such file",
}


@pytest.mark.parametrize("command", REFUSED)
def test_what_has_no_use_is_refused(tmp_path: Path, command: str) -> None:
    if "--camera" in command:
        pytest.importorskip("cv2", reason="live needs OpenCV and its libGL")
    done = avsl(tmp_path, *command.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {REFUSED[command]}\n"
    assert not list(tmp_path.iterdir())


def test_what_runs_the_engine_is_one_line_that_calls_it_what_it_is_called(tmp_path: Path) -> None:
    make_video(tmp_path / "f.mp4", seconds=0.4)
    done = avsl(tmp_path, "f.mp4", "-o", "o.mp4")
    first, *others = done.stderr.splitlines()
    assert first.startswith("avsl-live: both, motion and a network: real runs with ")
    assert first.count("(") < 2
    assert [line.split(" (")[0] for line in others] == ["f.mp4 -> o.mp4"]


def test_the_demo_goes_where_it_is_told_and_replaces_only_its_own(tmp_path: Path) -> None:
    theirs = make_video(tmp_path / "avsl-demo.mp4", seconds=0.4)
    before = theirs.read_bytes()
    done = avsl(tmp_path, "--demo", *MOTION)
    assert done.returncode == 2
    assert faults(done.stderr) == ["error: avsl-demo.mp4: exists already; --overwrite replaces it"]
    assert theirs.read_bytes() == before

    # The second time it is a demo's own that is there.
    for demo, shown in (
        (("--demo", *MOTION), "two things move"),
        (("--demo", "drawn"), "four drawn"),
    ):
        done = avsl(tmp_path, *demo, "-o", "d.mkv", "--events", "-", "--every", "5")
        assert done.returncode == 0, done.stderr
        count = len(frame_times(tmp_path / "d.mkv"))
        assert len(done.stdout.splitlines()) == 1 + -(-count // 5)
        assert f"d.mkv: {shown}" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"avsl-demo.mp4", "d.mkv"}

    for out, said in (("d.txt", "can't write this kind of file"), ("avsl-demo.mp4", "exists")):
        done = avsl(tmp_path, "--demo", *MOTION, "-o", out)
        assert done.returncode == 2 and said in done.stderr
    with av.open(str(theirs)) as container:
        assert len(list(container.decode(video=0))) == 10


def test_pictures_of_verify_replace_nothing_unasked(tmp_path: Path) -> None:
    film = make_video(tmp_path / "f.mp4", seconds=0.6)
    (tmp_path / "dear.png").write_text("dear")
    done = avsl(tmp_path, "--verify", str(film), "-o", "dear.png", *MOTION)
    assert done.returncode == 2
    assert "dear.png: exists already; --overwrite" in done.stderr
    assert (tmp_path / "dear.png").read_text() == "dear"


NAMES = {
    "\x1b[2J\x1b[31mred.mp4": r"\x1b[2J\x1b[31mred.mp4",
    "a\nerror: forged.mp4": r"a\nerror: forged.mp4",
    "\u202e4pm.mp4": r"\u202e4pm.mp4",
    "\x9b2J.mp4": r"\x9b2J.mp4",
    "[red]ü 音.mp4": "[red]ü 音.mp4",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_do_nothing_to_a_terminal(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    make_video(folder / name, seconds=0.4)
    (folder / f"bad {name}").write_bytes(b"no film")
    done = avsl(tmp_path, "films", "-o", "out/", *MOTION)
    assert done.returncode == 1
    assert not [c for c in done.stdout + done.stderr if c != "\n" and not c.isprintable()]
    done_, bad, count = faults(done.stderr)[-3:]
    assert f"films/{NAMES[name]} -> out/{NAMES[name]} (" in done.stderr
    assert sorted(line[:6] for line in (done_, bad)) == ["error:", "films/"]
    assert count.startswith("1 of 2 failed: ")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a limit of memory isn't kept")
def test_too_little_memory_is_one_line(tmp_path: Path) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (220 << 20, 220 << 20))\n"
        "from avsl.realtime.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "film.mp4", "-o", "out.mp4"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: not enough memory")
    assert "Traceback" not in done.stderr
