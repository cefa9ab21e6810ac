"""Where films of a run go: never onto one of them, each under a name of its own, and what is there
already is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import pytest
from helpers import ToneEngine, faults, frame_times, make_video

from avsl.engines import UserError
from avsl.realtime.films import annotate, check_apart, find_videos, targets


def avsl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avsl.realtime.cli", "--engine", "motion", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def make_films(folder: Path) -> None:
    folder.mkdir(parents=True)
    make_video(folder / "a.avi", codec="mpeg4", sound_codec="mp3", sound_rate=44_100)
    make_video(folder / "a.mp4")


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_a_folder_is_not_annotated_into_itself(tmp_path: Path, link: object) -> None:
    make_films(tmp_path / "films")
    out = tmp_path / "films"
    if link:
        out = tmp_path / "out"
        out.mkdir()
        link(tmp_path / "films" / "a.mp4", out / "a.mp4")  # type: ignore[operator]
    before = {path: path.read_bytes() for path in (tmp_path / "films").iterdir()}
    done = avsl(tmp_path, "films", "-o", f"{out}/", "--overwrite")
    assert done.returncode == 2
    (fault,) = faults(done.stderr)
    assert "is the film itself" in fault
    assert {path: path.read_bytes() for path in (tmp_path / "films").iterdir()} == before


def test_a_folder_run_again_makes_what_is_missing(tmp_path: Path) -> None:
    make_films(tmp_path / "films")
    (tmp_path / "films" / "more").mkdir()
    first = avsl(tmp_path, "films", "-o", "out/")
    assert first.returncode == 0
    said = faults(first.stderr)
    assert said[0] == "note: films: folders in it are left out: more"
    assert "films/a.avi -> out/a.avi.mp4" in first.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.mp4", "a.avi.mp4"}
    (tmp_path / "out" / "a.mp4").write_text("precious")
    again = avsl(tmp_path, "films", "-o", "out/")
    assert again.returncode == 0
    assert faults(again.stderr)[1:] == ["2 of 2 there already in out; --overwrite makes them anew"]
    assert (tmp_path / "out" / "a.mp4").read_text() == "precious"
    anew = avsl(tmp_path, "films", "-o", "out/", "--overwrite")
    assert anew.returncode == 0
    assert len(frame_times(tmp_path / "out" / "a.mp4")) == 25


@pytest.mark.parametrize(
    ("films", "names"),
    [
        (["a.avi", "b.mp4"], ["a.mp4", "b.mp4"]),
        (["a.avi", "a.mp4"], ["a.avi.mp4", "a.mp4"]),
        (["x/a.mp4", "y/a.mp4", "z/a.mp4"], ["a.mp4", "a-2.mp4", "a-3.mp4"]),
        (["a.avi", "a.avi.mp4", "a.mp4"], ["a-2.mp4", "a.avi.mp4", "a.mp4"]),
        (["A.mp4", "a.MP4"], ["A.mp4", "a-2.MP4"]),
        (["a.ts", "a.wmv", "a.mkv"], ["a.mp4", "a.wmv.mp4", "a.mkv"]),
    ],
)
def test_each_film_has_a_name_of_its_own(films: list[str], names: list[str]) -> None:
    found = targets([Path(film) for film in films], Path("out"))
    assert found == [Path("out") / name for name in names]


def test_a_film_named_twice_is_one(tmp_path: Path) -> None:
    make_films(tmp_path / "films")
    film = tmp_path / "films" / "a.mp4"
    assert len(find_videos([tmp_path / "films", film, film])) == 2


def test_events_are_no_film_of_the_run_either(tmp_path: Path) -> None:
    film = make_video(tmp_path / "film.mp4")
    (tmp_path / "link.jsonl").symlink_to(film)
    with pytest.raises(UserError, match="is the film itself, "):
        check_apart([film], [tmp_path / "out.mp4", tmp_path / "link.jsonl"])
    check_apart([film, tmp_path / "missing.mp4"], [tmp_path / "missing.mp4"])


@pytest.mark.parametrize("name", ["/dev/null", "/dev/full"])
def test_a_device_is_no_folder(tmp_path: Path, name: str) -> None:
    make_video(tmp_path / "film.mp4")
    done = avsl(tmp_path, "film.mp4", "-o", name)
    assert done.returncode == 2
    (fault,) = faults(done.stderr)
    assert fault.startswith(f"error: {name}: can't write this kind of file; name it with one of")


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    film, pipe = make_video(tmp_path / "film.mp4"), tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="is no file"):
        annotate(film, pipe, ToneEngine(), overwrite=True)
    assert pipe.is_fifo()


@pytest.mark.parametrize("there", [False, True])
def test_a_link_stays_a_link(tmp_path: Path, there: bool) -> None:
    film, link = make_video(tmp_path / "film.mp4"), tmp_path / "link.mp4"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if there:
        (elsewhere / "real.mp4").write_text("old")
    link.symlink_to(elsewhere / "real.mp4")
    annotate(film, link, ToneEngine(), overwrite=there)
    assert link.is_symlink()
    assert len(frame_times(elsewhere / "real.mp4")) == 25
    assert [path.name for path in elsewhere.iterdir()] == ["real.mp4"]


def test_a_timecode_becomes_no_track(tmp_path: Path) -> None:
    source = make_video(tmp_path / "film.mov")
    with av.open(str(source)) as one, av.open(str(tmp_path / "timed.mov"), "w") as two:
        two.metadata["timecode"] = "10:00:00:00"
        streams = {s.index: two.add_stream_from_template(s) for s in one.streams}
        for packet in one.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                two.mux(packet)
    annotate(tmp_path / "timed.mov", tmp_path / "out.mov", ToneEngine())
    with av.open(str(tmp_path / "timed.mov")) as one, av.open(str(tmp_path / "out.mov")) as two:
        assert len(one.streams.data) == 1, "the case is none"
        assert not two.streams.data
