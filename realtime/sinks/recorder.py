"""Recording live: pictures and sound with their times into an mp4 or mkv that survives a crash."""

from __future__ import annotations

import math
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from avsl.engines.errors import UserError
from avsl.engines.localization import Localization
from avsl.engines.windows import Samples
from avsl.realtime.drawing.canvas import Tinted
from avsl.realtime.sinks.part_file import partial_name
from avsl.realtime.sinks.sink import Sink
from avsl.realtime.sources.ffmpeg import create_file
from avsl.realtime.sources.frames import Frame

SUFFIXES = (".mp4", ".mov", ".mkv")
QUEUE_BYTES = 128 << 20
"""So much waits for a slow encoder (three seconds at 1280x720) before pictures are lost."""
FRAGMENT_S = 1.0
"""What a crash may cost: mp4 is written in fragments of this length, each from a key frame."""
LATE_S = 1.0
"""Sound that is so much later than the pictures is missing: silence is written in its place."""
EARLY_BLOCKS = 400
"""Blocks of sound that are kept for the first picture, with which the file begins; 4 s."""
PICTURE_BASE = Fraction(1, 90_000)
AAC_FRAME = 1024

Draw = Callable[[av.VideoFrame, Localization, Tinted | None], None]


class Recorder(Sink):
    """Writes sound, and yuv420p pictures in order of time: as they were captured or, with `draw`,
    with what was found drawn on them; in a thread of its own, in step.

    The file is written beside `path`, as `film.partial.mp4`, and renamed by `close`; what a crash
    leaves there is playable.

    `rate` is that of the sound, None for a file without. Time 0 in the file is `start` on the
    session's clock; what comes from before is left out. Where `start` lies on the hop grid of an
    engine, pictures are paired with the same sound in the file as live.

    Raises:
        UserError: `path` can't be written, exists already, or isn't of a known kind.
    """

    def __init__(
        self,
        path: Path,
        rate: int | None,
        draw: Draw | None = None,
        start: float = 0.0,
        overwrite: bool = False,
    ) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise UserError(f"{path}: live recordings are written as {', '.join(SUFFIXES)}")
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is no file that a recording could replace; name another")
        if path.exists() and not overwrite:
            raise UserError(f"{path}: exists already; --overwrite replaces it")
        self._path = path
        self._place = Path(os.path.realpath(path))  # a symlink stays one
        self.lost = 0
        """Pictures that found the queue full and are not in the file."""
        self.problem: str | None = None
        """Why nothing is written any more."""
        self._rate = rate
        self._draw = draw
        self._start = start
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._put = self._written = 0  # pictures
        try:
            self._partial = partial_name(self._place)
            self._partial.open("ab").close()  # or it is said only later that it can't be
            writer = _Writer(self._partial, rate)
        except OSError as error:
            raise UserError(f"{path}: can't be written ({error.strerror})") from None
        # Only its thread has the writer: when that ends, the encoders' threads and memory go.
        self._thread = threading.Thread(
            target=self._run, args=(writer,), name="recorder", daemon=True
        )
        self._thread.start()

    def captured(self, frame: Frame) -> None:
        if self._draw is None:
            self._take(frame, None, None)

    def localized(
        self, frame: Frame, localization: Localization, tinted: Tinted | None = None
    ) -> None:
        if self._draw:
            self._take(frame, localization, tinted)

    def _take(self, frame: Frame, localization: Localization | None, tinted: Tinted | None) -> None:
        size = frame.picture.width * frame.picture.height * 3 // 2
        if frame.time < self._start or self.problem:
            return
        if (self._put - self._written) * size > QUEUE_BYTES:
            self.lost += 1
            return
        self._put += 1
        self._queue.put((frame, localization, tinted))

    def heard(self, index: int, samples: Samples) -> None:
        if self._rate and not self.problem:
            self._queue.put((index - round(self._start * self._rate), samples))

    @property
    def missing(self) -> str | None:
        if self.problem:
            return f"{self.file}: {self.problem}"
        if self.lost:
            return f"{self.file}: the encoder can't keep up, pictures are missing"
        return None

    @property
    def note(self) -> str:
        return f"recording {self.file.name}"

    @property
    def file(self) -> Path:
        return self._path

    def close(self) -> None:
        """Writes what waits, ends the file and gives it its name.

        Raises:
            UserError: it couldn't be written to its end.
        """
        self._queue.put(None)
        self._thread.join()
        if self.problem:
            raise UserError(f"{self._path}: {self.problem}; what there is: {self._partial}")
        if self._put == 0:
            self._partial.unlink()
        else:
            self._partial.replace(self._place)

    def _run(self, writer: _Writer) -> None:
        try:
            while (item := self._queue.get()) is not None:
                self._write(writer, item)
        except Exception as error:  # whatever it is, the session goes on without this file
            self.problem = f"recording stopped ({getattr(error, 'strerror', None) or error})"
        try:
            writer.close(whole=self.problem is None)
        except Exception as error:
            self.problem = self.problem or f"not ended properly ({error})"

    def _write(self, writer: _Writer, item: _Picture | tuple[int, Samples]) -> None:
        if not isinstance(item[0], Frame):
            writer.sound(*item)
            return
        frame, localization, tinted = item
        # A copy: others show and localize the same picture.
        picture = av.VideoFrame.from_numpy_buffer(frame.picture.to_ndarray(), "yuv420p")
        picture.colorspace = frame.picture.colorspace
        picture.color_range = frame.picture.color_range
        if self._draw and localization:
            self._draw(picture, localization, tinted)
        writer.picture(picture, frame.time - self._start)
        self._written += 1


