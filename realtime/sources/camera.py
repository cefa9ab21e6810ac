"""The camera: a thread that does nothing but take pictures, stamp them and hand them on."""

from __future__ import annotations

import base64
import contextlib
import errno
import http.client
import os
import re
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from avsl.realtime.sources.opencv import cv2  # before everything that imports av

# isort: split
import av
from av.video.reformatter import ColorRange, Colorspace

from avsl.engines.errors import UserError
from avsl.realtime.sources.flow import Rate
from avsl.realtime.sources.frames import Frame
from avsl.realtime.sources.source import device_number

STALL_S = 1.0
"""A camera that gives no picture for so long is said to be missing. Slower ones don't exist: the
longest exposure of a webcam in the dark is a fifth of a second."""
RETRY_S = (0.25, 1.0)
"""First and longest pause between two attempts to open the camera again."""
ANSWER_S = 2.0
"""So long a camera that shows no pictures may take to say why."""
URLS = ("http://", "https://", "rtsp://", "rtsps://", "rtmp://", "udp://", "tcp://")
LOW_DELAY = "fflags;nobuffer|flags;low_delay|max_delay;0|analyzeduration;500000|probesize;500000"
"""FFmpeg would else hold back up to a second of a network stream."""


class Camera:
    """A camera by number, device path or address. It is opened in the caller's thread (macOS asks
    for permission in the main thread only) and, once started, opened again whenever it fails.

    Raises:
        UserError: no such camera, or it is busy, or not permitted.
    """

    def __init__(self, source: str, size: tuple[int, int], fps: float) -> None:
        self.rate = Rate()
        self.taken = 0
        self._source = source
        self._size = size
        self._fps = fps
        self._problem: str | None = None
        self._last = time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._capture = self._open()
        if self._capture is None:
            why = _refusal(source) or _why(source)
            raise UserError(f"camera {without_password(source)}: {why}")

    def start(self, zero: float, deliver: Callable[[Frame], None]) -> None:
        """From now on each picture goes to `deliver`, in the camera's own thread, with its time
        since `zero` (`time.monotonic()`).

        Pictures are yuv420p: half the memory of BGR, what recorder and resizer work on without a
        conversion, and what a file would give.
        """
        self._thread = threading.Thread(
            target=self._run, args=(zero, deliver), name="camera", daemon=True
        )
        self._thread.start()

    @property
    def missing(self) -> str | None:
        """What is wrong with the camera now, or None."""
        if self._problem is None and time.monotonic() - self._last > STALL_S:
            return "no picture comes"
        return self._problem

    def close(self, timeout: float = 0.3) -> None:
        """Stops the thread. One that hangs in the driver is left behind; it ends by itself."""
        self._stop.set()
        if self._thread:
            self._thread.join(timeout)
        elif self._capture:
            self._capture.release()

    def _run(self, zero: float, deliver: Callable[[Frame], None]) -> None:
        pause = RETRY_S[0]
        capture = self._capture
        while not self._stop.is_set():
            if capture is not None:
                for picture, moment in self._pictures(capture):
                    pause = RETRY_S[0]
                    self._problem = None
                    self._last = time.monotonic()
                    self.rate.tick()
                    if moment >= zero:
                        deliver(Frame(picture, moment - zero, self.taken))
                        self.taken += 1
                if not self._stop.is_set():
                    self._problem = "no picture comes"
                capture.release()
            else:
                self._problem = _why(self._source)
            self._stop.wait(pause)
            pause = min(2 * pause, RETRY_S[1])
            capture = None if self._stop.is_set() else self._open()

    def _pictures(self, capture: cv2.VideoCapture) -> Iterator[tuple[av.VideoFrame, float]]:
        """Pictures with the moments they were captured at (`time.monotonic()`), until one fails."""
        # Elsewhere than on V4L2 the property is no time of capture, or on another clock.
        stamped = capture.getBackendName() == "V4L2"
        last = 0.0
        while not self._stop.is_set() and capture.grab():
            now = time.monotonic()
            stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 if stamped else now
            ok, bgr = capture.retrieve()
            if not ok:
                return
            if not 0 <= now - stamp < STALL_S:
                stamp = now
            last = max(stamp, last + 1e-3)  # two pictures never share a moment
            yield _planes(bgr), last

    def _open(self) -> cv2.VideoCapture | None:
        if self._source.startswith(URLS):
            # RTSP by UDP would lose packets and show grey blocks.
            os.environ.setdefault(
                "OPENCV_FFMPEG_CAPTURE_OPTIONS", f"rtsp_transport;tcp|{LOW_DELAY}"
            )
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 3000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 1500]
            capture = cv2.VideoCapture(self._source, cv2.CAP_FFMPEG, limits)
            return capture if capture.isOpened() else None
        backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
        number = device_number(self._source)
        device = self._source if number is None else number
        wanted = [
            # Uncompressed, USB 2 has room for ten of these pictures a second.
            (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
            (cv2.CAP_PROP_FRAME_WIDTH, self._size[0]),
            (cv2.CAP_PROP_FRAME_HEIGHT, self._size[1]),
            (cv2.CAP_PROP_FPS, round(self._fps)),
        ]
        capture = cv2.VideoCapture(device, backend, [int(x) for pair in wanted for x in pair])
        if not capture.isOpened():  # one that can't do what is asked for refuses all of it
            capture.release()
            capture = cv2.VideoCapture(device, backend)
        return capture if capture.isOpened() else None


def check_source(source: str) -> None:
    """Raises:
    UserError: `source` can't name a camera.
    """
    if device_number(source) is None and not source.startswith(("/dev/", *URLS)):
        raise UserError(
            f"camera {source}: a camera is a number (0), a device (/dev/video0), or an http or "
            "rtsp address; avsl-live --list-devices shows what there is"
        )


def without_password(source: str) -> str:
    """An address as it may be shown: without the name and password in it."""
    return re.sub(r"//[^/@]*@", "//", source)


def _refusal(source: str) -> str | None:
    """What a camera at an http address says against showing its pictures; FFmpeg keeps it to
    itself. None where it says nothing."""
    if not source.startswith("http"):
        return None
    words = {
        401: "it wants another name and password: http://NAME:PASSWORD@ADDRESS",
        403: "it forbids this address; check it, and the camera's settings",
        404: "it has no such address; look for that of its pictures in its manual",
    }
    try:
        parts = urllib.parse.urlsplit(source)
        secret, _, host = parts.netloc.rpartition("@")
        request = urllib.request.Request(parts._replace(netloc=host).geturl())
        if secret:
            code = base64.b64encode(urllib.parse.unquote(secret).encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {code}")
        urllib.request.urlopen(request, timeout=ANSWER_S).close()
    except urllib.error.HTTPError as error:
        error.close()
        return words.get(error.code, f"it answers with error {error.code}, not with pictures")
    except (OSError, ValueError, http.client.HTTPException):
        pass
    return None


def _planes(bgr: Any) -> av.VideoFrame:
    """OpenCV's picture as yuv420p (BT.601, 16..235). An odd last column is left out, and rows past
    a multiple of four: PyAV would look for the colours in the wrong place."""
    if bgr.ndim == 2:
        bgr = cv2.cvtColor(bgr, cv2.COLOR_GRAY2BGR)
    height, width = bgr.shape[0] // 4 * 4, bgr.shape[1] // 2 * 2
    planes: Any = cv2.cvtColor(bgr[:height, :width], cv2.COLOR_BGR2YUV_I420)
    frame = av.VideoFrame.from_numpy_buffer(planes, "yuv420p")
    frame.colorspace = Colorspace.ITU601
    frame.color_range = ColorRange.MPEG
    return frame


def _why(source: str) -> str:
    """Why a camera couldn't be opened, and what to do."""
    if source.startswith(URLS):
        return "no pictures come from this address; check it, and that the camera is on"
    number = device_number(source)
    path = Path(source if number is None else f"/dev/video{number}")
    if sys.platform != "linux":
        return "can't be opened; is it plugged in, free, and is this terminal permitted to use it?"
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        with contextlib.suppress(KeyError):
            return {
                errno.ENOENT: f"there is no {path}; avsl-live --list-devices shows what there is",
                errno.ENODEV: f"there is no camera at {path} any more; plug it in again",
                errno.EBUSY: "busy; close the other program that uses it",
                errno.EACCES: f"no permission for {path}; sudo usermod -aG video $USER, then log "
                "in again",
            }[error.errno or 0]
        return f"{path} can't be opened ({error.strerror})"
    return "can't be opened; it is no camera, or another program uses it"
