"""What tests share: media made by PyAV, and an engine whose answer is plain to see."""

from __future__ import annotations

import functools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from avsl.engines import Bundle, Picture, Samples, Thresholds, WindowSpec
from avsl.engines.engine import NetworkMaps

Wave = Callable[[np.ndarray], np.ndarray]


class ToneEngine:
    """Points left for a tone under 1 kHz and right for one above it; noise is nowhere. What it
    says depends on the newest tenth of a second, so a test can tell when a sound was heard."""

    spec = bundle = Bundle(
        folder=Path("tone"),
        name="tone",
        version="0",
        window=WindowSpec(rate=16_000, length=16_000, hop=800, guard=640),
        picture_size=(64, 64),
        map_size=(8, 8),
        embedding_size=2,
        thresholds=Thresholds(0.5, 0.3, 0.5, -60.0, 6.0),
        meta={},
    )

    def for_pictures(self, height: int, width: int) -> ToneEngine:
        return self

    def maps(self) -> NetworkMaps:
        return NetworkMaps(self)

    def embed(self, samples: Samples) -> Samples:
        power = np.abs(np.fft.rfft(samples[-1600:])) ** 2
        tone = power.max() / (power.sum() + 1e-12)
        return np.array([power.argmax() * 10.0, tone], np.float32)

    def localize(self, picture: Picture, embedding: Samples) -> np.ndarray:
        assert picture.shape == (64, 64, 3)
        map_ = np.full((8, 8), 0.02, np.float32)
        pitch, tone = embedding
        if tone > 0.2:
            map_[3:5, 1 if pitch < 1000 else 6] = 0.9
        return map_


def tone(pitch: float, level: float = 0.4) -> Wave:
    return lambda t: level * np.sin(2 * np.pi * pitch * t)


def switching(*turns: tuple[float, float]) -> Wave:
    """A tone of each pitch until each time: (stop, pitch); 0 is silence."""

    def wave(t: np.ndarray) -> np.ndarray:
        out = np.zeros_like(t)
        start = -np.inf
        for stop, pitch in turns:
            inside = (t >= start) & (t < stop)
            out[inside] = 0.4 * np.sin(2 * np.pi * pitch * t[inside])
            start = stop
        return out

    return wave


def test_picture(index: int, width: int, height: int) -> np.ndarray:
    """A gradient with a bar that moves: RGB uint8."""
    rgb = _gradient(width, height).copy()
    at = index * 5 % width
    rgb[:, at : at + 8] = (230, 230, 30)
    return rgb


@functools.lru_cache(8)
def _gradient(width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 200 // width + 20, y * 200 // height + 20, 0 * x + 90], -1)
    return rgb.astype(np.uint8)


test_picture.__test__ = False  # type: ignore[attr-defined]


def make_video(
    path: Path,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (160, 120),
    pixels: str = "yuv420p",
    times: list[Fraction] | None = None,
    seconds: float = 1.0,
    rate: Fraction | int = 25,
    time_base: Fraction | None = None,
    options: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
    waves: tuple[Wave, ...] = (tone(440),),
    sound_codec: str = "aac",
    sound_rate: int = 48_000,
    layout: str = "mono",
    sound_from: float = 0.0,
    sound_to: float | None = None,
    sound_first: bool = False,
    aspect: Fraction | None = None,
    title: str = "",
    paint: Callable[[int, int, int], np.ndarray] = test_picture,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Writes a small video. `times` (seconds) overrides the even times of `rate`."""
    rate = Fraction(rate)
    base = time_base or 1 / rate
    times = times or [Fraction(i) / rate for i in range(round(seconds * rate))]
    with av.open(str(path), "w", container_options=container_options or {}) as out:
        if title:
            out.metadata["title"] = title
        video: Any = out.add_stream(codec, rate=rate, options=options or {})
        video.width, video.height, video.pix_fmt = *size, pixels
        video.time_base = video.codec_context.time_base = base
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        for name, value in (tags or {}).items():
            setattr(video.codec_context, name, value)
        tracks = [out.add_stream(sound_codec, rate=sound_rate, layout=layout) for _ in waves]
        if sound_codec.startswith("wma"):  # it has no default
            for track in tracks:
                track.bit_rate = 64_000

        def write_pictures() -> None:
            for index, time in enumerate(times):
                rgb = paint(index, *size)
                frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pixels)
                frame.pts, frame.time_base = round(time / base), base
                for name, value in (tags or {}).items():
                    setattr(frame, name, value)
                out.mux(video.encode(frame))
            out.mux(video.encode(None))

        def write_sound() -> None:
            start = float(times[0]) + sound_from
            stop = float(times[-1]) + float(1 / rate) if sound_to is None else sound_to
            for wave, track in zip(waves, tracks, strict=True):
                context: Any = track.codec_context
                t = np.arange(round(start * sound_rate), round(stop * sound_rate)) / sound_rate
                shape = context.layout.nb_channels, len(t)  # a wave may be of each channel
                samples = np.ascontiguousarray(np.broadcast_to(wave(t), shape), np.float32)
                block = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
                block.sample_rate = sound_rate
                block.pts, block.time_base = round(start * sound_rate), Fraction(1, sound_rate)
                size = context.frame_size or 1024
                fit = av.AudioResampler(context.format, layout, sound_rate, frame_size=size)
                for ready in [*fit.resample(block), *fit.resample(None)]:
                    out.mux(track.encode(ready))
                out.mux(track.encode(None))

        for write in (
            (write_sound, write_pictures) if sound_first else (write_pictures, write_sound)
        ):
            write()
    return path


def faults(stderr: str) -> list[str]:
    """The lines of a program's stderr, but for the one that says what runs the engine."""
    return [line for line in stderr.splitlines() if " runs with " not in line]


def frame_times(path: Path) -> list[Fraction]:
    """Exact presentation times of all pictures, from the packets of the first video stream."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.pts is not None]
        return sorted(Fraction(p.pts * p.time_base) for p in packets)


def sound_packets(path: Path, track: int = 0) -> list[tuple[Fraction, bytes]]:
    """Time and bytes of each packet of a sound track."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[track]
        packets = [p for p in container.demux(stream) if p.dts is not None and p.size]
        return [(Fraction(p.pts * p.time_base), bytes(p)) for p in packets]


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
