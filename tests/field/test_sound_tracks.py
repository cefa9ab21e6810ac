"""Sound tracks of every codec into every container: copied, transcoded or left out with a line that
says so; never is the picture lost for its sound."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers import ToneEngine, frame_times, make_video, sound_packets, test_picture

from avsl.realtime.films import annotate
from avsl.realtime.sinks.video_file import VideoWriter
from avsl.realtime.sources.video_file import open_video

PITCH = 440
TARGETS = ("mp4", "mov", "mkv", "webm")
# Codec, container, rate, layout, and where it is copied to.
TRACKS = [
    ("aac", "ts", 48_000, "stereo", "mp4 mov mkv"),
    ("aac", "mkv", 22_050, "5.1", "mp4 mov mkv"),
    ("mp3", "avi", 11_025, "mono", "mov mkv"),
    ("mp2", "mpg", 48_000, "stereo", "mp4 mov mkv"),
    ("ac3", "mkv", 48_000, "5.1(side)", "mp4 mov mkv"),
    ("eac3", "mkv", 48_000, "5.1(side)", "mp4 mov mkv"),
    ("flac", "mkv", 96_000, "stereo", "mp4 mkv"),
    ("flac", "mkv", 48_000, "7.1", "mp4 mkv"),
    ("alac", "mov", 44_100, "stereo", "mp4 mov mkv"),
    ("libopus", "mkv", 48_000, "5.1", "mp4 mkv webm"),
    ("wmav2", "wmv", 44_100, "stereo", ""),
    ("adpcm_ms", "avi", 22_050, "mono", ""),
    ("adpcm_swf", "flv", 11_025, "mono", ""),
    ("pcm_u8", "avi", 11_025, "mono", "mov mkv"),
    ("pcm_mulaw", "avi", 8000, "mono", "mov"),
    ("pcm_alaw", "mov", 8000, "mono", "mov"),
    ("pcm_s24le", "mov", 48_000, "stereo", "mov mkv"),
    ("pcm_f32le", "mkv", 48_000, "stereo", "mov mkv"),
    ("pcm_s16le", "mkv", 4000, "mono", "mov mkv"),
    ("pcm_s16le", "mkv", 48_000, "7.1", "mov mkv"),
    ("pcm_s16le", "mkv", 48_000, "hexadecagonal", "mov mkv"),
    ("pcm_bluray", "m2ts", 48_000, "stereo", ""),
    ("libopencore_amrnb", "3gp", 8000, "mono", "mov"),
]


def make(path: Path, codec: str, rate: int, layout: str) -> Path:
    """A second of film with a tone."""
    muxer = {"wmv": "asf", "m2ts": "mpegts", "mpg": "mpeg"}.get(path.suffix[1:])
    pictures = {"flv": "flv", "mpg": "mpeg2video", "ts": "mpeg2video", "m2ts": "mpeg2video"}
    with av.open(str(path), "w", format=muxer) as out:
        video: Any = out.add_stream(pictures.get(path.suffix[1:], "mpeg4"), rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        track: Any = out.add_stream(codec, rate=rate, layout=layout)
        if codec.startswith(("wma", "libopencore")):
            track.bit_rate = 64_000 if codec.startswith("wma") else 12_200  # no default of theirs
        out.start_encoding()
        context = track.codec_context
        tone = 0.3 * np.sin(2 * np.pi * PITCH * np.arange(rate) / rate)
        packed = np.repeat(tone.astype(np.float32), context.layout.nb_channels)
        block = av.AudioFrame.from_ndarray(packed[None], "flt", layout)
        block.sample_rate, block.pts, block.time_base = rate, 0, Fraction(1, rate)
        for index in range(25):
            frame = av.VideoFrame.from_ndarray(test_picture(index, 64, 48), "rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        size = context.frame_size or 1024
        fit = av.AudioResampler(context.format, layout, rate, frame_size=size)
        for ready in [*fit.resample(block), *fit.resample(None)]:
            out.mux(track.encode(ready))
        out.mux(track.encode(None))
    return path


def heard(path: Path) -> tuple[float, float, float]:
    """The first sound track: where it begins and how long it is, seconds, and its pitch."""
    with av.open(str(path)) as container:
        mono = av.AudioResampler("flt", "mono", 48_000)
        start, parts = None, []
        for frame in container.decode(audio=0):
            start = frame.time if start is None else start
            frame.pts = None
            parts += [out.to_ndarray()[0] for out in mono.resample(frame)]
    samples = np.concatenate(parts)
    pitch = np.abs(np.fft.rfft(samples)).argmax() * 48_000 / len(samples)
    return float(start or 0), len(samples) / 48_000, float(pitch)


@pytest.mark.parametrize("track", TRACKS, ids=lambda track: "-".join(map(str, track[:4])))
def test_sound_comes_into_every_container(tmp_path: Path, track: tuple[Any, ...]) -> None:
    codec, suffix, rate, layout, copied = track
    if codec not in av.codecs_available:
        pytest.skip(f"{codec} can't be written here")
    source = make(tmp_path / f"film.{suffix}", codec, rate, layout)
    start, length, _ = heard(source)
    for kind in TARGETS:
        out = tmp_path / f"out.{kind}"
        report = annotate(source, out, ToneEngine())
        assert report.frames == len(frame_times(out)) == 25, kind
        found = heard(out)
        assert found[0] == pytest.approx(start, abs=0.05), kind
        assert found[1] == pytest.approx(length, abs=0.16), kind
        assert found[2] == pytest.approx(PITCH, abs=5), kind
        if kind in copied.split():
            assert report.notes == (), kind
            ours, theirs = sound_packets(out), sound_packets(source)
            assert len(ours) == len(theirs), kind
            if suffix != "ts":  # there, each packet comes in an envelope
                assert [data for _, data in ours] == [data for _, data in theirs], kind
        else:
            (note,) = report.notes
            assert note.endswith(f"; it is {'libopus' if kind == 'webm' else 'aac'} now"), kind


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("codec", ["aac", "ac3"])
def test_a_track_without_packets(tmp_path: Path, codec: str, kind: str) -> None:
    whole = make_video(tmp_path / "whole.mkv", sound_codec=codec, options={"bf": "0"})
    with av.open(str(whole)) as one, av.open(str(tmp_path / "film.mkv"), "w") as two:
        streams = {s.index: two.add_stream_from_template(s) for s in one.streams}
        for packet in one.demux(video=0):
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                two.mux(packet)
    report = annotate(tmp_path / "film.mkv", tmp_path / f"out.{kind}", ToneEngine())
    assert report.frames == len(frame_times(tmp_path / f"out.{kind}")) == 25


HDR10 = (
    "log-level=none:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)"
    "L(10000000,50):max-cll=1000,400"
)
PQ = {"color_primaries": 9, "color_trc": 16, "colorspace": 9, "color_range": 1}


def mastering(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        data: Any = next(container.decode(video=0)).side_data
        found = [data[index] for index in range(len(data))]
    wanted = ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")
    return [bytes(one) for one in found if one.type.name in wanted]


def hdr10(path: Path) -> Path:
    options = {"x265-params": HDR10}
    return make_video(path, codec="libx265", pixels="yuv420p10le", options=options, tags=PQ)


def test_what_they_were_graded_on_is_not_asked_of_pictures_that_were_drawn_on(
    tmp_path: Path,
) -> None:
    """Once a picture is made writable, PyAV reads freed memory where its side data were."""
    video = open_video(hdr10(tmp_path / "hdr.mp4"))
    writer = VideoWriter(tmp_path / "out.mp4", video)
    for frame in video.frames():
        bare = av.VideoFrame.from_ndarray(frame.picture.to_ndarray(), "yuv420p10le")
        bare.pts, bare.time_base = frame.picture.pts, frame.picture.time_base
        writer.write(bare)
    video.close()
    assert mastering(writer.finish()) == mastering(tmp_path / "hdr.mp4") != []


def test_ten_bits_and_what_they_were_graded_on(tmp_path: Path) -> None:
    source = hdr10(tmp_path / "hdr.mp4")
    assert len(mastering(source)) == 2, "the case is none"
    for suffix in ("mp4", "mkv"):
        report = annotate(source, tmp_path / f"out.{suffix}", ToneEngine())
        assert report.notes == ()
        assert mastering(report.out) == mastering(source)
    report = annotate(source, tmp_path / "out.webm", ToneEngine())
    assert any("ten bits a colour became eight" in note for note in report.notes)
    assert any("HDR10's mastering data left out" in note for note in report.notes)
    assert len(frame_times(report.out)) == 25
