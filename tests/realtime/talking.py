"""Who speaks, made up: an engine that hears voices, persons who speak when they are told to, a live
source; and what was written of them, read by others' rules."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from helpers import ToneEngine

from avsl.engines import Localization, Samples, SoundTimeline, describe
from avsl.engines.engine import Seen
from avsl.engines.localization import Track
from avsl.realtime.sources.frames import Frame

FILM_S = 4.0
Heard = tuple[str, float, float]
"""Who, from when to when (seconds)."""
BOXES = {
    number: (0.1 + 0.2 * (number % 4), 0.2, 0.2 + 0.2 * (number % 4), 0.5) for number in range(9)
}


class VoiceEngine(ToneEngine):
    """A tone is a voice, which the map shows nowhere: it is the lips' to say whose it is."""

    spec = bundle = replace(ToneEngine.spec, kinds=("voice", "dog"))

    def embed(self, samples: Samples) -> Samples:
        return np.array([super().embed(samples)[1] > 0.2, 0], np.float32)

    def localize_kinds(self, picture: np.ndarray, heard: Samples) -> Seen:
        return Seen(np.full((8, 8), 0.02, np.float32), np.zeros((8, 8), np.int32))


class Said:
    """In place of `Speakers`: two persons, who speak when they are said to."""

    def __init__(self, *turns: tuple[int, float, float]) -> None:
        self._turns = turns
        self.tracks: tuple[Track, ...] = ()

    def watch(self, time: float, picture: object, sound: object) -> None:
        self.tell(time)

    def tell(self, time: float) -> None:
        now = {person for person, begin, end in self._turns if begin - 1e-6 <= time < end - 1e-6}
        self.tracks = tuple(Track(n, BOXES[n], 0.9 if n in now else 0.1) for n in (1, 2))


def at(time: float, said: dict[int, float | None], voice: float = 0.9) -> Localization:
    """A moment of persons and what their lips say, while a voice is heard."""
    map_ = np.full((8, 8), 0.02, np.float32)
    tracks = tuple(Track(person, BOXES[person % 9], p) for person, p in said.items())
    found = describe(time, map_, -20.0, False, VoiceEngine.spec.thresholds)
    return replace(found, state="unsure", heard=(("voice", voice),), tracks=tracks)


def turns(path: Path) -> list[Heard]:
    """Independent of what writes: RTTM by the fields of RTTM-09, subtitles as FFmpeg reads them."""
    if path.suffix.lower() == ".srt":
        with av.open(str(path)) as container:
            packets = [p for p in container.demux(subtitles=0) if p.size]
            assert all(p.time_base == Fraction(1, 1000) for p in packets)
            return [(bytes(p).decode(), p.pts / 1000, (p.pts + p.duration) / 1000) for p in packets]
    found = []
    for line in path.read_text().splitlines():
        kind, file, channel, begin, long, ortho, stype, who, sure, ahead = line.split(" ")
        assert (kind, channel) == ("SPEAKER", "1") and file
        assert {ortho, stype, sure, ahead} == {"<NA>"}
        who = who.replace("person", "person ")
        found.append((who, float(begin), round(float(begin) + float(long), 3)))
    return found


class Talking:
    """A source of a voice, that ends as by Ctrl-C."""

    name, rate, hears, per_second = "camera 0", 16_000, True, 25.0
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    taken = 0
    opened = False

    def __init__(self, before: Callable[[float], None], after: Callable[[float], None]) -> None:
        """Called with the time of each picture."""
        self._before, self._after = before, after

    def open(self) -> None:
        self.opened = True

    def start(self, zero: float, timeline: SoundTimeline, give: Callable, hear: Callable) -> None:
        seconds = np.arange(round(FILM_S * 16_000)) / 16_000
        timeline.write(0, (0.4 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32))
        grey = av.VideoFrame.from_ndarray(np.full((120, 160, 3), 90, np.uint8), "rgb24")

        def play() -> None:
            for index in range(90):
                self.taken += 1
                self._before(index / 25)
                give(Frame(grey.reformat(format="yuv420p"), index / 25, index))
                self._after(index / 25)
            os.kill(os.getpid(), signal.SIGINT)

        self._thread = threading.Thread(target=play, daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self.opened:
            self._thread.join()
