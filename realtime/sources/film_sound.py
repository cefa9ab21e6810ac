"""The sound of a film: one of its tracks, mono, on the film's time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from avsl.engines import SoundTimeline, UserError
from avsl.engines.windows import Samples
from avsl.realtime.sources.decoding import Faults, decoded
from avsl.realtime.sources.ffmpeg import open_file
from avsl.realtime.sources.film_clock import packets
from avsl.realtime.sources.mono import Mono

GAP_S = 0.02
"""Sound timestamps that are off by more than this begin anew at their own time: containers round
times, but a packet that is missing is at least this long."""
SILENT = 1e-4
"""A track whose samples stay under this has no sound: a coder's rounding, or the dither of 16 bits,
and 20 dB under what any engine hears."""


UNNAMED = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
"""What old containers mean by a number of channels."""


class Sound:
    """A file's sound, decoded as far as the pictures have come, mono at the engine's rate.

    One track is heard: of those that can be decoded the first that sounds, the file's own default
    before all others. Screen recorders write a silent track before the one that was spoken into.
    While the ones before are silent a later one is heard, and given up as soon as one before it
    sounds, so that nothing has to be known of what comes.
    """

    def __init__(self, path: Path, rate: int, seconds: float, track: int | None = None) -> None:
        """`rate` in Hz, `seconds` is how much of it stays readable; `track` chooses a sound track,
        1 the file's first. A file without sound is silent throughout.

        Raises:
            UserError: see `open_file`; or there is no such track, or it can't be decoded.
        """
        self.timeline = SoundTimeline(rate, seconds)
        self.faults = Faults()
        self._container = open_file(path)
        try:
            self._tracks = self._candidates(path, track)
        except BaseException:
            self.close()
            raise
        streams = [one.stream for one in self._tracks]
        self._packets = packets(self._container, *streams)
        self._by_index = {one.stream.index: one for one in self._tracks}
        self._ended = not self._tracks
        # Where there is no choice there is nothing to wait for.
        self._heard = self._tracks[0] if len(self._tracks) == 1 else None
        self._given_up: int | None = None
        """Number of the track that was heard before it."""
        self._began = 0.0
        """When the track that is heard first sounded."""

    def _candidates(self, path: Path, wanted: int | None) -> list[_Track]:
        """The tracks that may be heard, the ones to be preferred first."""
        streams = list(self._container.streams.audio)
        count = len(streams)
        if wanted is not None and not 1 <= wanted <= count:
            has = f"it has {count}, the first is 1" if count else "it has none"
            raise UserError(f"{path}: there is no sound track {wanted}; {has}")
        best = self._container.streams.best("audio")
        order = sorted(range(count), key=lambda n: (streams[n] is not best, n))
        self._unknown = [n + 1 for n in range(count) if streams[n].codec_context is None]
        if wanted in self._unknown:
            raise UserError(
                f"{path}: sound track {wanted} is of a codec that this program can't decode"
            )
        chosen = [n for n in order if wanted in (None, n + 1) and n + 1 not in self._unknown]
        return [_Track(streams[n], n + 1, self.timeline.rate, self.faults) for n in chosen]

    @property
    def notes(self) -> list[str]:
        """What the user should know about it so far, a line each."""
        heard, lines = self._heard, []
        says = f"sound track {heard.number} is heard" if heard else "nothing is heard"
        if self._unknown and (heard is None or heard.number > self._unknown[0]):
            lines.append(f"sound track {self._unknown[0]} can't be decoded; {says}")
        silent = self._tracks[: self._tracks.index(heard)] if heard else self._tracks
        if silent and len(self._tracks) > 1:
            lines.append(f"sound track {silent[0].number} is silent; {says}")
        elif heard and self._given_up:
            lines.append(
                f"sound track {heard.number} is silent until {self._began:.1f} s; "
                f"until then track {self._given_up} is heard"
            )
        return lines

    def listen(self, until: float) -> SoundTimeline:
        """Decodes up to `until` (seconds of the film) and returns the timeline."""
        while not self._ended and self._next < until:
            try:
                packet = next(self._packets, None)
            except av.error.FFmpegError:
                self.faults.packets += 1  # the rest can't be reached
                packet = None
            if packet is None:
                self._ended = True
                break
            track = self._by_index[packet.stream.index]
            for index, samples in track.take(packet):
                self._hear(track, index, samples)
        if self._heard is None and self._tracks:  # it is known by now that all were silent so far
            last = round(until * self.timeline.rate) - 1
            self.timeline.write(last, np.zeros(1, np.float32))
        return self.timeline

    def close(self) -> None:
        self._container.close()

    @property
    def _next(self) -> float:
        """Up to where it is known what is heard, in seconds."""
        return self._heard.next if self._heard else min(track.next for track in self._tracks)

    def _hear(self, track: _Track, index: int, samples: Samples) -> None:
        heard = self._heard
        if track is not heard:
            if heard and self._tracks.index(heard) < self._tracks.index(track):
                return
            if not len(samples) or float(np.abs(samples).max()) < SILENT:
                return
            self._given_up = heard.number if heard else None
            self._heard, self._began = track, index / self.timeline.rate
        self.timeline.write(index, samples)


class _Track:
    """One sound track: packets in, samples with their places in the film out."""

    def __init__(self, stream: Any, number: int, rate: int, faults: Faults) -> None:
        self.stream = stream
        self.number = number
        """Among the file's sound tracks, from 1."""
        self.next = -float("inf")
        """Where what came so far ends, in seconds of the film."""
        self._rate = rate
        self._faults = faults
        self._index = 0
        self._expected: float | None = None
        self._shape: Any = None
        self._mono: _ToMono | None = None

    def take(self, packet: Any) -> Iterator[tuple[int, Samples]]:
        """Blocks of samples at the engine's rate, each with the index of its first one; the empty
        packet at the end gives what is left."""
        for frame in decoded(packet, self._faults):
            yield from self._resampled(frame)
        if packet.size == 0 and packet.dts is None:
            yield from self._placed(self._mono.rest() if self._mono else ())
            self.next = float("inf")

    def _resampled(self, frame: Any) -> Iterator[tuple[int, Samples]]:
        expected = self._expected
        start = expected if frame.pts is None else frame.time
        if start is None:
            start = 0.0
        rate, layout = frame.sample_rate, frame.layout
        shape = frame.format.name, layout.name, layout.nb_channels, rate
        if expected is None or abs(start - expected) > GAP_S or shape != self._shape:
            yield from self._placed(self._mono.rest() if self._mono else ())
            self._mono, self._shape = _ToMono(frame, self._rate), shape
            self._index, expected = round(start * self._rate), start
        self._expected = expected + frame.samples / rate
        try:
            blocks = self._mono(frame) if self._mono else []
        except (av.error.FFmpegError, ValueError):
            self._faults.packets += 1
            self._expected = None
            return
        yield from self._placed(blocks)

    def _placed(self, blocks: Any) -> Iterator[tuple[int, Samples]]:
        for samples in blocks:
            index = self._index
            self._index += len(samples)
            yield index, samples
        self.next = self._index / self._rate


