"""Reading video files: upright pictures with their exact times; `film_sound.py` has their sound.

Picture and sound come through two containers opened on one file: a file whose sound lies far from
its pictures would otherwise have to be kept in memory in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

import av
import av.error
from av.sidedata.sidedata import Type

from avsl.engines import UserError
from avsl.realtime.sources.decoding import Faults, decoded
from avsl.realtime.sources.ffmpeg import is_cover, keeps_times, open_file, side_data
from avsl.realtime.sources.film_clock import packets
from avsl.realtime.sources.frames import Frame
from avsl.realtime.sources.upright import Upright, lies, turn_of

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".vob", ".ts", ".mts"),
    *(".m2ts", ".wmv", ".flv", ".3gp", ".ogv", ".mxf", ".h264", ".h265", ".hevc", ".mjpeg"),
)
"""Files that are taken for videos in a folder."""
LARGEST_SIDE = 16_384
LOOK = 500
"""Packets in which a picture track among several must have two pictures to be taken for a film."""
GIVE_UP = 1000
"""So many damaged packets in a row, and the rest is not tried any more."""
STILLS = ("gif", "apng", "webp", "webp_anim", "image2")
"""Containers of still pictures, some of which can hold a film as well."""
STILL_BRANDS = ("avif", "heic", "heix", "mif1")


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
    turned: bool = False
    """Whether the pictures lie in the file: its width is their height."""
    side_data: dict[Type, bytes] = field(default_factory=dict)
    """What comes with the first picture, as it was read."""
    faults: Faults = field(default_factory=Faults)
    notes: list[str] = field(default_factory=list)
    """What the user should know about the pictures, a line each."""
    _pictures: Iterator[Any] = field(default_factory=lambda: iter(()))

    @property
    def time_base(self) -> Fraction:
        return Fraction(self.stream.time_base)

    @property
    def rate(self) -> Fraction:
        """Frames a second, on average."""
        return _rate(self.container, self.stream)

    @property
    def seconds(self) -> float | None:
        """How long it is said to be, if the file says so."""
        if self.stream.duration:
            return float(self.stream.duration * self.stream.time_base)
        return self.container.duration / av.time_base if self.container.duration else None

    def frames(self) -> Iterator[Frame]:
        """The pictures with their times in seconds. To be called once."""
        convert = Upright(self.width, self.height, self.deep)
        last: int | None = None
        index = 0
        for picture in self._pictures:
            # A muxer takes times that rise; damaged files may repeat one.
            if last is not None and picture.pts <= last:
                self.faults.packets += 1
                continue
            last = picture.pts
            picture = convert(picture)
            yield Frame(picture, float(last * self.time_base), index)
            index += 1

    def close(self) -> None:
        self.container.close()


def _rate(container: Any, stream: Any) -> Fraction:
    average, guessed = stream.average_rate, stream.guessed_rate
    # Of a bare stream FFmpeg's average is a default, while the guess is the stream's own.
    rate = average or guessed if keeps_times(container) else guessed or average
    return Fraction(rate or 25)


def _timed(container: Any, stream: Any, faults: Faults) -> Iterator[Any]:
    """Decoded pictures in their order, each with a `pts` in the stream's time base."""
    # AVI counts packets in the order of decoding: where pictures are reordered, FFmpeg's times of
    # them are made up. The order they come out in is right, and so are the times of the packets
    # that bring them out, but for the decoder's delay.
    counted = container.format.name == "avi" and stream.codec_context.has_b_frames
    step = max(1, round(1 / (_rate(container, stream) * stream.time_base)))
    first = delay = last = None
    failures = 0
    source = packets(container, stream)
    while failures < GIVE_UP:
        before = faults.packets
        try:
            packet = next(source, None)
        except av.error.FFmpegError:
            faults.packets += 1  # a file cut off in the middle ends like this
            return
        if packet is None:
            return
        first = packet.dts if first is None else first
        for picture in decoded(packet, faults):
            time = picture.pts
            if counted and picture.dts is not None and first is not None:
                delay = picture.dts - first if delay is None else delay
                time = picture.dts - delay
            elif counted or time is None:
                time = 0 if last is None else last + (picture.duration or step)
            picture.pts = last = time
            yield picture
        failures = failures + 1 if faults.packets > before else 0


def open_video(path: Path) -> Video:
    """Opens the pictures of a video file and decodes the first one.

    Raises:
        UserError: see `open_file`; or there is no film in it that can be decoded.
    """
    container = open_file(path)
    try:
        stream = _film(path, container)
        stream.thread_type = "AUTO"
        faults = Faults()
        # One decoder from the first picture to the last: another would begin without what this one
        # still holds.
        pictures = _timed(container, stream, faults)
        begin = list(islice(pictures, 2 if _may_be_a_still(container) else 1))
        if not begin:
            raise UserError(f"{path}: there is no picture in it that can be decoded")
        if _may_be_a_still(container) and len(begin) == 1:
            raise UserError(f"{path}: a still picture, not a film")
        first = begin[0]
        if max(first.width, first.height) > LARGEST_SIDE or min(first.width, first.height) < 2:
            raise UserError(f"{path}: pictures of {first.width}x{first.height} are not supported")
        width, height = first.width, first.height
        turned = lies(turn_of(first))
        if turned:
            width, height = height, width
        deep = max(c.bits for c in first.format.components) > 8
        even = width // 2 * 2, height // 2 * 2
        beside = side_data(first)
        video = Video(path, container, stream, *even, deep, turned, beside, faults)
        video._pictures = chain(begin, pictures)
        if not keeps_times(container):
            video.notes.append(
                f"a bare stream, which has no times; taken for {float(video.rate):g} pictures a "
                "second"
            )
    except BaseException:
        container.close()
        raise
    return video


def _may_be_a_still(container: Any) -> bool:
    name = container.format.name
    brand = container.metadata.get("major_brand", "").strip()
    return name.endswith("_pipe") or name in STILLS or brand in STILL_BRANDS


def _film(path: Path, container: Any) -> Any:
    """The picture track that holds the film."""
    streams = [s for s in container.streams.video if not is_cover(s)]
    if not streams:
        raise UserError(f"{path}: there is only sound in it, no video")
    known = [s for s in streams if s.codec_context is not None]
    if not known:
        raise UserError(f"{path}: its video codec is not one that this program can decode")
    if len(known) == 1:
        return known[0]
    # A still before the film: a title, a thumbnail that isn't marked as one.
    with open_file(path) as look:
        seen: Counter[int] = Counter()
        demuxed = look.demux(*(look.streams[s.index] for s in known))
        try:
            for packet in islice(demuxed, LOOK):
                seen[packet.stream.index] += packet.size > 0
                if min(seen[s.index] for s in known) > 1:
                    break
        except av.error.FFmpegError:
            pass  # what is there has been counted
    return next((s for s in known if seen[s.index] > 1), known[0])
