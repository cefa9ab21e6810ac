"""The hardware of the fake camera: plays a clip in real time, as V4L2 buffers or MJPEG over HTTP.

    python camera_feeder.py CLIP.npy --fps 30 --start MONOTONIC --socket PATH
    python camera_feeder.py CLIP.npy --fps 30 --start MONOTONIC --http

CLIP.npy holds BGR pictures, uint8 [n, h, w, 3]. Picture k is captured at start + k / fps on
`time.monotonic()`; the clip repeats without end. It prints one line when it is ready: "ready", or
the address. Faults are sent as datagrams to PATH.control, or asked for as /control?fault=value:
`pause 1` (hangs), `drop 0.5`, `unplug 3` (seconds).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import random
import socket
import struct
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

os.environ["OPENCV_LOG_LEVEL"] = "SILENT"
import cv2
import numpy as np

MAGIC = 0x4D415246
faults = {"pause": 0.0, "drop": 0.0, "unplug": 0.0}


class Clip:
    """Pictures, encoded once for each format that is asked for."""

    def __init__(self, path: str, fps: float, start: float) -> None:
        self._pictures = np.load(path, mmap_mode="r")
        self._fps = fps
        self.start = start

    @functools.lru_cache(maxsize=2000)  # noqa: B019  (there is one clip)
    def encoded(self, number: int, format_: str, width: int, height: int) -> bytes:
        bgr = cv2.resize(self._pictures[number], (width, height), interpolation=cv2.INTER_LINEAR)
        if format_ == "YUYV":
            return cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_YUY2).tobytes()
        return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()

    def play(self, format_: str, width: int, height: int, fps: float):
        """Yields (monotonic ns of capture, picture) in real time."""
        if len(self._pictures) < 100:
            for number in range(len(self._pictures)):
                self.encoded(number, format_, width, height)
        tick = int((time.monotonic() - self.start) * fps)
        while True:
            # A late machine skips pictures, as a camera's sensor goes on.
            tick = max(tick + 1, int((time.monotonic() - self.start) * fps))
            moment = self.start + tick / fps
            time.sleep(max(0.0, moment - time.monotonic()))
            if faults["pause"] or random.random() < faults["drop"]:
                continue
            number = round(max(0.0, moment - self.start) * self._fps) % len(self._pictures)
            yield round(moment * 1e9), self.encoded(number, format_, width, height)


def serve_v4l2(clip: Clip, path: str) -> None:
    """Serves fakev4l2.so until the process is ended."""
    connections: set[socket.socket] = set()

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            request = connection.makefile("r").readline().split()
            if len(request) == 4:
                for ns, picture in clip.play(request[0], *map(int, request[1:])):
                    connection.sendall(struct.pack("<IIQ", MAGIC, len(picture), ns) + picture)
        connections.discard(connection)

    def listen() -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        listener.settimeout(0.05)
        return listener

    def control() -> None:
        commands = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        commands.bind(path + ".control")
        while True:
            fault, value = commands.recv(100).decode().split()
            faults[fault] = float(value)

    threading.Thread(target=control, daemon=True).start()
    listener = listen()
    print("ready", flush=True)
    while True:
        if faults["unplug"]:
            listener.close()
            os.unlink(path)  # noqa: PTH108
            for connection in list(connections):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            time.sleep(faults["unplug"])
            faults["unplug"] = 0.0
            listener = listen()
        with contextlib.suppress(TimeoutError):
            connection, _ = listener.accept()
            connection.settimeout(None)
            connections.add(connection)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


def serve_http(clip: Clip) -> None:
    """Serves MJPEG on a free port of 127.0.0.1 until the process is ended."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            url = urllib.parse.urlparse(self.path)
            self.send_response(200)
            if url.path == "/control":
                faults.update({k: float(v) for k, v in urllib.parse.parse_qsl(url.query)})
                self.end_headers()
                return
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _, picture in clip.play("MJPG", 640, 480, 30):
                    head = b"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
                    self.wfile.write(head % len(picture) + picture + b"\r\n")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("clip")
    parser.add_argument("--fps", type=float, required=True)
    parser.add_argument("--start", type=float, required=True)
    parser.add_argument("--socket")
    parser.add_argument("--http", action="store_true")
    arguments = parser.parse_args()
    the_clip = Clip(arguments.clip, arguments.fps, arguments.start)
    sys.exit(serve_http(the_clip) if arguments.http else serve_v4l2(the_clip, arguments.socket))
