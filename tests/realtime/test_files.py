"""Video files in, annotated files out: times, sound and pictures as they were."""

import json
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import (
    ToneEngine,
    frame_times,
    make_video,
    pictures,
    sound_packets,
    switching,
    test_picture,
    tone,
)

from avsl.engines import UserError
from avsl.realtime.films import annotate, find_videos
from avsl.realtime.sources.film_sound import Sound
from avsl.realtime.sources.video_file import open_video

NTSC = Fraction(30_000, 1001)
FILM = Fraction(24_000, 1001)
X265 = {"x265-params": "log-level=none"}
REALTIME = {"deadline": "realtime", "cpu-used": "8"}
HLG = {"color_primaries": 9, "color_trc": 18, "colorspace": 9, "color_range": 1}

CASES = {
    "plain.mp4": {},
    "ntsc.mp4": {"rate": NTSC, "time_base": Fraction(1, 30_000)},
    "b_frames.mp4": {"options": {"bf": "3"}, "seconds": 2.0},
    "late_start.mp4": {
        "times": [Fraction(100 + i, 25) for i in range(30)],
        "time_base": Fraction(1, 90_000),
    },
    "vfr.mp4": {
        "times": [Fraction(t, 1000) for t in (0, 33, 70, 150, 151, 400, 433, 900)],
        "time_base": Fraction(1, 1000),
    },
    "mpeg4.avi": {"codec": "mpeg4", "sound_codec": "mp3", "sound_rate": 44_100},
    "vp9.webm": {"codec": "libvpx-vp9", "sound_codec": "libopus", "options": REALTIME},
    "mjpeg.mov": {"codec": "mjpeg", "pixels": "yuvj420p", "sound_codec": "pcm_s16le"},
    "ffv1.mkv": {"codec": "ffv1", "sound_codec": "flac", "rate": FILM},
    "hlg.mp4": {"codec": "libx265", "pixels": "yuv420p10le", "options": X265, "tags": HLG},
    "full_range.mp4": {"pixels": "yuvj420p", "tags": {"color_range": 2, "colorspace": 1}},
    "four_two_two.mkv": {"codec": "ffv1", "pixels": "yuv422p"},
    "four_four_four.mp4": {"pixels": "yuv444p"},
    "ten_bit_422.mkv": {"codec": "ffv1", "pixels": "yuv422p10le"},
    "grey.mkv": {"codec": "ffv1", "pixels": "gray"},
    "rgb.mov": {"codec": "png", "pixels": "rgb24"},
    "odd.mkv": {"codec": "ffv1", "size": (163, 121)},
    "surround.mp4": {"layout": "5.1"},
    "telephone.mov": {"sound_codec": "pcm_mulaw", "sound_rate": 8000},
    "studio.mkv": {"sound_codec": "flac", "sound_rate": 96_000},
    "late_sound.mp4": {"sound_from": 0.5, "seconds": 2.0},
    "short_sound.mp4": {"sound_to": 0.6, "seconds": 2.0},
    "sound_first.mkv": {"sound_first": True, "seconds": 3.0},
    "silent_film.mp4": {"waves": ()},
    "two_tracks.mkv": {"waves": (tone(440), tone(3000)), "sound_codec": "flac"},
    "tiny.mp4": {"size": (16, 16)},
}


def run(source: Path, target: Path, **more: object) -> list[dict]:
    """Annotates and returns the events."""
    events = target.with_suffix(".jsonl")
    annotate(source, target, ToneEngine(), events=events, **more)  # type: ignore[arg-type]
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    assert lines[0]["schema"] == "avsl-events/1"
    return lines[1:]


