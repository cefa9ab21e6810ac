"""Where events go: what is there and no plain file is written into, never replaced, and a reader
that goes away takes nothing else with it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers import faults, frame_times, make_video

ANNOTATE = (
    sys.executable, "-m", "avsl.realtime.cli", "film.mp4", "-o", "out.mp4", "--overwrite",
    "--engine", "motion", "--events",
)  # fmt: skip
PICTURES = 25


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_video(tmp_path / "film.mp4")
    return tmp_path


def annotate(folder: Path, events: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ANNOTATE, events], cwd=folder, capture_output=True, text=True, timeout=60
    )


def in_shell(folder: Path, events: str, redirection: str) -> subprocess.CompletedProcess[str]:
    """The shell's own word on where stdout goes; its exit code is avsl-live's."""
    command = f"set -o pipefail; {' '.join(ANNOTATE)} {events} {redirection}"
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60
    )


def check_events(text: str) -> None:
    first, *events = map(json.loads, text.splitlines())
    assert first["schema"] == "avsl-events/1"
    assert len(events) == PICTURES


def check_film(folder: Path) -> None:
    assert len(frame_times(folder / "out.mp4")) == PICTURES


def test_a_named_pipe_is_written_into_and_stays_one(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((folder / "pipe").read_text()))
    reader.start()
    done = annotate(folder, "pipe")
    assert done.returncode == 0, done.stderr
    reader.join(10)
    check_events(read[0])
    check_film(folder)
    assert stat.S_ISFIFO((folder / "pipe").stat().st_mode)


def test_a_named_pipe_that_nobody_reads_is_said(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    done = annotate(folder, "pipe")
    assert done.returncode == 2
    assert faults(done.stderr) == [
        "error: pipe: nobody reads from this pipe; start its reader first"
    ]
    assert not (folder / "out.mp4").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mknod wants root")
def test_a_device_stays_one(folder: Path) -> None:
    """Devices of our own: were it otherwise, those of this machine would be files afterwards."""
    for name, minor in (("null", 3), ("full", 7)):
        try:
            os.mknod(folder / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
            (folder / name).open("wb").close()
        except OSError:
            pytest.skip("devices can't be made here")
    done = annotate(folder, "null")
    assert done.returncode == 0, done.stderr
    check_film(folder)
    done = annotate(folder, "full")
    assert done.returncode == 2
    assert faults(done.stderr) == ["error: full: can't be written; No space left on device"]
    assert all(stat.S_ISCHR((folder / name).lstat().st_mode) for name in ("null", "full"))


def test_through_a_symlink(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "there.jsonl").write_text("old")
    for name, to in (("old", "there.jsonl"), ("new", "not-yet.jsonl")):
        (folder / name).symlink_to(elsewhere / to)
        done = annotate(folder, name)
        assert done.returncode == 0, done.stderr
        assert (folder / name).is_symlink()
        check_events((elsewhere / to).read_text())
    assert len([*elsewhere.iterdir()]) == 2


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_a_reader_that_goes_away_loses_only_its_events(folder: Path, name: str) -> None:
    done = in_shell(folder, name, "| head -1")
    assert done.returncode == 0, done.stderr
    assert faults(done.stderr)[0].endswith("events end early; the reader has gone")
    assert "Traceback" not in done.stderr and len(faults(done.stderr)) == 2
    check_film(folder)


def test_so_with_a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    reader = subprocess.Popen(["head", "-n1", "pipe"], cwd=folder, stdout=subprocess.DEVNULL)
    done = annotate(folder, "pipe")
    reader.wait(10)
    assert done.returncode == 0, done.stderr
    assert "events end early; the reader has gone" in done.stderr
    check_film(folder)


@pytest.mark.parametrize(
    ("events", "redirection", "said"),
    [
        ("-", ">&-", "error: --events -: stdout is closed; name a file"),
        ("-", "> /dev/full", "error: stdout: can't be written; No space left on device"),
        ("nowhere/e.jsonl", "", "error: nowhere/e.jsonl: can't be written; No such file or "),
        (".", "", "error: .: can't be written; Is a directory"),
    ],
)
def test_what_cannot_be_written_is_one_line(
    folder: Path, events: str, redirection: str, said: str
) -> None:
    done = in_shell(folder, events, redirection)
    assert done.returncode == 2, done.stderr
    (line,) = faults(done.stderr)
    assert line.startswith(said)
    assert [path.name for path in folder.iterdir()] == ["film.mp4"]


def test_what_goes_to_stdout_without_stderr_is_events_only(folder: Path) -> None:
    done = in_shell(folder, "-", "2>&-")
    assert done.returncode == 0
    check_events(done.stdout)


@pytest.mark.parametrize("command", ["--list-devices", "--version", "--help"])
def test_words_that_cannot_be_written_are_one_line(folder: Path, command: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m avsl.realtime.cli {command} > /dev/full"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: stdout: can't be written; No space left on device\n"
