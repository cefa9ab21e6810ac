"""Films as they are found: every picture, at its time, the way it is to be seen."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers import ToneEngine, faults, frame_times, make_video, pictures, test_picture, tone

from avsl.engines import UserError
from avsl.realtime.films import Report, annotate
from avsl.realtime.sources import video_file
from avsl.realtime.sources.upright import AS_IT_IS, TURNS
from avsl.realtime.sources.video_file import open_video


def annotated(source: Path, name: str = "out.mp4") -> tuple[Report, Path, list[dict[str, Any]]]:
    """The report, OUT and the events."""
    out = source.parent / "done" / name
    out.parent.mkdir(exist_ok=True)
    events = out.with_suffix(".jsonl")
    report = annotate(source, out, ToneEngine(), events=events, overwrite=True)
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    return report, out, lines[1:]


# Every picture, however few and however slow.


@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("count", [1, 2, 4, 10])
def test_no_picture_of_a_short_film_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, threads: int
) -> None:
    film = video_file._film

    def threaded(path: Path, container: Any) -> Any:
        stream = film(path, container)
        stream.codec_context.thread_count = threads
        return stream

    monkeypatch.setattr(video_file, "_film", threaded)
    source = make_video(tmp_path / "film.mp4", seconds=count / 25, options={"bf": "2"})
    report, out, events = annotated(source)
    assert report.frames == len(frame_times(out)) == len(events) == count
    assert report.notes == ()


def test_a_screen_at_a_picture_a_second(tmp_path: Path) -> None:
    source = make_video(tmp_path / "screen.mp4", rate=1, seconds=15, options={"bf": "0"})
    report, out, events = annotated(source)
    assert [event["time"] for event in events] == list(range(15))
    assert frame_times(out) == list(range(15))
    assert report.notes == ()


# Pictures whose times the container doesn't keep.


def test_h264_with_b_frames_in_avi_is_evenly_spaced(tmp_path: Path) -> None:
    source = make_video(
        tmp_path / "film.avi",
        seconds=3.0,
        options={"bf": "3"},
        sound_codec="mp3",
        sound_rate=44_100,
    )
    report, out, events = annotated(source)
    assert report.notes == ()
    assert frame_times(out) == [Fraction(i, 25) for i in range(75)]
    assert [event["time"] for event in events] == [round(i / 25, 6) for i in range(75)]


BARE = {
    "film.h264": ("libx264", "yuv420p", {"bf": "3"}, 30),
    "film.h265": ("libx265", "yuv420p", {"x265-params": "log-level=none"}, 30),
    "film.m4v": ("mpeg4", "yuv420p", {}, 30),
    "film.mjpeg": ("mjpeg", "yuvj420p", {}, 25),  # it can't say its rate
}


@pytest.mark.parametrize("name", BARE)
def test_a_bare_stream_is_taken_at_its_rate_and_it_is_said(tmp_path: Path, name: str) -> None:
    codec, pixels, options, rate = BARE[name]
    path = tmp_path / name
    # .m4v is MP4 by its name.
    with av.open(str(path), "w", format="m4v" if codec == "mpeg4" else None) as out:
        stream: Any = out.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for index in range(20):
            frame = av.VideoFrame.from_ndarray(test_picture(index, 64, 48), format="rgb24")
            frame = frame.reformat(format=pixels)
            frame.pts, frame.time_base = index, Fraction(1, 30)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    report, done, events = annotated(path)
    assert report.frames == 20
    assert any("no times" in note and f"{rate} pictures a second" in note for note in report.notes)
    gaps = np.diff([float(time) for time in frame_times(done)])
    assert np.allclose(gaps, 1 / rate, atol=1e-4)
    assert [e["time"] for e in events] == pytest.approx([i / rate for i in range(20)], abs=1e-4)


# The way a picture is to be seen.

W, H = 160, 96


def with_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """Another display matrix in the track header of an MP4, as phones and editors write it."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    one = [round(65536 * value) for value in (a, b, c, d)]
    rows = (*one[:2], 0, *one[2:], 0, 0, 0, 1 << 30)
    data[at : at + 36] = struct.pack(">9i", *rows)
    path.write_bytes(bytes(data))
    return path


def shown(rgb: np.ndarray, turn: tuple[int, int, int, int]) -> np.ndarray:
    """What a player makes of a stored picture, point by point."""
    a, b, c, d = turn
    height, width = rgb.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    across, down = a * x + c * y, b * x + d * y
    across, down = across - across.min(), down - down.min()
    out = np.zeros((down.max() + 1, across.max() + 1, 3), np.uint8)
    out[down, across] = rgb
    return out


class Eye(ToneEngine):
    """Points at the yellow bar of `test_picture` while a tone is heard."""

    def localize(self, picture: np.ndarray, embedding: np.ndarray) -> np.ndarray:
        yellow = picture[..., 0].astype(int) + picture[..., 1] - 2 * picture[..., 2]
        cells = yellow.reshape(8, 8, 8, 8).mean((1, 3))
        return np.where(cells == cells.max(), np.float32(0.9), np.float32(0.02))


