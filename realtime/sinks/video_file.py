"""Writing video files: pictures at their own times, sound copied packet by packet."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.error
from av.video.reformatter import VideoReformatter

from avsl.engines import UserError
from avsl.realtime.sinks.hdr import lost, x265_params
from avsl.realtime.sinks.part_file import (
    CONTAINERS,
    PartFile,
    check_target,
    open_to_write,
    writing,
)
from avsl.realtime.sinks.sound_tracks import SoundPlan, SoundTracks
from avsl.realtime.sources.video_file import Video

# veryfast is the fastest preset of x264 whose files are not half as large again; crf 20 can't be
# told from the source on a screen.
H264 = ("libx264", {"preset": "veryfast", "crf": "20"})
# Ten bits: what phones write is HEVC, and hardly anything plays ten-bit H.264.
HEVC = ("libx265", {"preset": "ultrafast", "crf": "22", "x265-params": "log-level=none"})
VP9 = (
    "libvpx-vp9",
    {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "crf": "32", "b": "0"},
)


QUEUE = 8
"""Pictures that wait for the encoder: enough for x264's threads not to run dry while a picture is
localized, and 11 MB at 1280x720."""


class VideoWriter:
    """A file in the making: written beside its place, and put there only when it is whole.

    A thread of its own encodes and copies sound, beside the decoder and the networks; what fails
    there is raised by the next `write` or by `finish`. What was done before a fault stays, under a
    name that says so, and the fault says where.
    """

    def __init__(self, target: Path, video: Video) -> None:
        """Opens a hidden file beside `target` for the pictures and all sound tracks of `video`.

        Raises:
            UserError: it can't be written there, or the film can't be read a second time.
        """
        check_target(target)
        self.target = target
        self._source, self._side_data = video.path, video.side_data
        self._kind = CONTAINERS[target.suffix.lower()]
        plan = SoundPlan(video.path, self._kind)
        self.notes = plan.notes
        """What the user should know about pictures and sound, a line each."""
        with writing(target):
            self._file = PartFile(target)
        try:
            with writing(target):
                self._container = open_to_write(self._file, self._kind, plan.late)
                self._container.metadata.update(video.container.metadata)
                self._stream = self._video_stream(video)
                self._tracks = SoundTracks(plan, self._container)
        except BaseException:
            self._discard()
            raise
        self._fault: BaseException | None = None
        self._given_up = self._begun = False
        self._queue: queue.Queue[av.VideoFrame | None] = queue.Queue(QUEUE)
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    def _video_stream(self, video: Video) -> Any:
        codec, options = VP9 if self._kind == "webm" else HEVC if video.deep else H264
        stream: Any = self._container.add_stream(codec, rate=video.rate, options=dict(options))
        context = stream.codec_context
        source = video.stream.codec_context
        stream.width, stream.height = video.width, video.height
        stream.pix_fmt = "yuv420p10le" if video.deep else "yuv420p"
        self._narrow: VideoReformatter | None = None
        if video.deep and stream.pix_fmt not in [f.name for f in context.codec.video_formats or ()]:
            stream.pix_fmt, self._narrow = "yuv420p", VideoReformatter()
            self.notes.append("ten bits a colour became eight, all that VP9 is written with here")
        stream.time_base = context.time_base = video.time_base
        for tag in ("color_primaries", "color_trc", "colorspace", "color_range"):
            setattr(context, tag, getattr(source, tag))
        if source.format and source.format.name.startswith("yuvj"):
            context.color_range = 2
        aspect = video.stream.sample_aspect_ratio
        if aspect:
            context.sample_aspect_ratio = 1 / aspect if video.turned else aspect
        if codec == "libx265":
            context.codec_tag = "hvc1"
        return stream

    def write(self, picture: av.VideoFrame) -> None:
        """Hands one picture over, to be encoded at its own `pts`; it must not be changed any more.
        Waits while `QUEUE` others do.

        Raises:
            UserError: writing has failed; it says where what was done before lies.
        """
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
        with self._keeping():
            if picture and not self._begun:
                self._begin()
            if picture and self._narrow:
                picture = self._narrow.reformat(picture, format="yuv420p")
            for packet in self._encoded(picture):
                if packet.dts is not None:
                    self._tracks.copy(float(packet.dts * packet.time_base))
                self._container.mux(packet)
                self._file.sure()

    def _encoded(self, picture: av.VideoFrame | None) -> list[Any]:
        try:
            return list(self._stream.encode(picture))
        except av.error.FFmpegError as error:  # of the film's doing: no disk is asked here
            raise UserError(
                f"{self._source}: a picture in it can't be encoded ({error.strerror}); damaged?"
            ) from None

    def _begin(self) -> None:
        """Opens the encoders and writes the head of the file."""
        self._begun = True
        kept = self._stream.codec_context.codec.name == "libx265"
        if kept:
            params = [HEVC[1]["x265-params"], *x265_params(self._side_data)]
            self._stream.codec_context.options |= {"x265-params": ":".join(params)}
        if note := lost(self._side_data, kept):
            self.notes.append(note)
        self._container.start_encoding()

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[None]:
        """Says in one line why the file can't be written any further, and keeps what there is."""
        try:
            with writing(self.target):
                yield
        except UserError as fault:
            self._close()
            kept = self._file.keep()
            raise UserError(f"{fault}; what was done is in {kept}" if kept else fault) from None

    def finish(self, target: Path | None = None, until: float = float("inf")) -> Path:
        """Completes the file and puts it in its place (or at `target`); sound after `until` seconds
        is left out. Returns where it lies.

        Raises:
            UserError: it can't be written; it says where what was done before lies.
        """
        try:
            self._hand_over(None)
            self._thread.join()
            if self._fault:
                raise self._fault
            self._encode(None)
            with self._keeping():
                self._tracks.copy(until)
                self._container.close()
                if self._file.fault:
                    raise self._file.fault
                place = self._file.finish(target)
        except BaseException:
            self.abandon()
            raise
        self._tracks.close()
        if note := self._tracks.note():
            self.notes.append(note)
        return place

    def abandon(self) -> None:
        """Gives up; nothing stays behind but what was kept at a fault."""
        self._given_up = True
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)  # wakes the thread; if the queue is full, it is awake
        self._thread.join()
        self._discard()

    def _discard(self) -> None:
        self._close()
        self._file.discard()

    def _close(self) -> None:
        for part in ("_container", "_tracks"):
            with contextlib.suppress(Exception):
                getattr(self, part).close()
