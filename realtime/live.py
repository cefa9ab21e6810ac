"""The live loop: a camera and a microphone in; a window, files and events out.

Threads, from the devices to the eyes: `camera` takes and stamps pictures, `microphone` puts sound on
the same clock, `worker` localizes the newest picture whose sound is here, the main thread shows
and polls keys, and each file has a `recorder` of its own. Each hands on through one slot with the
newest item, a timeline, or a bounded queue; no wait is without a time-out.
"""

from __future__ import annotations

import contextlib
import gc
import math
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from avsl.realtime.opencv import cv2  # before everything that imports av

# isort: split
import av
import numpy as np
from avsl.engines import (
    DEFAULT,
    Engine,
    Localization,
    Localizer,
    Resizer,
    SoundTimeline,
    UserError,
    open_engine,
)
from avsl.engines.windows import Samples
from avsl.realtime import hud
from avsl.realtime.camera import Camera, check_source
from avsl.realtime.events import EventWriter
from avsl.realtime.flow import Newest, Rate
from avsl.realtime.frames import Frame
from avsl.realtime.microphone import Microphone
from avsl.realtime.overlay import Overlay
from avsl.realtime.recorder import Recorder
from avsl.realtime.window import ESCAPE, Window, check_display

SOUND_S = 12.0
"""How much sound is kept for pictures to be paired with."""
WAITING = 16
"""Pictures that may wait for their sound; half a second of them."""
MAP_LASTS_S = 0.5
"""A map older than this isn't drawn on the picture any more."""
EVENTS_WAITING = 256
REFRESH_S = 0.25
"""How often the picture is drawn anew while no new one comes."""


@dataclass(frozen=True)
class LiveOptions:
    """What `avsl-live --camera` was asked for."""

    camera: str = "0"
    microphone: str | None = None
    """Number or part of a name; None is the default one, "none" is none."""
    size: tuple[int, int] = (1280, 720)
    """Width and height that the camera is asked for."""
    fps: float = 30.0
    engine: Path = DEFAULT
    out: Path | None = None
    """File for the picture with overlay and sound."""
    record: Path | None = None
    """File for picture and sound as captured."""
    events: Path | None = None
    """File for the localizations; `-` is stdout."""
    in_step: bool = False
    """Show the picture that the newest map was made from, not the newest picture."""
    av_offset_ms: float = 0.0
    """How much later the sound arrives than the picture."""
    window: bool = True
    duration: float | None = None
    """Seconds after which it ends by itself."""
    overwrite: bool = False


@dataclass
class LiveReport:
    """What a live session did."""

    seconds: float = 0.0
    pictures: int = 0
    localized: int = 0
    skipped: int = 0
    ages_ms: list[float] = field(default_factory=list)
    """From capture to shown, for each picture shown (the last ten minutes' at most)."""
    files: list[Path] = field(default_factory=list)

    @property
    def line(self) -> str:
        """All of it in one line."""
        rate = self.localized / max(self.seconds, 1e-9)
        text = f"{self.seconds:.0f} s, {self.pictures} pictures, {self.localized} localized "
        text += f"({rate:.1f}/s), {self.skipped} skipped"
        return text + "".join(f"; wrote {path}" for path in self.files)


def run_live(options: LiveOptions, engine: Engine | None = None) -> LiveReport:
    """Runs a live session until q, the window's button, Ctrl-C or `duration`.

    Raises:
        UserError: a device, display, engine or file that it was asked for can't be had, or a
            file couldn't be written to its end.
    """
    check_source(options.camera)
    if options.window:
        check_display()
    elif not (options.out or options.record or options.events):
        raise UserError("--no-window without -o, --record or --events would show nothing")
    session = _Session(options, engine or open_engine(options.engine))
    with _ends_on_signal(session.stop), session:
        session.main_loop()
    return session.report


class _Session:
    """One run: the devices, what flows between the threads, and the two loops.

    Where the picture comes through a slot that both loops read, `_work` makes maps of it and
    `main_loop` shows it.
    """

    def __init__(self, options: LiveOptions, engine: Engine) -> None:
        self.options = options
        self.engine = engine
        self.report = LiveReport()
        self.stop = threading.Event()
        self.zero = time.monotonic()
        self.window_spec = engine.bundle.window
        self.frames: Newest[Frame] = Newest()
        self.pairs: Newest[tuple[Frame, Localization]] = Newest()
        self.timeline = SoundTimeline(self.window_spec.rate, SOUND_S)
        self.maps = Rate()
        self.overlay = Overlay(engine.bundle.thresholds)
        self.hud = True
        self.help = False
        self.mirror = False
        self.frozen = False
        self.fault: BaseException | None = None
        self.ages: deque[float] = deque(maxlen=18_000)
        # Recorders of pictures as captured, and of pictures with the overlay.
        self.raw: list[Recorder] = []
        self.drawn: list[Recorder] = []
        self.keyed: Recorder | None = None  # the one that r has started
        self.events: _Events | None = None
        self.microphone: Microphone | None = None
        self.worker = threading.Thread(target=self._guarded, name="worker", daemon=True)
