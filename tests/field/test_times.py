"""Times that begin below zero, or anew in the middle: picture, sound, events and OUT agree."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace as Made
from typing import Any

import av
import numpy as np
import pytest
from helpers import ToneEngine, frame_times, make_video, sound_packets, switching

from avsl.realtime.films import annotate
from avsl.realtime.sources.film_clock import FilmClock


def run(source: Path, suffix: str) -> tuple[Any, list[Fraction], list[tuple[float, str]]]:
    """The report, OUT's times, and each event's time and side."""
    out, path = source.with_suffix(f".out{suffix}"), source.with_suffix(".jsonl")
    report = annotate(source, out, ToneEngine(), events=path, overwrite=True)
    lines = [json.loads(line) for line in path.read_text().splitlines()][1:]
    sides = [
        (e["time"], "dark" if not (p := e["peaks"]) else "left" if p[0][0] < 0.5 else "right")
        for e in lines
    ]
    return report, frame_times(out), sides


def moved(source: Path, target: Path, by: Fraction, **options: str) -> Path:
    """The same packets, all so much later."""
    with av.open(str(source)) as one, av.open(str(target), "w", options=options) as two:
        streams = {s.index: two.add_stream_from_template(s) for s in one.streams}
        for packet in one.demux():
            if packet.dts is not None and packet.pts is not None:
                ticks = round(by / packet.time_base)
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                packet.stream = streams[packet.stream.index]
                two.mux(packet)
    return target


LOW_THEN_HIGH = switching((1.5, 400), (3.0, 2000))
KINDS = {
    "film.ts": {"sound_codec": "mp2"},
    "film.vob": {"codec": "mpeg2video", "sound_codec": "mp2"},
    "b_frames.ts": {"options": {"bf": "3"}, "sound_codec": "aac"},
}


@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("name", KINDS)
def test_recordings_put_end_to_end_go_on(
    tmp_path: Path, name: str, suffix: str, times: int
) -> None:
    kind = KINDS[name]
    source = make_video(
        tmp_path / name, seconds=3.0, sound_rate=44_100, waves=(LOW_THEN_HIGH,), **kind
    )
    count, packets = len(frame_times(source)), len(sound_packets(source))
    source.write_bytes(times * source.read_bytes())
    report, shown, sides = run(source, suffix)
    assert report.frames == len(shown) == len(sides) == times * count
    assert report.notes == ()
    gaps = np.diff([float(time) for time in shown])
    assert gaps.min() > 0.03
    assert gaps.max() < 0.2
    # In each recording low comes before high: the sound is beside the pictures all along.
    start = sides[0][0]
    for turn in range(times):
        first = sides[turn * count][0]
        assert abs(first - start - 3 * turn) < 0.2 * turn + 0.01
        here = sides[turn * count : (turn + 1) * count]
        assert {side for time, side in here if 0.4 < time - first < 1.4} == {"left"}
        assert {side for time, side in here if 1.9 < time - first < 2.9} == {"right"}
    sound = [float(time) for time, _ in sound_packets(source.with_suffix(f".out{suffix}"))]
    assert len(sound) == times * packets
    assert np.diff(sound).max() < 0.2
    assert abs(sound[-1] - float(shown[-1])) < 0.2


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_broadcast_s_clock_that_wraps(tmp_path: Path, suffix: str) -> None:
    """33 bits of it are over 26.5 hours; FFmpeg takes what is before for less than nothing."""
    whole = make_video(tmp_path / "whole.mp4", seconds=3.0, waves=(LOW_THEN_HIGH,))
    by = Fraction(2**33, 90_000) - 2
    source = moved(whole, tmp_path / "wrap.ts", by, mpegts_copyts="1")
    with av.open(str(source)) as container:
        assert container.start_time < -1_000_000, "the case isn't one"
    report, shown, sides = run(source, suffix)
    assert report.frames == 75
    assert [time for time, _ in sides] == pytest.approx([i / 25 for i in range(75)], abs=1e-3)
    slack = 0.03 if suffix == ".mkv" else 1e-4  # Matroska has no times below zero for AAC's start
    assert [float(time) for time in shown] == pytest.approx([t for t, _ in sides], abs=slack)
    assert {side for time, side in sides if 0.4 < time < 1.4} == {"left"}
    assert {side for time, side in sides if 1.9 < time < 2.9} == {"right"}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_an_edit_list_that_begins_in_the_middle(tmp_path: Path, suffix: str) -> None:
    """What an editor cut away before the first picture stays away."""
    whole = make_video(
        tmp_path / "whole.mp4", seconds=3.0, waves=(LOW_THEN_HIGH,), options={"g": "50", "bf": "2"}
    )
    cut = moved(whole, tmp_path / "cut.mp4", Fraction(-4, 5), avoid_negative_ts="disabled")
    report, shown, sides = run(cut, suffix)
    assert report.frames == len(sides) == 55
    assert [time for time, _ in sides] == pytest.approx([i / 25 for i in range(55)])
    assert abs(float(shown[0])) < 0.15
    sound = sound_packets(cut.with_suffix(f".out{suffix}"))
    assert abs(float(sound[0][0] - shown[0])) < 0.15, "sound and picture begin together"
    assert {side for time, side in sides if 1.1 < time < 2.1} == {"right"}


# The clock alone.


class Stream:
    type = "video"
    disposition = av.stream.Disposition(0)

    def __init__(self, index: int, start: int) -> None:
        self.index, self.start_time, self.time_base = index, start, Fraction(1, 1000)


def clock(*starts: int, leaps: bool = False) -> FilmClock:
    """Of one picture track and sound tracks, beginning at milliseconds."""
    streams = [Stream(index, start) for index, start in enumerate(starts)]
    flags = av.format.Flags.ts_discont.value if leaps else 0
    tracks = Made(video=streams[:1], audio=streams[1:])
    return FilmClock(Made(streams=tracks, format=Made(flags=flags)))


def placed(film: FilmClock, packets: list[tuple[int, int]]) -> list[int]:
    """Where packets of 40 ms land, given as (track, milliseconds)."""
    out = []
    for index, time in packets:
        packet = Made(
            stream=Stream(index, 0), pts=time, dts=time, duration=40, time_base=Fraction(1, 1000)
        )
        film.place(packet)
        out.append(packet.pts)
    return out


A, B = 0, 1
CLOCKS: dict[str, tuple[FilmClock, list[tuple[int, int]], list[int]]] = {
    "as it is": (clock(0, 0), [(A, 0), (B, 0), (A, 40), (B, 40)], [0, 0, 40, 40]),
    "late": (clock(9000, 9000), [(A, 9000), (B, 9000)], [9000, 9000]),
    "below zero": (clock(-2000, -2020), [(B, -2020), (A, -2000)], [-20, 0]),
    "sound long before": (clock(0, -1000), [(B, -1000), (A, 0)], [0, 1000]),
    "a gap": (clock(0, 0), [(A, 0), (B, 0), (A, 9000), (B, 9000)], [0, 0, 9000, 9000]),
    "anew": (
        clock(0, 0),
        [(A, 9000), (B, 9000), (A, 0), (B, 9040), (B, 0), (A, 40)],
        [9000, 9000, 9040, 9040, 9040, 9080],
    ),
    "anew, sound first": (
        clock(100, 0),
        [(A, 9100), (B, 9060), (B, 0), (A, 9140), (A, 100), (B, 40)],
        [9100, 9060, 9140, 9140, 9240, 9180],
    ),
    "a stamp that is off for a moment": (
        clock(0, 0),
        [(A, 80), (B, 80), (A, 900_000), (B, 120), (A, 160), (B, 160)],
        [80, 80, 900_000, 120, 160, 160],
    ),
    "a broadcast that leaps": (
        clock(0, 0, leaps=True),
        [(A, 0), (B, 0), (A, 9_000_000), (B, 9_000_000), (A, 9_000_040)],
        [0, 0, 40, 40, 80],
    ),
    "small steps back": (clock(0, 0), [(A, 90), (B, 90), (A, 40)], [90, 90, 40]),
}


@pytest.mark.parametrize("name", CLOCKS)
def test_the_film_s_clock(name: str) -> None:
    film, packets, expected = CLOCKS[name]
    assert placed(film, packets) == expected


def test_times_past_all_counting_are_no_times() -> None:
    film = clock(-(2**62), 0)
    assert placed(film, [(A, 2**62)]) == [None]
