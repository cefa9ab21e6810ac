"""The live loop: a camera and a microphone in; a window, files and events out.

Threads, from the devices to the eyes: `camera` takes and stamps pictures, `microphone` puts sound
on the same clock, `worker` localizes the newest picture whose sound is here, the main thread shows
and polls keys, and each file has a `recorder` of its own. Each hands on through a slot with the
newest item, a timeline, or a bounded queue; no wait is without a time-out.
"""

from __future__ import annotations

import contextlib
import gc
import math
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from avsl.realtime.sources.opencv import cv2  # before everything that imports av

# isort: split
import numpy as np

from avsl.engines import (
    Engine,
    Localization,
    Localizer,
    Resizer,
    SoundTimeline,
    UserError,
    choose_engine,
)
from avsl.engines.engine import on_gpu
from avsl.engines.windows import Samples
from avsl.realtime.drawing.overlay import Overlay, Tinted
from avsl.realtime.drawing.view import Figures, View
from avsl.realtime.live_options import LiveOptions, LiveReport
from avsl.realtime.sinks.event_stream import EventStream
from avsl.realtime.sinks.recorder import Recorder
from avsl.realtime.sinks.window import ESCAPE, Window, check_display
from avsl.realtime.sources.camera import Camera, check_source, without_password
from avsl.realtime.sources.flow import Newest, Rate
from avsl.realtime.sources.frames import Frame
from avsl.realtime.sources.microphone import Microphone

__all__ = ["LiveOptions", "LiveReport", "run_live"]

SOUND_S = 12.0
"""How much sound is kept for pictures to be paired with."""
WAITING = 16
"""Pictures that may wait for their sound: half a second of them."""
MAP_LASTS_S = 0.5
"""A map older than this is not drawn on the newest picture any more."""
REFRESH_S = 0.25
"""How often the view is drawn anew while no picture comes."""


def run_live(options: LiveOptions, engine: Engine | None = None) -> LiveReport:
    """Runs a live session in the main thread until q, the window's button, Ctrl-C or `duration`.

    Raises:
        UserError: a device, display, engine or file that was asked for can't be had, or a file
            couldn't be written to its end.
    """
    check_source(options.camera)
    if options.out and options.out == options.record:
        raise UserError(f"{options.out}: -o and --record need two files")
    if options.window:
        check_display()
    elif not (options.out or options.record or options.events):
        raise UserError("without a window nothing would come out; add -o, --record or --events")
    engine = engine or choose_engine(options.engine, options.backend, prepare=True, say=_say)
    session = _Session(options, engine)
    with _stopping_on_signals(session.stop):
        try:
            session.open()
            if options.window:
                _say(f"{session.camera_name}: q quits, ? shows the keys")
            session.show()
        finally:
            session.close()
    if session.fault:
        raise session.fault
    return session.report