class _ToMono:
    """Frames of one format to mono float32 at another rate."""

    def __init__(self, frame: Any, rate: int) -> None:
        self._rate = frame.sample_rate
        self._channels = frame.layout.nb_channels
        # Packed: PyAV can't give more than seven planes.
        self._unpack: Any = None
        if frame.format.name != "fltp" or self._channels > 2:
            self._unpack = av.AudioResampler("flt", frame.layout, frame.sample_rate)
        self._mix = Mono(frame.sample_rate, weights(frame.layout.name, self._channels))
        self._resampler = av.AudioResampler("flt", "mono", rate)

    def __call__(self, frame: Any) -> list[Samples]:
        frame.pts = None  # the resampler would turn times into gaps or overlaps of its own
        if self._unpack is None:
            channels = [frame.to_ndarray()]
        else:
            packed = [part.to_ndarray() for part in self._unpack.resample(frame)]
            channels = [samples.reshape(-1, self._channels).T for samples in packed]
        return [out for samples in channels for out in self._resample(self._mix(samples))]

    def _resample(self, samples: Samples) -> Iterator[Samples]:
        block = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), "flt", "mono")
        block.sample_rate = self._rate
        for out in self._resampler.resample(block):
            yield out.to_ndarray()[0]

    def rest(self) -> list[Samples]:
        """What the resampler still holds."""
        with contextlib.suppress(av.error.FFmpegError, ValueError):
            return [out.to_ndarray()[0] for out in self._resampler.resample(None)]
        return []


@lru_cache
def weights(layout: str, channels: int) -> tuple[float, ...] | None:
    """How loud FFmpeg mixes each channel of a layout into mono; None where it doesn't know the
    layout, or mixes none of it."""
    unit = np.eye(channels, dtype=np.float32)
    layout = layout if " channel" not in layout else UNNAMED.get(channels, layout)
    try:
        found = []
        for channel in unit:
            mixer = av.AudioResampler("flt", "mono", 48_000)
            frame = av.AudioFrame.from_ndarray(np.tile(channel, (1, 16)), "flt", layout)
            frame.sample_rate = 48_000
            (out,) = mixer.resample(frame)
            found.append(float(out.to_ndarray()[0, 0]))
    except (av.error.FFmpegError, ValueError, IndexError):
        return None
    return tuple(found) if any(found) else None
