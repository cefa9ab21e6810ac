"""Reading video files: pictures with their exact times, and the sound before them.

Picture and sound come through two containers opened on one file: a file whose sound lies far from
its pictures would otherwise have to be kept in memory in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from avsl.engines import SoundTimeline, UserError
from avsl.realtime.sources.frames import Frame

# FFmpeg's own messages speak of its insides; what a person needs is said by our errors.
av.logging.set_level(None)

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".3gp", ".ogv", ".mxf"),
)
"""Files that are taken for videos in a folder."""
LARGEST_SIDE = 16_384
GAP_S = 0.02
"""Sound timestamps that are off by more than this begin anew at their own time: containers round
times, but a packet that is missing is at least this long."""


@dataclass
class Faults:
    """What could not be decoded on the way, counted."""

    packets: int = 0

    def note(self) -> str | None:
        """One line about it, if there is something to say."""
        if not self.packets:
            return None
        return f"{self.packets} damaged packets skipped"


def open_file(path: Path) -> Any:
    """Opens a media file to read.

    Raises:
        UserError: it is missing, a folder, not readable, or no media file.
    """
    try:
        return av.open(str(path), metadata_errors="ignore")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a folder, not a video file") from None
    except PermissionError:
        raise UserError(f"{path}: no permission to read it") from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        empty = path.is_file() and path.stat().st_size == 0
        what = "empty" if empty else "not a video, or damaged or cut off"
        raise UserError(f"{path}: can't be read; it is {what} ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]


@dataclass
class Video:
    """A file's pictures, upright and in order, in the decoder's own planes where they can be drawn
    on: `yuv420p` (or `yuvj420p`) and `yuv420p10le`; other formats are converted to these."""

    path: Path
    container: Any
    stream: Any
    width: int
    height: int
    """Of the upright pictures; even, for 4:2:0 can't hold half a colour sample: an odd last row or
    column is left out."""
    deep: bool
    """Whether the pictures have more than 8 bits."""
    faults: Faults = field(default_factory=Faults)
    _first: Any = None

    @property
    def time_base(self) -> Fraction:
        base: Fraction = self.stream.time_base
        return base

    @property
    def rate(self) -> Fraction:
        """Frames a second, on average."""
        return Fraction(self.stream.average_rate or self.stream.guessed_rate or 25)

    @property
    def seconds(self) -> float | None:
        """How long it is said to be, if the file says so."""
        if self.stream.duration:
            return float(self.stream.duration * self.stream.time_base)
        return self.container.duration / av.time_base if self.container.duration else None

    def frames(self) -> Iterator[Frame]:
        """The pictures with their times in seconds. To be called once."""
        convert = _Upright(self.width, self.height, self.deep)
        last: int | None = None
        index = 0
        for picture in self._decoded():
            # A muxer takes times that rise; damaged files may repeat one.
            if picture.pts is None or (last is not None and picture.pts <= last):
                self.faults.packets += 1
                continue
            last = picture.pts
            picture = convert(picture)
            yield Frame(picture, float(last * self.time_base), index)
            index += 1

    def _decoded(self) -> Iterator[Any]:
        if self._first is not None:
            yield self._first
            self._first = None
        yield from decode(self.container, self.stream, self.faults)

    def close(self) -> None:
        self.container.close()


def decode(container: Any, stream: Any, faults: Faults) -> Iterator[Any]:
    """Decoded frames of one stream; what is damaged is counted and left out."""
    packets = container.demux(stream)
    failures = 0
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError:
            # The rest can't be reached: a file cut off in the middle ends like this.
            faults.packets += 1
            return
        try:
            decoded = packet.decode()
            failures = 0
        except (av.error.FFmpegError, ValueError):
            faults.packets += 1
            failures += 1
            if failures > 1000:
                return
            continue
        yield from decoded


def open_video(path: Path) -> Video:
    """Opens the pictures of a video file and decodes the first one.

    Raises:
        UserError: see `open_file`; or there is no picture in it that can be decoded.
    """
    container = open_file(path)
    try:
        streams = [s for s in container.streams.video if not _is_cover(s)]
        if not streams:
            raise UserError(f"{path}: there is only sound in it, no video")
        stream = streams[0]
        if stream.codec_context is None:
            raise UserError(f"{path}: its video codec is not one that this program can decode")
        stream.thread_type = "AUTO"
        faults = Faults()
        first = next(decode(container, stream, faults), None)
        if first is None:
            raise UserError(f"{path}: there is no picture in it that can be decoded")
        if max(first.width, first.height) > LARGEST_SIDE or min(first.width, first.height) < 2:
            raise UserError(f"{path}: pictures of {first.width}x{first.height} are not supported")
        width, height = first.width, first.height
        if first.rotation % 180:
            width, height = height, width
        deep = max(c.bits for c in first.format.components) > 8
        video = Video(path, container, stream, width // 2 * 2, height // 2 * 2, deep, faults, first)
    except BaseException:
        container.close()
        raise
    return video


def _is_cover(stream: Any) -> bool:
    return "attached_pic" in str(stream.disposition)


class _Upright:
    """Turns pictures upright and brings them to the size and format that can be drawn on."""

    def __init__(self, width: int, height: int, deep: bool) -> None:
        self.width, self.height, self.deep = width, height, deep
        self._graph: Any = None
        self._key: Any = None
        self._reformatter = av.video.reformatter.VideoReformatter()

    def __call__(self, picture: Any) -> Any:
        turned = -picture.rotation % 360
        across, down = picture.width, picture.height
        if turned % 180:
            across, down = down, across
        if not turned and (across, down) == (self.width, self.height):
            upright = picture
        else:
            upright = self._filter(picture, turned, across, down)
        deep, name = self.deep, upright.format.name
        if name == "yuv420p10le" if deep else name in ("yuv420p", "yuvj420p"):
            return upright
        # yuvj is the old name of full range, which swscale keeps only if it is asked to.
        full = name.startswith("yuvj") or upright.color_range == 2
        wanted = "yuv420p10le" if deep else "yuvj420p" if full else "yuv420p"
        return self._reformatter.reformat(upright, format=wanted)

    def _filter(self, picture: Any, turned: int, across: int, down: int) -> Any:
        key = (picture.width, picture.height, picture.format.name, turned)
        if key != self._key:
            # vflip alone would only turn the order of lines in memory, which can't be drawn on.
            steps = {90: ["transpose=clock"], 180: ["vflip", "hflip"], 270: ["transpose=cclock"]}
            chain = list(steps.get(turned, []))
            if across - across % 2 == self.width and down - down % 2 == self.height:
                chain.append(f"crop={self.width}:{self.height}:0:0:exact=1")
            else:  # the size changes in the middle of the file
                chain.append(f"scale={self.width}:{self.height}")
            self._graph, self._key = _graph(picture, chain), key
        self._graph.push(picture)
        return self._graph.pull()


def _graph(picture: Any, chain: list[str]) -> Any:
    graph = av.filter.Graph()
    nodes = [
        graph.add_buffer(
            width=picture.width,
            height=picture.height,
            format=picture.format,
            time_base=picture.time_base or Fraction(1, 1000),
        )
    ]
    for step in chain:
        name, _, arguments = step.partition("=")
        nodes.append(graph.add(name, arguments) if arguments else graph.add(name))
    nodes.append(graph.add("buffersink"))
    for one, following in pairwise(nodes):
        one.link_to(following)
    graph.configure()
    return graph


class Sound:
    """A file's sound, decoded as far as the pictures have come, mono at the engine's rate."""

    def __init__(self, path: Path, rate: int, seconds: float) -> None:
        """`rate` in Hz, `seconds` is how much of it stays readable. The file's first sound track
        (or the one it marks as default) is heard; a file without sound is silent throughout."""
        self.timeline = SoundTimeline(rate, seconds)
        self.faults = Faults()
        self._container = open_file(path)
        self._next = -float("inf")  # where the sound written so far ends, in seconds
        self._index = 0
        best = self._container.streams.best("audio")
        self._blocks = self._decoded(best) if best and best.codec_context else iter(())

    def listen(self, until: float) -> SoundTimeline:
        """Decodes up to `until` (seconds of container time) and returns the timeline."""
        while self._next < until:
            block = next(self._blocks, None)
            if block is None:
                self._next = float("inf")
                break
            start, samples = block
            if start is not None:
                self._index = round(start * self.timeline.rate)
            self.timeline.write(self._index, samples)
            self._index += len(samples)
            self._next = self._index / self.timeline.rate
        return self.timeline

    def close(self) -> None:
        self._container.close()

    def _decoded(self, stream: Any) -> Iterator[tuple[float | None, Any]]:
        """Blocks of samples; with a start time where they don't follow on the block before."""
        resampler: Any = None
        shape: Any = None
        expected: float | None = None
        for frame in decode(self._container, stream, self.faults):
            start = expected if frame.pts is None else float(frame.pts * frame.time_base)
            if start is None:
                start = 0.0
            now = (frame.format.name, frame.layout.name, frame.sample_rate)
            jump = expected is None or abs(start - expected) > GAP_S or now != shape
            if jump:
                yield from self._flushed(resampler)
                resampler = av.AudioResampler("flt", "mono", self.timeline.rate)
                shape = now
            expected = (expected if not jump and expected is not None else start) + (
                frame.samples / frame.sample_rate
            )
            # The resampler would turn times into gaps or overlaps of its own.
            frame.pts = None
            try:
                for out in resampler.resample(frame):
                    yield (start if jump else None), out.to_ndarray()[0]
                    jump = False
            except (av.error.FFmpegError, ValueError):
                self.faults.packets += 1
                expected = None
                continue
            if jump:  # nothing came out yet, but what will come belongs here
                yield start, np.zeros(0, np.float32)
        yield from self._flushed(resampler)

    @staticmethod
    def _flushed(resampler: Any) -> Iterator[tuple[None, Any]]:
        if resampler is not None:
            with contextlib.suppress(av.error.FFmpegError, ValueError):
                for out in resampler.resample(None):
                    yield None, out.to_ndarray()[0]