def bar(rgb: np.ndarray) -> tuple[float, float]:
    """Where the yellow bar is, in 0..1."""
    y, x = np.nonzero((rgb[..., 0] > 190) & (rgb[..., 1] > 190) & (rgb[..., 2] < 80))
    return float(x.mean()) / rgb.shape[1], float(y.mean()) / rgb.shape[0]


@pytest.mark.parametrize("turn", TURNS)
def test_all_eight_ways_a_picture_can_lie(tmp_path: Path, turn: tuple[int, int, int, int]) -> None:
    source = with_matrix(make_video(tmp_path / "film.mp4", size=(W, H), seconds=1.5), *turn)
    events, out = tmp_path / "e.jsonl", tmp_path / "out.mp4"
    annotate(source, out, Eye(), events=events)
    seen = pictures(out)
    first = shown(test_picture(0, W, H), turn)
    assert seen[0].shape == first.shape
    assert np.abs(seen[0].astype(int) - first)[: len(first) // 2].mean() < 12
    with av.open(str(out)) as container:
        assert next(container.decode(video=0)).rotation == 0, "it would be turned twice"
    lines = [json.loads(line) for line in events.read_text().splitlines()][1:]
    x, y = bar(shown(test_picture(30, W, H), turn))
    peak = lines[30]["peaks"][0]
    across = turn[0] != 0  # the bar is a column in the file
    assert peak[0 if across else 1] == pytest.approx(x if across else y, abs=0.08)


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((0.9994, 0.0349, -0.0349, 0.9994), AS_IT_IS),  # two degrees
        ((0.7071, 0.7071, -0.7071, 0.7071), None),  # 45 degrees: one or the other
        ((0.1, 0.9, -0.9, 0.1), (0, 1, -1, 0)),
        ((-0.97, 0.2, 0.2, 0.97), (-1, 0, 0, 1)),
        ((2, 0, 0, 1), AS_IT_IS),
        ((0, 0, 0, 0), AS_IT_IS),
        ((-32768, 0, 0, 32767), (-1, 0, 0, 1)),
    ],
)
def test_other_angles_are_the_nearest_quarter(
    tmp_path: Path, matrix: tuple[float, ...], turn: tuple[int, int, int, int] | None
) -> None:
    source = with_matrix(make_video(tmp_path / "film.mp4", size=(W, H), seconds=0.2), *matrix)
    report, out, _ = annotated(source)
    assert report.frames == 5
    if turn:
        first = shown(test_picture(0, W, H), turn)
        assert np.abs(pictures(out)[0].astype(int) - first)[: len(first) // 2].mean() < 12


# What is no film.


def image(codec: str, pixels: str, count: int = 1) -> bytes:
    """Packets of pictures, one after the other."""
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 48, pixels
    encoder.time_base = encoder.framerate = Fraction(25)
    encoder.time_base = Fraction(1, 25)
    out = b""
    for index in range(count):
        frame = av.VideoFrame.from_ndarray(test_picture(index, 64, 48), format="rgb24")
        frame = frame.reformat(format=pixels)
        frame.pts, frame.time_base = index, Fraction(1, 25)
        out += b"".join(bytes(packet) for packet in encoder.encode(frame))
    return out + b"".join(bytes(packet) for packet in encoder.encode(None))


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + kind + body


def song(path: Path) -> Path:
    """A song with a cover, of the kind its suffix says."""
    codec = {".mp3": "mp3", ".m4a": "aac", ".mkv": "flac", ".flac": "flac"}[path.suffix]
    cover = image("mjpeg", "yuvj420p")
    with av.open(str(path), "w") as out:
        if path.suffix == ".mkv":
            out.add_attachment("cover.jpg", "image/jpeg", cover)
        stream: Any = out.add_stream(codec, rate=48_000, layout="mono")
        samples = (tone(440)(np.arange(48_000) / 48_000) * 20_000).astype(np.int16)[None]
        block = av.AudioFrame.from_ndarray(samples, "s16", "mono")
        block.sample_rate, block.pts = 48_000, 0
        size = stream.codec_context.frame_size or 1024
        fit = av.AudioResampler(stream.codec_context.format, "mono", 48_000, frame_size=size)
        for ready in (*fit.resample(block), *fit.resample(None), None):
            out.mux(stream.encode(ready))
    data = path.read_bytes()
    if path.suffix == ".mp3":
        body = b"\0image/jpeg\0\3\0" + cover
        tag = b"APIC" + struct.pack(">I", len(body)) + b"\0\0" + body
        size = bytes((len(tag) >> shift) & 127 for shift in (21, 14, 7, 0))
        data = b"ID3\3\0\0" + size + tag + data[data.index(b"\xff\xfb") :]
    elif path.suffix == ".m4a":
        at = data.rindex(b"moov") - 4
        handler = box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
        art = box(b"ilst", box(b"covr", box(b"data", struct.pack(">II", 13, 0) + cover)))
        moov = data[at + 8 :]
        moov = moov[: moov.index(b"udta") - 4] if b"udta" in moov else moov
        moov += box(b"udta", box(b"meta", bytes(4) + handler + art))
        data = data[:at] + box(b"moov", moov)
    elif path.suffix == ".flac":
        kind = b"image/jpeg"
        body = struct.pack(">II", 3, len(kind)) + kind + bytes(20)
        body += struct.pack(">I", len(cover)) + cover
        data = data[:42] + b"\6" + struct.pack(">I", len(body))[1:] + body + data[42:]
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1, "the cover isn't there"
    return path


def avsl(*arguments: str, cwd: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avsl.realtime.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, **more)


@pytest.mark.parametrize("name", ["song.mp3", "song.m4a", "song.mkv", "song.flac"])
def test_a_cover_is_no_film(tmp_path: Path, name: str) -> None:
    song(tmp_path / name)
    done = avsl(name, "-o", "out.mp4", "--events", "e.jsonl", cwd=tmp_path)
    assert done.returncode == 2
    assert [line for line in faults(done.stderr) if "only sound in it" in line]
    assert len(faults(done.stderr)) == 1
    assert {path.name for path in tmp_path.iterdir()} == {name}


STILLS = {
    "a.jpg": ("mjpeg", "yuvj420p"),
    "a.png": ("png", "rgb24"),
    "a.bmp": ("bmp", "bgr24"),
    "a.tiff": ("tiff", "rgb24"),
    "a.gif": ("gif", "rgb8"),
}


@pytest.mark.parametrize("name", STILLS)
def test_a_photograph_is_no_film(tmp_path: Path, name: str) -> None:
    codec, pixels = STILLS[name]
    with av.open(str(tmp_path / name), "w") as out:
        stream: Any = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        frame = av.VideoFrame.from_ndarray(test_picture(0, 64, 48), format="rgb24")
        frame = frame.reformat(format=pixels)
        frame.pts = 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(UserError, match=f"{name}: a still picture, not a film"):
        open_video(tmp_path / name)


def test_a_gif_that_moves_is_a_film(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.gif", codec="gif", pixels="rgb8", waves=(), seconds=0.4)
    report, _, _ = annotated(source)
    assert report.frames == 10


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_still_before_the_film_is_not_taken_for_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"film{suffix}"
    with av.open(str(path), "w") as out:
        title: Any = out.add_stream("mjpeg", rate=25)
        title.width, title.height, title.pix_fmt = 32, 32, "yuvj420p"
        film: Any = out.add_stream("libx264", rate=25)
        film.width, film.height, film.pix_fmt = 160, 120, "yuv420p"
        for stream, count, size in ((title, 1, (32, 32)), (film, 25, (160, 120))):
            for index in range(count):
                frame = av.VideoFrame.from_ndarray(test_picture(index, *size), format="rgb24")
                frame = frame.reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base = index, Fraction(1, 25)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    report, out_path, _ = annotated(path)
    assert report.frames == 25
    assert pictures(out_path)[0].shape == (120, 160, 3)


# Names are names, and a pipe is said to be one.

NAMES = (
    *("2024-05-01T12:34:56.mp4", "Talk: part 1.mp4", "file:film2.mp4", "%d.mp4", "%03d.mp4"),
    *("-h.mp4", "@x.mp4", "concat:a.mp4", "http:x.mp4", "a|b?.mp4", "caf\udce9.mp4", "-.mp4"),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_a_path(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_video(tmp_path / "film.mp4", seconds=0.2).rename(tmp_path / name)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)  # without a folder before it, the name is all there is
    report = annotate(Path(name), Path("out") / name, ToneEngine())
    assert report.frames == 5
    monkeypatch.chdir(tmp_path / "out")
    assert annotate(Path("..") / name, Path(name), ToneEngine(), overwrite=True).frames == 5
    assert [path.name for path in Path().iterdir()] == [name]


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for name in ("pipe.mp4", "/dev/zero"):
        done = avsl(name, "-o", "out.mp4", cwd=tmp_path)
        assert done.returncode == 2
        (fault,) = faults(done.stderr)
        assert "can be read only once; save it as a file first" in fault


@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="no /dev/stdin")
def test_stdin_is_a_pipe_or_a_file(tmp_path: Path) -> None:
    film = make_video(tmp_path / "film.mp4", seconds=0.4)
    piped = avsl("/dev/stdin", "-o", "out.mp4", cwd=tmp_path, stdin=subprocess.PIPE)
    assert piped.returncode == 2
    assert "only once" in piped.stderr
    with film.open() as file:
        done = avsl("/dev/stdin", "-o", "out.mp4", cwd=tmp_path, stdin=file)
    assert done.returncode == 0, done.stderr
    assert len(frame_times(tmp_path / "out.mp4")) == 10
