"""Sources and sinks are files: the live loop knows no more of them than the protocols."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers import ToneEngine, test_picture

pytest.importorskip("cv2", reason="live needs OpenCV and its libGL")

from avsl.realtime.live import LiveOptions, run_live  # imports cv2 before av

# isort: split
import av

from avsl.engines import Localization, Samples, SoundTimeline, UserError
from avsl.realtime.sinks.sink import Sink
from avsl.realtime.sources.frames import Frame

RATE, FPS = 48_000, 25


class Tune:
    """A low tone for a second, then a high one, with a picture for each moment. Nothing of it
    depends on the time of day: it gives all of its sound, then one picture after the other."""

    name = "a tune"
    rate: int | None = RATE
    hears = True
    per_second = float(FPS)
    missing = ("a tune: out of tune",)
    notes = ()

    def __init__(self, wait_for: Callable[[int], None]) -> None:
        self.taken = 0
        self.wait_for = wait_for
        self.opened = self.closed = 0

    def open(self) -> None:
        self.opened += 1

    def start(
        self,
        zero: float,
        timeline: SoundTimeline,
        picture: Callable[[Frame], None],
        sound: Callable[[int, Samples], None],
    ) -> None:
        def play() -> None:
            for rate, give in ((RATE, sound), (timeline.rate, timeline.write)):
                t = np.arange(2 * rate) / rate
                wave = 0.4 * np.sin(2 * np.pi * np.where(t < 1, 500, 3000) * t)
                for first in range(0, len(t), rate // 10):
                    give(first, wave[first : first + rate // 10].astype(np.float32))
            for index in range(2 * FPS):
                rgb = test_picture(index, 64, 48)
                frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv420p")
                self.taken += 1
                picture(Frame(frame, index / FPS, index))
                self.wait_for(index)
            os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C ends a session

        self.thread = threading.Thread(target=play, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.closed += 1
        self.thread.join()


class Ledger(Sink):
    """Writes down what it was given, and by which thread."""

    def __init__(self) -> None:
        self.pictures: list[int] = []
        self.samples = 0
        self.found: list[Localization] = []
        self.turns: set[str] = set()
        self.closed = 0
        self._new = threading.Condition()

    missing = "a ledger: full"

    def captured(self, frame: Frame) -> None:
        self.pictures.append(frame.index)

    def heard(self, index: int, samples: Samples) -> None:
        assert index == self.samples
        self.samples += len(samples)

    def localized(self, frame: Frame, localization: Localization, tinted: object = None) -> None:
        with self._new:
            self.found.append(localization)
            self._new.notify_all()

    def wait_for(self, index: int) -> None:
        with self._new:
            assert self._new.wait_for(lambda: len(self.found) > index, 10)

    def turn(self) -> None:
        self.turns.add(threading.current_thread().name)

    def close(self) -> None:
        self.closed += 1


def session(folder: Path, *more: Sink) -> tuple[Tune, Ledger]:
    """Runs a tune through the live loop into a ledger, a recording and events."""
    ledger = Ledger()
    tune = Tune(ledger.wait_for)
    options = LiveOptions(
        window=False, record=folder / "raw.mkv", events=folder / "e.jsonl", duration=60
    )
    run_live(options, ToneEngine(), tune, [ledger, *more])
    return tune, ledger


def test_any_source_goes_through_the_loop_to_any_sink(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune, ledger = session(tmp_path)
    assert (tune.opened, tune.closed, ledger.closed) == (1, 1, 1)
    assert ledger.pictures == list(range(2 * FPS))
    assert ledger.samples == 2 * RATE
    assert ledger.turns == {"MainThread"}
    sides = [found.peaks[0][0] for found in ledger.found if found.peaks]
    assert min(sides) < 0.5 < max(sides), "the map follows the tune"
    said = capsys.readouterr().err
    assert "avsl-live: a tune: out of tune" in said and "avsl-live: a ledger: full" in said
    first, *events = map(json.loads, (tmp_path / "e.jsonl").read_text().splitlines())
    assert first["source"] == "a tune"
    assert [event["time"] for event in events] == [round(k / FPS, 6) for k in range(2 * FPS)]
    with av.open(str(tmp_path / "raw.mkv")) as recorded:
        times = [frame.time for frame in recorded.decode(video=0)]
    assert times == pytest.approx([float(Fraction(k, FPS)) for k in range(2 * FPS)], abs=1e-3)


def test_a_sink_that_cannot_be_completed_is_said_and_the_others_are(tmp_path: Path) -> None:
    class Stuck(Sink):
        def close(self) -> None:
            raise UserError("stuck: can't be completed")

    after = Ledger()
    with pytest.raises(UserError, match="stuck: can't be completed"):
        session(tmp_path, Stuck(), after)
    assert after.closed == 1
    assert (tmp_path / "raw.mkv").exists()


def test_a_source_that_cannot_be_opened_ends_the_session(tmp_path: Path) -> None:
    class Absent(Tune):
        def open(self) -> None:
            raise UserError("a tune: nobody plays")

        def close(self) -> None:
            self.closed += 1

    absent = Absent(lambda index: None)
    options = LiveOptions(window=False, events=tmp_path / "e.jsonl")
    with pytest.raises(UserError, match="nobody plays"):
        run_live(options, ToneEngine(), absent)
    assert absent.closed == 1
    assert not list(tmp_path.iterdir())
