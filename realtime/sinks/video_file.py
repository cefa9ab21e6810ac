"""Writing video files: pictures at their own times, sound copied packet by packet."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.error

from avsl.engines import UserError
from avsl.realtime.sources.decoding import Faults
from avsl.realtime.sources.ffmpeg import create_file, open_file
from avsl.realtime.sources.film_clock import packets
from avsl.realtime.sources.video_file import Video

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""What OUT can be, by its suffix."""

# veryfast is the fastest preset of x264 whose files are not half as large again; crf 20 can't be
# told from the source on a screen.
H264 = ("libx264", {"preset": "veryfast", "crf": "20"})
# Ten bits: what phones write is HEVC, and hardly anything plays ten-bit H.264.
HEVC = ("libx265", {"preset": "ultrafast", "crf": "22", "x265-params": "log-level=none"})
VP9 = (
    "libvpx-vp9",
    {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "crf": "32", "b": "0"},
)


def check_target(target: Path) -> None:
    """Raises UserError where `target` has a suffix that no video of ours can have."""
    if target.suffix.lower() not in CONTAINERS:
        known = " ".join(CONTAINERS)
        raise UserError(f"{target}: can't write this kind of file; name it with one of {known}")


QUEUE = 8
"""Pictures that wait for the encoder: enough for x264's threads not to run dry while a picture is
localized, and 11 MB at 1280x720."""


class VideoWriter:
    """A file in the making: written beside its place, and put there only when it is whole.

    A thread of its own encodes and copies sound, beside the decoder and the networks; what fails
    there is raised by the next `write` or by `finish`.
    """

    def __init__(self, target: Path, video: Video) -> None:
        """Opens a hidden file beside `target` for the pictures and all sound tracks of `video`.

        Raises:
            UserError: it can't be written there.
        """
        check_target(target)
        self.target = target
        self.notes: list[str] = []
        """What the user should know about the sound, a line each."""
        # Two runs at once may have one target.
        self._beside = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
        kind = CONTAINERS[target.suffix.lower()]
        with _writing(target):
            self._container = create_file(self._beside, kind)
        try:
            self._container.metadata.update(video.container.metadata)
            self._stream = self._video_stream(video, kind)
            self._tracks = _SoundTracks(video.path, self._container, kind, self.notes)
        except BaseException:
            self._discard()
            raise
        self._fault: BaseException | None = None
        self._given_up = False
        self._queue: queue.Queue[av.VideoFrame | None] = queue.Queue(QUEUE)
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    def _video_stream(self, video: Video, kind: str) -> Any:
        codec, options = VP9 if kind == "webm" else HEVC if video.deep else H264
        stream: Any = self._container.add_stream(codec, rate=video.rate, options=dict(options))
        context = stream.codec_context
        source = video.stream.codec_context
        stream.width, stream.height = video.width, video.height
        stream.pix_fmt = "yuv420p10le" if video.deep else "yuv420p"
        stream.time_base = context.time_base = video.time_base
        for tag in ("color_primaries", "color_trc", "colorspace", "color_range"):
            setattr(context, tag, getattr(source, tag))
        if source.format and source.format.name.startswith("yuvj"):
            context.color_range = 2
        aspect = video.stream.sample_aspect_ratio
        if aspect:
            turned = video.stream.codec_context.width // 2 * 2 != video.width
            context.sample_aspect_ratio = 1 / aspect if turned else aspect
        if codec == "libx265":
            context.codec_tag = "hvc1"
        return stream

    def write(self, picture: av.VideoFrame) -> None:
        """Hands one picture over, to be encoded at its own `pts`; it must not be changed any more.
        Waits while `QUEUE` others do."""
        self._hand_over(picture)

    def _hand_over(self, picture: av.VideoFrame | None) -> None:
        while self._fault is None:
            try:
                self._queue.put(picture, timeout=0.5)
                return
            except queue.Full:
                continue
        raise self._fault

    def _run(self) -> None:
        try:
            while (picture := self._queue.get()) is not None and not self._given_up:
                picture.pict_type = 0  # the source's choice of key frames is not the encoder's
                self._encode(picture)
        except BaseException as error:
            self._fault = error

    def _encode(self, picture: av.VideoFrame | None) -> None:
        """Encodes a picture (None: what the encoder still holds), and copies the sound up to it."""
        with _writing(self.target):
            for packet in self._stream.encode(picture):
                if packet.dts is not None:
                    self._tracks.copy(float(packet.dts * packet.time_base))
                self._container.mux(packet)

    def finish(self, target: Path | None = None, until: float = float("inf")) -> Path:
        """Completes the file and puts it in its place (or at `target`); sound after `until` seconds
        is left out. Returns where it lies.

        Raises:
            UserError: it can't be written; nothing of it is left.
        """
        place = target or self.target
        try:
            self._hand_over(None)
            self._thread.join()
            if self._fault:
                raise self._fault
            self._encode(None)
            with _writing(self.target):
                self._tracks.copy(until)
                self._tracks.close()
                self._container.close()
                self._beside.replace(place)
        except BaseException:
            self.abandon()
            raise
        return place

    def abandon(self) -> None:
        """Gives up; nothing stays behind."""
        self._given_up = True
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)  # wakes the thread; if the queue is full, it is awake
        self._thread.join()
        self._discard()

    def _discard(self) -> None:
        with contextlib.suppress(Exception):
            self._container.close()
        with contextlib.suppress(Exception):
            self._tracks.close()
        with contextlib.suppress(OSError):
            self._beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Says in one line why a file can't be written."""
    try:
        yield
    except UserError:
        raise
    except (av.error.FFmpegError, OSError) as error:
        reasons = {
            errno.ENOSPC: "no space left on the disk",
            errno.EDQUOT: "the disk quota is used up",
            errno.EACCES: "no permission to write there",
            errno.EPERM: "no permission to write there",
            errno.EROFS: "the disk is read-only",
            errno.ENOENT: "its folder does not exist",
            errno.ENOTDIR: "its folder is not a folder",
        }
        reason = reasons.get(error.errno or 0, str(error.strerror or error))
        raise UserError(f"{target}: can't be written; {reason}") from None


