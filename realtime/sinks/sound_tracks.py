"""The sound tracks of a film on their way into another file: copied packet by packet, transcoded
where they must be, and left out, with a word on it, where even that can't be."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.bitstream import BitStreamFilterContext

from avsl.engines.windows import Samples
from avsl.realtime.sinks.part_file import open_to_write
from avsl.realtime.sources.ffmpeg import open_file
from avsl.realtime.sources.film_clock import packets

LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")
"""What to call so many channels where a file doesn't, or where an encoder doesn't know its name."""
TRIED = 8
"""Packets of each track that a container is tried with."""
LOOKED_AT = 32 << 20
"""Bytes of a film in which these are looked for."""
GAP_S = 0.05
"""Where transcoded sound is off by more than this, silence is filled in, or what is doubled is left
out: containers round times, but do not move them by as much."""

_NOT_TAKEN = (av.error.FFmpegError, ValueError, OverflowError, MemoryError)
"""How codecs and muxers refuse."""


@dataclass(frozen=True)
class _Way:
    """How one track of a film comes into a file."""

    index: int
    codec: str | None = None
    """What it is transcoded to; None: it is copied."""
    layout: str = ""
    late: bool = False
    """Whether it is not described before its first packets."""
    adts: bool = False
    """Whether it is AAC as broadcasts have it, which FFmpeg takes out of its envelopes by itself
    for files of a piece only."""


class SoundPlan:
    """How every sound track of a film can be had in a file of one kind. It is tried with its first
    packets: what a container says it holds is not what it takes, and one track that its muxer
    refuses would cost the film."""

    def __init__(self, path: Path, kind: str) -> None:
        """Raises UserError where `path` can't be read."""
        self.path = path
        self.notes: list[str] = []
        """What the user should know, a line each."""
        self.ways: list[_Way] = []
        with contextlib.closing(open_file(path)) as source:
            if source.streams.subtitles:
                self.notes.append("subtitles are left out")
            first = _first_packets(source)
            for stream in source.streams.audio:
                if stream.codec_context is None:
                    self.notes.append(f"sound track {stream.index}: unknown codec, left out")
                elif way := self._way(stream, first.get(stream.index, []), kind):
                    self.ways.append(way)

    @property
    def late(self) -> bool:
        """Whether the file's index has to wait for the first packets."""
        return any(way.late for way in self.ways)

    def _way(self, stream: Any, early: list[Any], kind: str) -> _Way | None:
        context, name = stream.codec_context, stream.codec_context.codec.canonical_name
        late = not context.extradata
        adts = name == "aac" and bool(early) and bytes(early[0])[:1] == b"\xff"
        way = _Way(stream.index, late=late, adts=adts and kind in ("mp4", "mov"))
        if _holds(stream, early, kind, way) and (early or not late):
            return way
        codec = "libopus" if kind == "webm" else "aac"
        own = LAYOUTS[context.layout.nb_channels - 1 : context.layout.nb_channels]
        for layout in dict.fromkeys((context.layout.name, *own, "stereo")):
            way = _Way(stream.index, codec, layout)
            if _encodes(stream, early, kind, way):
                kind = {"matroska": "mkv"}.get(kind, kind)
                self.notes.append(f"sound was {name}, which {_why(kind, name)}; it is {codec} now")
                return way
        self.notes.append(f"sound track {stream.index}: {name} can't be written, left out")
        return None


def _why(kind: str, name: str) -> str:
    if kind == "mp4" and name.startswith("pcm_"):
        return "few players can play in a mp4 file"
    return f"a {kind} file can't hold"


def _first_packets(source: Any) -> dict[int, list[Any]]:
    """The first packets of each sound track, by its index, as far as they come early on."""
    found: dict[int, list[Any]] = {s.index: [] for s in source.streams.audio if s.codec_context}
    wanting, looked_at = len(found), 0
    with contextlib.suppress(av.error.FFmpegError):
        for packet in source.demux() if found else ():
            looked_at += packet.size
            kept = found.get(packet.stream_index)
            if kept is not None and packet.size and len(kept) < TRIED:
                kept.append(packet)
                wanting -= len(kept) == TRIED
            if not wanting or looked_at > LOOKED_AT:
                break
    return found