class _Session:
    """One run. `open` starts the threads, `work` is the worker's loop, `show` the main thread's."""

    def __init__(self, options: LiveOptions, engine: Engine) -> None:
        self.options = options
        self.engine = engine
        self.report = LiveReport()
        self.stop = threading.Event()
        self.zero = time.monotonic()  # set anew when all is open
        self.camera_name = f"camera {without_password(options.camera)}"
        self.fault: BaseException | None = None
        self.frames: Newest[Frame] = Newest()
        self.pairs: Newest[tuple[Frame, Localization]] = Newest()
        self.timeline = SoundTimeline(engine.spec.window.rate, SOUND_S)
        self.maps = Rate()
        self.camera: Camera | None = None
        self.microphone: Microphone | None = None
        self.events: EventStream | None = None
        self.raw: tuple[Recorder, ...] = ()  # for --record
        self.drawn: tuple[Recorder, ...] = ()  # for -o and r, with the overlay
        self.keyed: Recorder | None = None  # the one among them that r has started
        self.worker = threading.Thread(target=self._guard, name="worker", daemon=True)
        self.said: set[str] = set()
        self.age_ms = 0.0  # of the picture on screen, smoothed

    def work(self) -> None:
        """Localizes the newest picture whose sound is here, over and over. Pictures that come while
        it does so overwrite each other and never reach it."""
        spec = self.engine.spec.window
        localize = _localizing(self.engine)
        waiting: deque[Frame] = deque(maxlen=WAITING)
        seen = 0
        last: int | None = None
        while not self.stop.is_set():
            seen, newest = self.frames.after(seen, timeout=0.01)  # sound comes about so often
            if newest:
                waiting.append(newest)
            sound_comes = self.microphone is not None and self.microphone.comes
            heard = self.timeline.end if sound_comes else math.inf
            ready = [frame for frame in waiting if spec.end(frame.time) <= heard]
            if not ready:
                continue
            # Those that waited for the same hop of sound take turns; older ones are overtaken.
            frame = next(f for f in ready if f.time > ready[-1].time - spec.hop / spec.rate)
            while waiting.popleft() is not frame:
                pass
            localization, tinted = localize(frame, self.timeline)
            self.pairs.put((frame, localization))
            self.maps.tick()
            self.report.localized += 1
            self.report.skipped += 0 if last is None else frame.index - last - 1
            last = frame.index
            for recorder in self.drawn:
                recorder.picture(frame, localization, tinted)
            if self.events:
                self.events.put(localization)

    def show(self) -> None:
        """Shows pictures and reacts to keys, until it is time to end."""
        view = View(self.engine.spec.thresholds)
        window = Window() if self.options.window else None
        end = time.monotonic() + self.options.duration
        seen, drawn = 0, 0.0
        shown: tuple[Frame, Localization | None] | None = None
        while not self.stop.is_set() and (now := time.monotonic()) < end:
            seen, newest = self.newest(seen, timeout=0.02)
            self.say_what_changed()
            if window is None:
                continue
            fresh = newest is not None and not view.frozen
            if fresh:
                shown = newest
            if shown and (fresh or now - drawn > REFRESH_S):
                key = window.show(view.render(*shown, self.figures(shown[0]), self.missing()))
                drawn = time.monotonic()
                if fresh:
                    age = 1000 * (drawn - self.zero - shown[0].time)
                    self.report.ages_ms.append(age)
                    self.age_ms += (age - self.age_ms) / 10
            else:
                key = window.key()
            if key in ("q", ESCAPE) or (drawn and window.closed):
                break
            if key == "r":
                self.toggle_recording()
            elif key == "s" and shown:
                self.save_snapshot(view.draw(*shown))
            elif key:
                view.react(key)

    def newest(
        self, seen: int, timeout: float
    ) -> tuple[int, tuple[Frame, Localization | None] | None]:
        """What to show next, if there is something newer than number `seen`."""
        if self.options.in_step:
            return self.pairs.after(seen, timeout)
        number, frame = self.frames.after(seen, timeout)
        if frame is None:
            return number, None
        pair = self.pairs.latest
        fits = pair is not None and frame.time - pair[0].time < MAP_LASTS_S
        return number, (frame, pair[1] if pair and fits else None)

    def open(self) -> None:
        """Opens all that was asked for, then sets the clock's zero and starts the threads."""
        options, spec = self.options, self.engine.spec
        self.camera = Camera(options.camera, options.size, options.fps)
        if options.microphone != "none":
            self.microphone = Microphone(options.microphone)
        rate = self.microphone.rate if self.microphone else None
        again = options.overwrite
        if options.record:
            self.raw = (Recorder(options.record, rate, overwrite=again),)
        if options.out:
            self.drawn = (Recorder(options.out, rate, Overlay(spec.thresholds).draw, 0.0, again),)
        if options.events:
            self.events = EventStream(options.events, spec, self.camera_name, again)
        first = self.engine.maps()  # a network's first run takes longer than all others
        first.watch(0.0, np.zeros((*spec.picture_size, 3), np.uint8), self.timeline)
        first.map()
        gc.collect()
        gc.freeze()  # what is there now stays; looking through it again and again takes tens of ms
        self.zero = time.monotonic()
        self.report.cpu_seconds = -time.process_time()
        self.camera.start(self.zero, self.take_picture)
        if self.microphone:
            late = options.av_offset_ms / 1000
            self.microphone.start(self.zero, self.timeline, self.take_sound, late)
        self.worker.start()

    def close(self) -> None:
        """Ends all threads, devices first, and completes every file.

        Raises:
            UserError: one of them couldn't be; the others are.
        """
        self.stop.set()
        if self.camera:
            self.report.seconds = time.monotonic() - self.zero
            self.report.cpu_seconds += time.process_time()
            self.report.pictures = self.camera.taken
            self.camera.close()
        if self.worker.is_alive():
            self.worker.join(1.0)
        if self.microphone:
            self.microphone.close()
        faults = []
        for sink in (*self.raw, *self.drawn, *((self.events,) if self.events else ())):
            try:
                sink.close()
            except UserError as error:
                faults.append(error)
        self.report.files += [r.path for r in (*self.raw, *self.drawn) if r.path.exists()]
        if faults:
            raise faults[0]

    def take_picture(self, frame: Frame) -> None:
        self.frames.put(frame)
        for recorder in self.raw:
            recorder.picture(frame)

    def take_sound(self, index: int, samples: Samples) -> None:
        for recorder in (*self.raw, *self.drawn):
            recorder.sound(index, samples)

    def toggle_recording(self) -> None:
        """Starts a recording with overlay in the current folder, or ends it."""
        try:
            if self.keyed:
                ended, self.keyed = self.keyed, None
                self.drawn = tuple(r for r in self.drawn if r is not ended)
                ended.close()
                self.report.files.append(ended.path)
                _say(f"wrote {ended.path}")
                return
            spec = self.engine.spec
            hop_s = spec.window.hop / spec.window.rate
            self.keyed = Recorder(
                _new_file(".mp4"),
                self.microphone.rate if self.microphone else None,
                Overlay(spec.thresholds).draw,
                start=math.ceil((time.monotonic() - self.zero) / hop_s) * hop_s,
            )
            self.drawn = (*self.drawn, self.keyed)
        except UserError as fault:  # a key ends nothing but what it stands for
            _say(str(fault))

    def save_snapshot(self, picture: Any) -> None:
        path = _new_file(".png")
        try:
            path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        except OSError as fault:
            _say(f"{path}: can't be written; {fault.strerror}")
        else:
            _say(f"wrote {path}")

    def figures(self, shown: Frame) -> Figures:
        assert self.camera
        latest = self.pairs.latest
        old = 1000 * (time.monotonic() - self.zero - shown.time)  # more where none comes
        notes = [f"recording {r.path.name}" for r in (*self.raw, *self.drawn)]
        if self.microphone is None:
            notes.append("no microphone, as asked")
        return Figures(
            self.camera.rate.per_second,
            self.maps.per_second,
            max(self.age_ms, old),
            self.report.skipped,
            latest[1] if latest else None,
            tuple(notes),
        )

    def missing(self) -> list[str]:
        """What is wrong at the moment, a line each."""
        lines = []
        if self.camera and (fault := self.camera.missing):
            lines.append(f"{self.camera_name}: {fault}")
        if self.microphone and (fault := self.microphone.missing):
            lines.append(f"microphone: {fault}")
        if self.events and self.events.problem:
            lines.append(f"events: {self.events.problem}")
        for recorder in (*self.raw, *self.drawn):
            if recorder.problem:
                lines.append(f"{recorder.path}: {recorder.problem}")
            elif recorder.lost:
                lines.append(f"{recorder.path}: the encoder can't keep up, pictures are missing")
        return lines

    def say_what_changed(self) -> None:
        """Says on stderr what has begun to be missing, and what is back."""
        lines = set(self.missing())
        for line in lines - self.said:
            _say(line)
        for line in self.said - lines:
            _say(f"{line.split(':')[0]}: back")
        self.said = lines

    def _guard(self) -> None:
        try:
            self.work()
        except BaseException as fault:  # it ends the program; the main thread raises it
            self.fault = fault
            self.stop.set()


def _localizing(
    engine: Engine,
) -> Callable[[Frame, SoundTimeline], tuple[Localization, Tinted | None]]:
    """How pictures are localized; where a GPU does it, it also makes them glow for files."""
    if on_gpu(engine):
        from avsl.realtime.drawing.gpu_overlay import GpuPictures

        return GpuPictures(engine, Overlay(engine.spec.thresholds), most=1)
    localize, resize = Localizer(engine), Resizer(engine.spec.picture_size)
    return lambda frame, sound: (localize(frame.time, resize(frame.picture), sound), None)


@contextlib.contextmanager
def _stopping_on_signals(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C and its like set `stop`; a second one does what it always does."""
    kept: dict[int, Any] = {}

    def react(number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, kept[number])

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if number := getattr(signal, name, None):
            kept[number] = signal.signal(number, react)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _new_file(suffix: str) -> Path:
    """A name in the current folder that says when, to the millisecond."""
    now = time.time()
    moment = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    return Path(f"avsl-{moment}-{round(now % 1 * 1000):03}{suffix}")


def _say(line: str) -> None:
    print(f"avsl-live: {line}", file=sys.stderr)