class _SoundTracks:
    """All sound tracks of a file, copied packet by packet, or transcoded where they must be."""

    def __init__(self, path: Path, container: Any, kind: str, notes: list[str]) -> None:
        self._out = container
        self._in = open_file(path)
        self._faults = Faults()
        self._tracks: dict[int, Any] = {}
        holds = container.supported_codecs
        if self._in.streams.subtitles:
            notes.append("subtitles are left out")
        for stream in self._in.streams.audio:
            if stream.codec_context is None:
                notes.append(f"sound track {stream.index}: unknown codec, left out")
            elif stream.codec_context.name in holds or stream.codec_context.codec.name in holds:
                track = container.add_stream_from_template(stream)
                track.metadata.update(stream.metadata)
                self._tracks[stream.index] = _Copied(track)
            else:
                codec = "libopus" if kind == "webm" else "aac"
                name = stream.codec_context.name
                try:
                    self._tracks[stream.index] = _Transcoded(container, stream, codec)
                except (av.error.FFmpegError, ValueError):
                    notes.append(f"sound track {stream.index}: {name} can't be written, left out")
                    continue
                notes.append(f"sound was {name}, which a {kind} file can't hold; it is {codec} now")
        streams = [self._in.streams[index] for index in self._tracks]
        self._packets: Iterator[Any] = packets(self._in, *streams)
        self._waiting: Any = None

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
                self._out.mux(ready)

    def _following(self) -> Any:
        try:
            return next(self._packets, None)
        except av.error.FFmpegError:
            self._faults.packets += 1  # the file is cut off here
            return None

    def close(self) -> None:
        self._in.close()


class _Copied:
    def __init__(self, track: Any) -> None:
        self._track = track
        self._last: int | None = None

    def take(self, packet: Any) -> list[Any]:
        # The empty packet at the end flushes decoders; a muxer wants none of it. And no muxer
        # takes times that go back, as in damaged files.
        if packet.dts is None or packet.size == 0:
            return []
        if self._last is not None and packet.dts < self._last:
            return []
        self._last = packet.dts
        packet.stream = self._track
        return [packet]


class _Transcoded:
    def __init__(self, container: Any, stream: Any, codec: str) -> None:
        context = stream.codec_context
        rate = 48_000 if codec == "libopus" else context.sample_rate
        self._track = container.add_stream(codec, rate=rate, layout=context.layout.name)
        self._resampler: Any = None
        self._rate = rate
        self._context = context
        self._start: int | None = None

    def take(self, packet: Any) -> list[Any]:
        ready = []
        try:
            frames = packet.decode()
        except (av.error.FFmpegError, ValueError):
            return []
        for frame in frames:
            ready += self._encode(self._resampled(frame))
        if packet.dts is None:
            rest = self._resampler.resample(None) if self._resampler else []
            ready += [*self._encode(rest), *self._track.encode(None)]
        return ready

    def _resampled(self, frame: Any) -> list[Any]:
        if self._resampler is None:
            encoder = self._track.codec_context
            self._resampler = av.AudioResampler(
                encoder.format, encoder.layout, self._rate, frame_size=encoder.frame_size or None
            )
        return list(self._resampler.resample(frame))

    def _encode(self, frames: list[Any]) -> list[Any]:
        return [packet for frame in frames for packet in self._track.encode(frame)]
