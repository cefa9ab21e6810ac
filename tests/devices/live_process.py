"""The live program in a process of its own, as tests see it: its events, its words, its end."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from rig import FakeCamera

HERE = Path(__file__).parent
Json = dict[str, Any]


class LiveProcess:
    """`live_app.py` with the fields of LiveOptions as `options`, in `folder`, with `env` added.

    `events` are (arrival, event) pairs, `said` what it printed on stderr. Use it as a context
    manager; it is killed at the end if it still runs.
    """

    def __init__(self, folder: Path, env: dict[str, str], **options: object) -> None:
        self.events: list[tuple[float, Json]] = []
        self.said: list[str] = []
        self.folder = folder
        options = {"events": "-", **options}
        arguments = [f"{name}={value!r}" for name, value in options.items()]
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "live_app.py"), *arguments],
            cwd=folder, env={**os.environ, **env}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._readers = [
            threading.Thread(target=self._read_events), threading.Thread(target=self._read_words)
        ]  # fmt: skip
        for reader in self._readers:
            reader.start()

    def _read_events(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.events.append((time.monotonic(), json.loads(line)))

    def _read_words(self) -> None:
        assert self.process.stderr
        self.said.extend(line.rstrip("\n") for line in self.process.stderr)

    def __enter__(self) -> LiveProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
        assert self.process.stdout and self.process.stderr
        self.process.stdout.close()
        self.process.stderr.close()

    def wait_until(self, what: Callable[[], object], timeout: float = 15.0) -> None:
        """Waits until `what()` holds; fails the test when the program ends or time runs out."""
        end = time.monotonic() + timeout
        while not what():
            assert self.process.poll() is None, f"it has ended: {self.said}"
            assert time.monotonic() < end, f"never came: {self.said}, {self.events[-3:]}"
            time.sleep(0.01)

    def wait_for_event(
        self, fits: Callable[[Json], bool] = lambda _: True, timeout: float = 15.0
    ) -> float:
        """Waits for an event that comes from now on and `fits`; returns how long that took."""
        began, first = time.monotonic(), len(self.events)

        def come() -> bool:
            return any("time" in e and fits(e) for _, e in self.events[first:])

        self.wait_until(come, timeout)
        return time.monotonic() - began

    def wait_for_words(self, pattern: str, timeout: float = 15.0) -> None:
        """Waits for a line on stderr that holds `pattern`."""
        self.wait_until(lambda: any(re.search(pattern, line) for line in self.said), timeout)

    def end(self, number: int | None = signal.SIGINT, timeout: float = 10.0) -> float:
        """Ends it with a signal (None: it ends by itself) and returns the seconds it took."""
        began = time.monotonic()
        if number is not None:
            self.process.send_signal(number)
        self.process.wait(timeout)
        took = time.monotonic() - began
        for reader in self._readers:
            reader.join()
        return took

    @property
    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


PlugIn = Callable[..., FakeCamera]
"""The fixture that plugs in a camera: `plug_in(clip, start)`."""
StartLive = Callable[..., LiveProcess]
"""The fixture that starts the live program: `start_live(env, camera="0", ...)`."""


def press(env: dict[str, str], *keys: str, hold: bool = False) -> None:
    """Presses keys in the window, by their X names. `hold` keeps them down: where the first press
    closes the window, there is none left to let go in."""
    find = ["xdotool", "search", "--sync", "--name", "avsl-live"]
    subprocess.run(
        [*find, "windowfocus", "--sync", "keydown" if hold else "key", "--delay", "60", *keys],
        env={**os.environ, **env}, check=True, timeout=10, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def screenshot(env: dict[str, str]) -> NDArray[np.uint8]:
    """What is on the display, RGB `[900, 1400, 3]`."""
    options = {"video_size": "1400x900"}
    with av.open(env["DISPLAY"], format="x11grab", options=options) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


class _ClientMessage(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int), ("serial", ctypes.c_ulong), ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p), ("window", ctypes.c_ulong), ("message", ctypes.c_ulong),
        ("format", ctypes.c_int), ("data", ctypes.c_long * 5), ("padding", ctypes.c_long * 24),
    )  # fmt: skip


def close_window(env: dict[str, str]) -> None:
    """What a window manager does when the button of the window is pressed."""
    found = subprocess.run(
        ["xdotool", "search", "--name", "avsl-live"],
        env={**os.environ, **env}, check=True, timeout=10, capture_output=True, text=True,
    )  # fmt: skip
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XInternAtom.restype = ctypes.c_ulong
    display = ctypes.c_void_p(x11.XOpenDisplay(env["DISPLAY"].encode()))
    protocols, delete = (
        x11.XInternAtom(display, name, False) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW")
    )
    window = int(found.stdout.split()[0])
    message = _ClientMessage(33, 0, True, display, window, protocols, 32)
    message.data[0] = delete
    x11.XSendEvent(display, ctypes.c_ulong(window), False, ctypes.c_long(0), ctypes.byref(message))
    x11.XCloseDisplay(display)