def label_and_glow(shape: tuple[int, ...]) -> np.ndarray:
    """Where a picture may change: the label's corner, and the glow of a tone under 1 kHz."""
    height, width = shape[:2]
    may = np.zeros((height, width), bool)
    if height >= 120:
        may[int(height * 0.8) :] = True
    may[int(height * 0.2) : int(height * 0.8), : int(width * 0.5)] = True
    return may


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_times_sound_and_pictures_stay(tmp_path: Path, name: str, suffix: str) -> None:
    source = make_video(tmp_path / name, **CASES[name])
    target = tmp_path / f"out{suffix}"
    events = run(source, target)
    before, after = frame_times(source), frame_times(target)
    # Matroska counts in milliseconds.
    grain = Fraction(1, 1000) if suffix == ".mkv" else Fraction(0)
    assert len(before) == len(after) == len(events)
    shift = after[0] - before[0]
    assert all(abs(a + shift - b) <= grain for a, b in zip(before, after, strict=True))
    # Matroska has no times under zero: where sound begins earlier, as AAC's does by its delay, all
    # moves by that much, pictures and sound together.
    assert shift == 0 or (suffix == ".mkv" and 0 < shift < 0.05)
    assert [event["time"] for event in events] == [round(float(t), 6) for t in before]
    with av.open(str(source)) as one, av.open(str(target)) as two:
        assert len(one.streams.audio) == len(two.streams.audio)
        for track, (a, b) in enumerate(zip(one.streams.audio, two.streams.audio, strict=True)):
            assert a.codec_context.layout.nb_channels == b.codec_context.layout.nb_channels
            if a.codec_context.name == b.codec_context.name:
                ours, theirs = sound_packets(target, track), sound_packets(source, track)
                assert [data for _, data in ours] == [data for _, data in theirs]
                late = [abs(x - shift - y) for (x, _), (y, _) in zip(ours, theirs, strict=True)]
                assert max(late) <= Fraction(1, 1000)
        a, b = one.streams.video[0], two.streams.video[0]
        deep = max(c.bits for c in a.format.components) > 8
        assert b.format.name == ("yuv420p10le" if deep else b.format.name)
        assert max(c.bits for c in b.format.components) == (10 if deep else 8)
        assert (b.width, b.height) == (a.width // 2 * 2, a.height // 2 * 2)
    for old, new in list(zip(pictures(source), pictures(target), strict=True))[:: len(before) // 3]:
        old = old[: new.shape[0], : new.shape[1]].astype(int)
        kept = ~label_and_glow(new.shape)
        assert np.abs(old - new)[kept].mean() < 9, "outside the glow the picture is the picture"


@pytest.mark.parametrize("name", ["hlg.mp4", "full_range.mp4"])
def test_colour_tags_stay(tmp_path: Path, name: str) -> None:
    source = make_video(tmp_path / name, **CASES[name])
    annotate(source, tmp_path / "out.mp4", ToneEngine())
    with av.open(str(source)) as one, av.open(str(tmp_path / "out.mp4")) as two:
        for tag in ("color_primaries", "color_trc", "colorspace", "color_range"):
            a, b = (getattr(c.streams.video[0].codec_context, tag) for c in (one, two))
            assert a == b, tag


def rotate_tag(path: Path, degrees: int) -> None:
    """Writes a display matrix into the track header of an mp4, as a phone does."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    one, minus = (1 << 16).to_bytes(4, "big"), (-(1 << 16)).to_bytes(4, "big", signed=True)
    zero = bytes(4)
    a, b, c, d = {90: (zero, one, minus, zero), 180: (minus, zero, zero, minus),
                  270: (zero, minus, one, zero)}[degrees]  # fmt: skip
    data[at : at + 36] = a + b + zero + c + d + zero + zero + zero + (1 << 30).to_bytes(4, "big")
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_phone_video_is_turned_upright(tmp_path: Path, degrees: int) -> None:
    source = make_video(tmp_path / "phone.mp4", size=(160, 90))
    rotate_tag(source, degrees)
    annotate(source, tmp_path / "out.mp4", ToneEngine())
    upright = pictures(tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 0
    expected = np.rot90(test_picture(0, 160, 90), k=-degrees // 90)
    assert upright[0].shape == expected.shape
    assert np.abs(upright[0].astype(int) - expected)[:60].mean() < 12


def states_at(events: list[dict], times: np.ndarray) -> list[str]:
    """Left, right or dark, as the newest event at each time has it."""
    found = []
    stamps = np.array([event["time"] for event in events])
    for time in times:
        event = events[max(0, int(np.searchsorted(stamps, time, "right")) - 1)]
        peaks = event["peaks"]
        found.append("dark" if not peaks else "left" if peaks[0][0] < 0.5 else "right")
    return found


PAIRING = {
    "plain.mp4": {},
    "late_start.mp4": {"offset": 4},
    "late_sound.mp4": {"sound_from": 0.4},
    "vfr.mp4": {"uneven": True},
    "mp3.avi": {"codec": "mpeg4", "sound_codec": "mp3", "sound_rate": 44_100, "layout": "stereo"},
    "ntsc.mkv": {"rate": NTSC},
    "sound_last.mkv": {},
    "sound_first.mkv": {"sound_first": True},
    "telephone.mov": {"sound_codec": "pcm_mulaw", "sound_rate": 8000},
}


@pytest.mark.parametrize("name", PAIRING)
def test_a_picture_meets_the_sound_of_its_moment(tmp_path: Path, name: str) -> None:
    """The tone moves from low to high, ends, and comes back: what is found follows within the
    guard, the hop, the fake engine's tenth of a second, and a frame."""
    options = dict(PAIRING[name])
    offset = options.pop("offset", 0)
    rate = Fraction(options.get("rate", 25))
    times = [offset + i / rate for i in range(int(4 * rate))]
    if options.pop("uneven", False):
        times = [t for i, t in enumerate(times) if i % 7 not in (2, 3, 5)]
    turns = switching((offset + 1.0, 400), (offset + 2.0, 2000), (offset + 3.0, 0), (99, 500))
    base = Fraction(1, 90_000) if name.endswith("mp4") else None
    source = make_video(tmp_path / name, times=times, waves=(turns,), time_base=base, **options)
    events = run(source, tmp_path / "out.mp4")
    slack = 0.04 + 0.05 + 0.1 + 0.16
    for start, stop, said in (
        (0.6, 1.0, "left"),
        (1.0 + slack, 2.0, "right"),
        (2.0 + 0.5 + slack, 3.0, "dark"),
        (3.0 + slack, 3.9, "left"),
    ):
        assert set(states_at(events, offset + np.arange(start, stop, 0.04))) == {said}, said


def test_a_gap_in_the_sound_is_silence_at_its_place(tmp_path: Path) -> None:
    """Packets of the second second are missing: what follows keeps its time."""
    whole = make_video(tmp_path / "whole.mkv", seconds=4.0, sound_codec="flac")
    with av.open(str(whole)) as one, av.open(str(tmp_path / "gap.mkv"), "w") as two:
        streams = {s.index: two.add_stream_from_template(s) for s in one.streams}
        for packet in one.demux():
            if packet.dts is None:
                continue
            t = packet.pts * packet.time_base
            if packet.stream.type == "audio" and 1 <= t < 3:
                continue
            packet.stream = streams[packet.stream.index]
            two.mux(packet)
    sound = Sound(tmp_path / "gap.mkv", 16_000, 10.0)
    heard = sound.listen(3.9).read(round(3.9 * 16_000), round(3.9 * 16_000))
    level = [float(np.abs(heard[round(a * 16_000) : round(b * 16_000)]).max()) for a, b in
             ((0.2, 0.9), (1.2, 2.8), (3.2, 3.8))]  # fmt: skip
    assert level[0] > 0.3
    assert level[1] < 0.01
    assert level[2] > 0.3
    sound.close()


def test_every_nth(tmp_path: Path) -> None:
    source = make_video(tmp_path / "film.mp4", seconds=1.0)
    events = run(source, tmp_path / "out.mp4", every=5)
    assert len(events) == 5
    assert len(frame_times(tmp_path / "out.mp4")) == 25


def test_stopping_leaves_what_was_done_under_another_name(tmp_path: Path) -> None:
    source = make_video(tmp_path / "film.mp4", seconds=4.0)
    stop = threading.Event()

    def progress(done) -> None:
        if done.frames == 30:
            stop.set()

    report = annotate(source, tmp_path / "out.mp4", ToneEngine(), stop=stop, progress=progress)
    assert report.partial
    assert report.out == tmp_path / "out.partial.mp4"
    assert {p.name for p in tmp_path.iterdir()} == {"film.mp4", "out.partial.mp4"}
    assert len(frame_times(report.out)) == 30
    assert sound_packets(report.out)[-1][0] < 1.5, "sound ends where the pictures end"
    stop.clear()
    again = annotate(source, tmp_path / "out.mp4", ToneEngine(), stop=stop, progress=progress)
    assert again.out == tmp_path / "out.partial2.mp4", "what was done before is kept"


def test_a_run_that_ends_as_it_is_stopped_is_whole(tmp_path: Path) -> None:
    source = make_video(tmp_path / "film.mp4", seconds=1.0)
    stop = threading.Event()
    report = annotate(
        source,
        tmp_path / "out.mp4",
        ToneEngine(),
        stop=stop,
        progress=lambda done: stop.set() if done.frames == 25 else None,
    )
    assert not report.partial
    assert report.out == tmp_path / "out.mp4"


def test_events_are_no_name_for_the_film(tmp_path: Path) -> None:
    source = make_video(tmp_path / "film.mp4")
    target = tmp_path / "out.mp4"
    with pytest.raises(UserError, match="a file of its own"):
        annotate(source, target, ToneEngine(), events=target)
    assert not target.exists()


def test_what_exists_is_kept_unless_asked(tmp_path: Path) -> None:
    source = make_video(tmp_path / "film.mp4")
    target = tmp_path / "out.mp4"
    target.write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        annotate(source, target, ToneEngine())
    assert target.read_text() == "precious"
    with pytest.raises(UserError, match="is the film itself"):
        annotate(source, source, ToneEngine(), overwrite=True)
    with pytest.raises(UserError, match="is the film itself"):
        annotate(source, tmp_path / "b.mp4", ToneEngine(), events=source, overwrite=True)
    assert frame_times(source)
    events = tmp_path / "out.jsonl"
    events.write_text("precious")
    with pytest.raises(UserError, match=r"out\.jsonl: exists already"):
        annotate(source, tmp_path / "new.mp4", ToneEngine(), events=events)
    assert not (tmp_path / "new.mp4").exists()
    annotate(source, target, ToneEngine(), events=events, overwrite=True)
    assert frame_times(target)
    assert {p.name for p in tmp_path.iterdir()} == {"film.mp4", "out.mp4", "out.jsonl"}


def test_sound_that_a_container_can_t_hold_is_transcoded_and_said(tmp_path: Path) -> None:
    source = make_video(
        tmp_path / "phone.mov", sound_codec="pcm_mulaw", sound_rate=8000, seconds=2.0
    )
    report = annotate(source, tmp_path / "out.mp4", ToneEngine())
    assert len(report.notes) == 1
    assert "pcm_mulaw" in report.notes[0]
    assert "aac" in report.notes[0]
    sound = Sound(tmp_path / "out.mp4", 16_000, 4.0)
    heard = sound.listen(1.5).read(24_000, 16_000)
    sound.close()
    spectrum = np.abs(np.fft.rfft(heard))
    assert spectrum.argmax() == pytest.approx(440, abs=3)
    copied = annotate(source, tmp_path / "out.mov", ToneEngine())
    assert copied.notes == ()
    webm = annotate(make_video(tmp_path / "aac.mp4"), tmp_path / "out.webm", ToneEngine())
    assert "libopus" in webm.notes[0]
    with av.open(str(tmp_path / "out.webm")) as container:
        assert container.streams.audio[0].codec_context.name == "opus"
        assert container.streams.video[0].codec_context.name == "vp9"


def test_pixel_shape_stays(tmp_path: Path) -> None:
    source = make_video(tmp_path / "dv.mp4", size=(144, 120), aspect=Fraction(16, 15))
    annotate(source, tmp_path / "out.mp4", ToneEngine())
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 15)


def test_find_videos(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.MKV", "notes.txt", ".hidden.mp4"):
        (tmp_path / name).write_bytes(b"")
    found = find_videos([tmp_path, Path("other.xyz")])
    assert [path.name for path in found] == ["a.MKV", "b.mp4", "other.xyz"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no videos in this folder"):
        find_videos([tmp_path / "empty"])


def test_first_pictures_are_not_lost(tmp_path: Path) -> None:
    video = open_video(make_video(tmp_path / "film.mp4", seconds=0.4))
    frames = list(video.frames())
    video.close()
    assert [frame.index for frame in frames] == list(range(10))
    assert frames[0].time == 0


def test_a_film_keeps_its_title(tmp_path: Path) -> None:
    source = make_video(tmp_path / "film.mkv", title="Kettle")
    annotate(source, tmp_path / "out.mp4", ToneEngine())
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.metadata["title"] == "Kettle"


def test_two_runs_at_once_with_one_target(tmp_path: Path) -> None:
    """Both write beside; the last one to end is there, whole."""
    source = make_video(tmp_path / "film.mp4", seconds=3.0)
    command = [sys.executable, "-m", "avsl.realtime.cli", str(source), "-o", "out.mp4"]
    runs = [subprocess.Popen([*command, "--overwrite"], cwd=tmp_path) for _ in range(2)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    assert len(frame_times(tmp_path / "out.mp4")) == 75
    assert {path.name for path in tmp_path.iterdir()} == {"film.mp4", "out.mp4"}