_Picture = tuple[Frame, Localization | None, Tinted | None]
_Item = _Picture | tuple[int, Samples] | None


class _Writer:
    """The file itself. Times and sample numbers are those in the file."""

    def __init__(self, path: Path, rate: int | None) -> None:
        options = {"flush_packets": "1"}
        if path.suffix.lower() == ".mkv":
            options["cluster_time_limit"] = str(round(1000 * FRAGMENT_S))
        else:  # in fragments, and made an ordinary file at its end
            options["movflags"] = "hybrid_fragmented"
        self._container = create_file(path, options=options)
        self._last = -math.inf  # time of the last picture
        self._key = -math.inf  # and of the last one that is a key frame
        self._video = self._container.add_stream("libx264")
        self._video.codec_context.time_base = PICTURE_BASE
        self._video.codec_context.options = {
            "preset": "superfast", "tune": "zerolatency", "crf": "20", "forced-idr": "1",
        }  # fmt: skip
        self._reformatter = VideoReformatter()
        self._rate = rate
        if rate:
            self._audio = self._container.add_stream("aac", rate=rate, layout="mono")
            self._audio.codec_context.bit_rate = 128_000
        self._early: deque[tuple[int, Samples]] = deque(maxlen=EARLY_BLOCKS)
        self._rest = np.zeros(0, np.float32)
        # AAC puts a frame of its own before the first; starting one later keeps times from
        # becoming negative, which would move all of the file.
        self._end = AAC_FRAME  # samples in the file, the rest included

    def picture(self, frame: av.VideoFrame, time: float) -> None:
        context = self._video.codec_context
        first, self._last = self._last == -math.inf, time
        if first:
            context.width, context.height, context.pix_fmt = frame.width, frame.height, "yuv420p"
            context.colorspace, context.color_range = frame.colorspace, frame.color_range
        if (frame.width, frame.height) != (context.width, context.height):
            # A camera that came back may have another size.
            frame = self._reformatter.reformat(frame, context.width, context.height)
        if time - self._key >= FRAGMENT_S:
            self._key = time
            frame.pict_type = PictureType.I
        frame.time_base = PICTURE_BASE
        frame.pts = round(time / PICTURE_BASE)
        self._container.mux(self._video.encode(frame))
        while self._early:
            self.sound(*self._early.popleft())
        self._silence(time - LATE_S)

    def sound(self, index: int, samples: Samples) -> None:
        if self._last == -math.inf:  # the first packet opens both encoders
            self._early.append((index, samples))
            return
        if index < self._end:
            samples = samples[self._end - index :]
        elif index > self._end:
            samples = np.concatenate([np.zeros(index - self._end, np.float32), samples])
        self._rest = np.concatenate([self._rest, samples])
        self._end += len(samples)
        while len(self._rest) >= AAC_FRAME:
            self._encode(self._rest[:AAC_FRAME])
            self._rest = self._rest[AAC_FRAME:]

    def close(self, whole: bool) -> None:
        """Ends the file; where writing failed (not `whole`), with what is in it."""
        try:
            if whole and self._last > -math.inf:  # after a fault, FFmpeg's muxer would crash here
                self._silence(self._last)
                self._container.mux(self._video.encode(None))
                if self._rate:
                    self._encode(np.pad(self._rest, (0, AAC_FRAME - len(self._rest))))
                    self._container.mux(self._audio.encode(None))
        finally:
            self._container.close()

    def _silence(self, until: float) -> None:
        """Fills the sound up to a time, if there is none."""
        if self._rate and (end := round(until * self._rate)) > self._end:
            self.sound(end, np.zeros(0, np.float32))

    def _encode(self, samples: Samples) -> None:
        assert self._rate
        frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
        frame.sample_rate = self._rate
        frame.pts = self._end - len(self._rest)
        frame.time_base = Fraction(1, self._rate)
        self._container.mux(self._audio.encode(frame))