def _holds(stream: Any, early: list[Any], kind: str, way: _Way) -> bool:
    context = stream.codec_context
    if kind == "mp4" and context.name.startswith("pcm_"):
        return False  # FFmpeg and few others play it; every player plays AAC
    try:
        with contextlib.closing(open_to_write(io.BytesIO(), kind, way.late)) as trial:
            if not {context.name, context.codec.name} & trial.supported_codecs:
                return False
            track = _Copied(trial, stream, way)
            trial.start_encoding()
            for packet in early:
                trial.mux(track.take(packet))
            trial.close()
    except _NOT_TAKEN:
        return False
    return True


def _encodes(stream: Any, early: list[Any], kind: str, way: _Way) -> bool:
    try:
        with contextlib.closing(open_to_write(io.BytesIO(), kind, late=False)) as trial:
            track = _Transcoded(trial, stream, way)
            trial.start_encoding()
            ready = [made for packet in early for made in track.take(packet)] + track.end()
            trial.mux(ready)
            trial.close()
    except _NOT_TAKEN:
        return False
    return bool(ready) or not early


class SoundTracks:
    """The tracks of a plan in a file that is being written; it is read a second time for them."""

    def __init__(self, plan: SoundPlan, container: Any) -> None:
        """Adds the tracks to `container`. Raises UserError where the film can't be read again."""
        self._out = container
        self._in = open_file(plan.path)
        self._refused = 0
        self._tracks: dict[int, _Copied | _Transcoded] = {}
        make: type[_Copied | _Transcoded]
        for way in plan.ways:
            stream = self._in.streams[way.index]
            make = _Transcoded if way.codec else _Copied
            self._tracks[way.index] = make(container, stream, way)
        streams = [self._in.streams[index] for index in self._tracks]
        self._packets = packets(self._in, *streams)
        self._waiting: Any = None

    def note(self) -> str | None:
        """One line about what was damaged, if there is something to say."""
        refused = self._refused + sum(track.refused for track in self._tracks.values())
        return f"{refused} damaged packets of sound left out" if refused else None

    def copy(self, until: float) -> None:
        """Writes what lies before `until` (seconds)."""
        while True:
            packet = self._waiting or self._following()
            self._waiting = None
            if packet is None:
                return
            if packet.dts is not None and packet.dts * packet.time_base >= until:
                self._waiting = packet
                return
            for ready in self._tracks[packet.stream.index].take(packet):
                try:
                    self._out.mux(ready)
                except av.error.FFmpegError:  # of a fault of the disk's, PartFile tells
                    self._refused += 1

    def _following(self) -> Any:
        try:
            return next(self._packets, None)
        except av.error.FFmpegError:
            return None  # the file is cut off here

    def close(self) -> None:
        self._in.close()


class _Copied:
    def __init__(self, container: Any, stream: Any, way: _Way) -> None:
        self.refused = 0
        self._track = container.add_stream_from_template(stream)
        self._track.metadata.update(stream.metadata)
        self._bare = BitStreamFilterContext("aac_adtstoasc", stream) if way.adts else None
        self._last: int | None = None

    def take(self, packet: Any) -> list[Any]:
        # The empty packet at the end flushes decoders; a muxer wants none of it. And no muxer
        # takes times that go back, as in damaged files.
        if packet.dts is None or packet.size == 0:
            return []
        if self._last is not None and packet.dts < self._last:
            self.refused += 1
            return []
        self._last = packet.dts
        try:
            ready = self._bare.filter(packet) if self._bare else [packet]
        except av.error.FFmpegError:
            self.refused += 1
            return []
        for one in ready:
            one.stream = self._track
        return ready


