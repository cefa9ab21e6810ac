"""The live loop: a source in; a window, files and events out.

Threads, from the devices to the eyes: a source's own take and stamp pictures and sound, `worker`
localizes the newest picture whose sound is here, the main thread gives each sink its turn, and what
a sink does that takes time it does in a thread of its own. Each hands on through a slot with the
newest item, a timeline, or a bounded queue; no wait is without a time-out.
"""

from __future__ import annotations

import contextlib
import gc
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from avsl.realtime.sinks.screen import Screen  # brings cv2, before everything that imports av

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
from avsl.engines.engine import on_gpu, speakers_for
from avsl.engines.errors import say
from avsl.engines.speakers.speakers import Speakers
from avsl.engines.windows import Samples
from avsl.realtime.drawing.canvas import Tinted
from avsl.realtime.drawing.overlay import Overlay
from avsl.realtime.drawing.view import Figures
from avsl.realtime.live_options import LiveOptions, LiveReport
from avsl.realtime.signals import stopping_on_signals
from avsl.realtime.sinks.events import check_events
from avsl.realtime.sinks.opening import check_sinks, sinks_of
from avsl.realtime.sinks.recorder import Recorder
from avsl.realtime.sinks.sink import Sink
from avsl.realtime.sinks.window import check_display
from avsl.realtime.sources.flow import Newest, Rate
from avsl.realtime.sources.frames import Frame
from avsl.realtime.sources.opening import source_of
from avsl.realtime.sources.source import Source

__all__ = ["LiveOptions", "LiveReport", "run_live"]

SOUND_S = 12.0
"""How much sound is kept for pictures to be paired with."""
WAITING_S = 0.5
"""So long pictures may wait for their sound, beside what that is known to be late."""
TURN_S = 0.02
"""How often sinks get their turn while nothing is new."""


def run_live(
    options: LiveOptions,
    engine: Engine | None = None,
    source: Source | None = None,
    sinks: Sequence[Sink] = (),
) -> LiveReport:
    """Runs a live session in the main thread until q, the window's button, Ctrl-C or `duration`.

    Args:
        engine, source: in place of those that the options name.
        sinks: beside those that the options name.

    Raises:
        UserError: a device, display, engine or file that was asked for can't be had, or a file
            couldn't be written to its end.
    """
    source = source or source_of(options)
    check_sinks(options, len(sinks))
    if options.window:
        check_display()
    engine = engine or choose_engine(
        options.engine,
        options.backend,
        prepare=True,
        only=options.only,
        ignore=options.ignore,
        say=_say,
    )
    if options.events:  # before anything is opened
        check_events(options.events, engine.spec)
    session = _Session(options, engine, source, tuple(sinks))
    with stopping_on_signals(session.stop), _what_is_there_frozen():
        try:
            session.open()
            if options.window:
                _say(f"{source.name}: q quits, ? shows the keys")
            session.run()
        finally:
            session.close()
    if session.fault:
        raise session.fault
    if not session.report.pictures:
        why = "; ".join(source.missing) or f"{source.name}: no picture comes"
        raise UserError(f"{why}; there was not one in {session.report.seconds:.0f} s")
    return session.report