class _Transcoded:
    """Decoded, brought to what the encoder takes, and encoded on a clock of samples."""

    def __init__(self, container: Any, stream: Any, way: _Way) -> None:
        assert way.codec, "else it would be copied"
        self.refused = 0
        self._rate = _rate(way.codec, stream.codec_context.sample_rate)
        self._track = container.add_stream(way.codec, rate=self._rate, layout=way.layout)
        self._track.metadata.update(stream.metadata)
        self._encoder = self._track.codec_context
        self._size = 1024  # samples that the encoder takes at once, known once it is open
        self._resampler: Any = None
        self._shape: Any = None
        self._expected = 0.0  # when the next frame should begin, in seconds
        self._channels = self._encoder.layout.nb_channels
        self._convert = av.AudioResampler(self._encoder.format, self._encoder.layout, self._rate)
        self._rest: Samples = np.zeros(0, np.float32)  # packed, as all samples here
        self._end: int | None = None  # the number of the sample after these, from time 0 on

    def take(self, packet: Any) -> list[Any]:
        ready: list[Any] = []
        try:
            for frame in packet.decode():
                ready += self._encoded(frame)
        except _NOT_TAKEN:
            self.refused += 1
        return ready + (self.end() if packet.size == 0 else [])

    def end(self) -> list[Any]:
        """What is still held back. No more can follow."""
        return [*self._flushed(), *self._to_whole_frames(), *self._track.encode(None)]

    def _encoded(self, frame: Any) -> list[Any]:
        self._size = self._encoder.frame_size or self._size
        start = self._expected if frame.pts is None else float(frame.pts * frame.time_base)
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        ready: list[Any] = []
        if shape != self._shape or abs(start - self._expected) > GAP_S:
            ready += self._flushed()
            # Packed: PyAV can't give more than seven planes.
            self._resampler = av.AudioResampler("flt", self._encoder.layout, self._rate)
            self._shape = shape
            ready += self._go_to(round(start * self._rate))
            self._expected = start
        self._expected += frame.samples / frame.sample_rate
        # The resampler would turn times into gaps or overlaps of its own.
        frame.pts = None
        for out in self._resampler.resample(frame):
            ready += self._add(out.to_ndarray()[0])
        return ready

    def _flushed(self) -> list[Any]:
        if self._resampler is None:
            return []
        rest = self._resampler.resample(None)
        return [packet for out in rest for packet in self._add(out.to_ndarray()[0])]

    def _go_to(self, sample: int) -> list[Any]:
        """Sound goes on at this sample: a short gap is silence, a long one a jump in time."""
        gap = 0 if self._end is None else sample - self._end
        if 0 < gap <= self._rate:
            return self._add(np.zeros(gap * self._channels, np.float32))
        ready = self._to_whole_frames() if gap > 0 else []
        if gap >= 0:
            self._end = sample
        return ready

    def _add(self, samples: Samples) -> list[Any]:
        assert self._end is not None, "it begins where the first frame does"
        self._rest = np.concatenate([self._rest, samples])
        self._end += len(samples) // self._channels
        size = self._size * self._channels
        ready: list[Any] = []
        while len(self._rest) >= size:
            block = av.AudioFrame.from_ndarray(self._rest[None, :size], "flt", self._encoder.layout)
            block.sample_rate, block.time_base = self._rate, Fraction(1, self._rate)
            block.pts = self._end - len(self._rest) // self._channels
            self._rest = self._rest[size:]
            for frame in self._convert.resample(block):
                ready += self._track.encode(frame)
        return ready

    def _to_whole_frames(self) -> list[Any]:
        if not len(self._rest):
            return []
        return self._add(np.zeros(self._size * self._channels - len(self._rest), np.float32))


def _rate(codec: str, wanted: int) -> int:
    """The rate nearest to what is wanted that the encoder takes, rather above than below it."""
    rates: list[int] = av.codec.Codec(codec, "w").audio_rates or [wanted]
    return min(rates, key=lambda rate: (rate < wanted, abs(rate - wanted)))