class _Session:
    """One run. `open` starts the threads, `work` is the worker's loop, `run` the main thread's."""

    def __init__(
        self, options: LiveOptions, engine: Engine, source: Source, sinks: tuple[Sink, ...]
    ) -> None:
        self.options = options
        self.engine = engine
        self.source = source
        self.sinks = sinks  # replaced as a whole: other threads go through it
        self.keyed: Recorder | None = None  # the one among them that r has started
        self.report = LiveReport()
        self.stop = threading.Event()
        self.news = threading.Event()
        self.zero: float | None = None  # the clock's, once all is open
        self.fault: BaseException | None = None
        self.frames: Newest[Frame] = Newest()
        self.latest: Localization | None = None
        self.timeline = SoundTimeline(engine.spec.window.rate, SOUND_S)
        self.maps = Rate()
        self.speakers = speakers_for(engine.spec)
        jobs = {"worker": self.work, **({"speakers": self.follow} if self.speakers else {})}
        self.threads = [
            threading.Thread(target=self._guard, args=(job,), name=name, daemon=True)
            for name, job in jobs.items()
        ]
        self.every: deque[Frame] = deque(maxlen=math.ceil(WAITING_S * options.fps) + 1)
        self.said: set[str] = set()

    def work(self) -> None:
        """Localizes the newest picture whose sound is here, over and over. Pictures that come while
        it does so overwrite each other and never reach it."""
        spec = self.engine.spec.window
        localize = None
        wait_s = WAITING_S + self.options.late_s
        waiting: deque[Frame] = deque(maxlen=math.ceil(wait_s * self.options.fps) + 1)
        seen = 0
        last: int | None = None
        while not self.stop.is_set():
            seen, newest = self.frames.after(seen, timeout=0.01)  # sound comes about so often
            if newest:
                waiting.append(newest)
            heard = self.timeline.end if self.source.hears else math.inf
            ready = [frame for frame in waiting if spec.end(frame.time) <= heard]
            if not ready:
                continue
            # Those that waited for the same hop of sound take turns; older ones are overtaken.
            frame = next(f for f in ready if f.time > ready[-1].time - spec.hop / spec.rate)
            while waiting.popleft() is not frame:
                pass
            if localize is None:
                shape = frame.picture.height, frame.picture.width
                localize = _localizing(self.engine.for_pictures(*shape), self.speakers)
            localization, tinted = localize(frame, self.timeline)
            self.latest = localization
            self.maps.tick()
            self.report.localized += 1
            self.report.skipped += 0 if last is None else frame.index - last - 1
            last = frame.index
            for sink in self.sinks:
                sink.localized(frame, localization, tinted)
            self.news.set()

    def follow(self) -> None:
        """Follows heads through all pictures, each when its sound is here: lips are too quick for
        those that the worker takes. What it can't keep up with, it misses."""
        speakers, spec = self.speakers, self.engine.spec.window
        assert speakers
        while not self.stop.is_set():
            heard = self.timeline.end if self.source.hears else math.inf
            if not self.every or spec.end(self.every[0].time) > heard:
                self.stop.wait(0.005)
                continue
            frame = self.every.popleft()
            speakers.watch(frame.time, frame.picture, self.timeline)

    def run(self) -> None:
        """Gives sinks their turns, until it is time to end."""
        end = time.monotonic() + self.options.duration
        while not self.stop.is_set() and time.monotonic() < end:
            self.news.wait(TURN_S)
            self.news.clear()
            self.say_what_changed()
            for sink in self.sinks:
                sink.turn()

    def open(self) -> None:
        """Opens all that was asked for, then sets the clock's zero and starts the threads."""
        options, spec = self.options, self.engine.spec
        self.source.open()
        for sink in sinks_of(options, spec, self.source):
            self.sinks = (*self.sinks, sink)
        width, height = options.size
        likely = self.engine.for_pictures(height, width)
        first = likely.maps()  # a network's first run takes longer than all others
        first.watch(0.0, np.zeros((*likely.spec.picture_size, 3), np.uint8), self.timeline)
        first.map()
        if options.window:
            self.sinks = (*self.sinks, Screen(self, spec.thresholds, options.in_step))
        self.zero = time.monotonic()
        self.report.cpu_seconds = -time.process_time()
        self.source.start(self.zero, self.timeline, self.take_picture, self.take_sound)
        for thread in self.threads:
            thread.start()

    def close(self) -> None:
        """Ends all threads, the source's first, and completes every file.

        Raises:
            UserError: one of them couldn't be; the others are.
        """
        self.stop.set()
        if self.zero is not None:
            self.report.seconds = time.monotonic() - self.zero
            self.report.cpu_seconds += time.process_time()
            self.report.pictures = self.source.taken
        self.source.close()
        for thread in self.threads:
            if thread.is_alive():
                thread.join(1.0)
        faults = []
        for sink in self.sinks:
            try:
                sink.close()
            except UserError as error:
                faults.append(error)
            self.note_file(sink)
        if faults:
            raise faults[0]

    def take_picture(self, frame: Frame) -> None:
        self.frames.put(frame)
        self.every.append(frame)
        for sink in self.sinks:
            sink.captured(frame)
        self.news.set()

    def take_sound(self, index: int, samples: Samples) -> None:
        for sink in self.sinks:
            sink.heard(index, samples)

    def missing(self) -> list[str]:
        """What is wrong at the moment, a line each."""
        return [*self.source.missing, *(line for sink in self.sinks if (line := sink.missing))]

    def say_what_changed(self) -> None:
        """Says on stderr what has begun to be missing, and what is back."""
        lines = set(self.missing())
        for line in lines - self.said:
            _say(line)
        for line in self.said - lines:
            _say(f"{line.split(':')[0]}: back")
        self.said = lines

    def note_file(self, sink: Sink) -> None:
        if sink.file and sink.file.exists():
            self.report.files.append(sink.file)

    # What the window asks for.

    def age_ms(self, frame: Frame) -> float:
        assert self.zero is not None, "pictures come after the start"
        return 1000 * (time.monotonic() - self.zero - frame.time)

    def figures(self, age_ms: float) -> Figures:
        running = tuple(note for sink in self.sinks if (note := sink.note))
        return Figures(
            self.source.per_second,
            self.maps.per_second,
            age_ms,
            self.report.skipped,
            self.latest,
            tuple(self.source.notes),
            running,
        )

    def shown(self, age_ms: float) -> None:
        self.report.ages_ms.append(age_ms)

    def quit(self) -> None:
        self.stop.set()

    def toggle_recording(self) -> None:
        """Starts a recording with overlay in the current folder, or ends it."""
        try:
            if self.keyed:
                ended, self.keyed = self.keyed, None
                self.sinks = tuple(sink for sink in self.sinks if sink is not ended)
                ended.close()
                self.note_file(ended)
                _say(f"wrote {ended.file}")
                return
            spec = self.engine.spec
            hop_s = spec.window.hop / spec.window.rate
            assert self.zero is not None, "keys come after the start"
            self.keyed = Recorder(
                self.new_file(".mp4"),
                self.source.rate,
                Overlay(spec.thresholds).draw,
                start=math.ceil((time.monotonic() - self.zero) / hop_s) * hop_s,
            )
            self.sinks = (*self.sinks, self.keyed)
        except UserError as fault:  # a key ends nothing but what it stands for
            _say(str(fault))

    def new_file(self, suffix: str) -> Path:
        """A name in the current folder that says when, to the millisecond."""
        now = time.time()
        moment = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
        return Path(f"avsl-{moment}-{round(now % 1 * 1000):03}{suffix}")

    def say(self, line: str) -> None:
        _say(line)

    def _guard(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as fault:  # it ends the program; the main thread raises it
            self.fault = fault
            self.stop.set()


def _localizing(
    engine: Engine, speakers: Speakers | None
) -> Callable[[Frame, SoundTimeline], tuple[Localization, Tinted | None]]:
    """How pictures are localized; where a GPU does it, it also makes them glow for files."""
    if on_gpu(engine):
        from avsl.realtime.drawing.gpu_overlay import GpuPictures

        return GpuPictures(engine, Overlay(engine.spec.thresholds), most=1, speakers=speakers)
    localize, resize = Localizer(engine, speakers), Resizer(engine.spec.picture_size)
    return lambda frame, sound: (localize(frame.time, resize(frame.picture), sound), None)


@contextlib.contextmanager
def _what_is_there_frozen() -> Iterator[None]:
    """What is there before the session opens is no garbage: that the collector looks through it
    again and again would take tens of ms each time. Only for so long, and nothing of the session's
    own: of what is frozen, no circle is ever freed, and a microphone's stream is one."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _say(line: str) -> None:
    say(f"avsl-live: {line}")
