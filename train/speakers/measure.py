"""Who is said to speak, of staged clips: each half second in which a voice is heard, by the program
with its lips, by its map alone, and by what is simpler."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from avsl.engines import Engine, Localization, Picture, Resizer, SoundTimeline
from avsl.engines.engine import Listener, speakers_for
from avsl.engines.localization import Map, Track
from avsl.engines.speakers import lips
from avsl.engines.speakers.answer import told
from avsl.engines.speakers.speakers import Speakers
from avsl.engines.speakers.tracks import Head
from avsl.engines.speakers.voice import BINS_PER_S, HOP, RATE
from avsl.train.speakers.fit import is_heard, voiced
from avsl.train.speakers.series import level
from avsl.train.speakers.staged import Shot

Array = NDArray[np.float32]
Box = tuple[float, float, float, float]
EVERY_S = 0.5
MAP_S = 0.08
"""Between two pictures that the engine's map is made of; lips are watched in all."""
SLACK = 0.5
"""Cells around a face that are taken for it."""


class Face(NamedTuple):
    """Of one seat, at a moment."""

    box: Box
    pixels: float
    """Its width."""
    turned: float
    motion: float
    """How much its mouth moves beyond its head, over the last second."""
    since: float
    """Seconds that it has been followed."""


class Said(NamedTuple):
    """What is said of the faces of a moment, a seat each."""

    lit: tuple[bool, ...]
    """Whether it glows."""
    sure: tuple[bool, ...]
    """Whether it glows, and something is said to be sounding."""
    first: int | None
    """In whose face the strongest peak lies, if it glows."""


@dataclass
class Moment:
    """One decision."""

    time: float
    sound: str
    faces: tuple[Face | None, ...]
    lips: Said
    map: Said


def watched(
    engine: Engine,
    shots: Iterable[Shot],
    sounds: Mapping[str, Array],
    seats: int,
    every: float = EVERY_S,
) -> Iterator[Moment]:
    """All decisions on shots, one in `every` seconds, with each of the sounds (from time 0 on, at
    16 kHz). A seat is a part of the picture's width; of it the largest head counts."""
    streams: list[_Stream] = []
    due, next_map = every, 0.0
    for time, frame in shots:
        if not streams:
            fitting = engine.for_pictures(frame.height, frame.width)
            resize = Resizer(fitting.spec.picture_size)
            for name, samples in sounds.items():
                streams.append(_Stream(fitting, name, samples, streams[0] if streams else None))
        picture = None
        if time >= min(next_map, due) - 1e-3:
            picture, next_map = resize(frame), time + MAP_S
        for stream in streams:
            stream.watch(time, frame, picture)
        if time < due - 1e-3:
            continue
        due += every
        faces = tuple(_faces(streams[0].heads, frame.width, frame.height, seats, time))
        for stream in streams:
            if stream.voiced(time):
                yield stream.moment(time, faces)


class _Stream:
    """One sound, held against the pictures that all are."""

    def __init__(self, engine: Engine, name: str, samples: Array, first: _Stream | None) -> None:
        speakers = speakers_for(engine.spec, first.speakers if first else None)
        assert speakers, "checked before: the engine knows voices"
        self.name = name
        self.speakers: Speakers = speakers
        self._spec, self._maps, self._listen = engine.spec, engine.maps(), Listener(engine.spec)
        self._sound = SoundTimeline(RATE, len(samples) / RATE + 1)
        self._sound.write(0, samples)
        self._voiced = voiced(level(samples, 0, len(samples) // HOP))

    @property
    def heads(self) -> Sequence[Head]:
        return self.speakers.faces.heads

    def watch(self, time: float, frame: av.VideoFrame, picture: Picture | None) -> None:
        self.speakers.watch(time, frame, self._sound)
        if picture is not None:
            self._maps.watch(time, picture, self._sound)

    def voiced(self, time: float) -> bool:
        """Whether a voice is heard, in the last second and in all that is looked back on."""
        end = int(time * BINS_PER_S)
        all_ = self._voiced[max(0, end - round(lips.LONGEST_S * BINS_PER_S)) : end]
        return len(all_) > 0 and is_heard(all_)

    def moment(self, time: float, faces: tuple[Face | None, ...]) -> Moment:
        spec = self._spec
        loud, silent = self._listen(time, self._sound)
        map_: Map = np.zeros(spec.map_size, np.float32) if silent else self._maps.map()
        named = None if silent else self._maps.named()
        glow = spec.thresholds.glow

        def said(tracks: tuple[Track, ...]) -> Said:
            evidence = self._maps.evidence
            found = told(time, map_, loud, silent, spec.thresholds, evidence, named, tracks)
            return _said(found, faces, glow)

        return Moment(time, self.name, faces, said(self.speakers.tracks), said(()))


def _faces(
    heads: Sequence[Head], width: int, height: int, seats: int, time: float
) -> Iterator[Face | None]:
    for seat in range(seats):
        left, right = seat * width / seats, (seat + 1) * width / seats
        here = [
            head
            for head in heads
            if not head.lost and len(head.rows) > 1 and left <= head.place.x < right
        ]
        if not here:
            yield None
            continue
        head = max(here, key=lambda one: one.edges[2] - one.edges[0])
        x0, y0, x1, y1 = head.edges
        last = [row for row in head.rows if row.time > time - lips.LOOK_S]
        motion = [row.mouth - lips.STEADY * row.face for row in last]
        box = x0 / width, y0 / height, x1 / width, y1 / height
        since = time - head.rows[0].time
        turned = abs(head.rows[-1].turned)
        yield Face(box, x1 - x0, turned, float(np.mean(motion)), since)


def _said(found: Localization, faces: tuple[Face | None, ...], glow: float) -> Said:
    lit = [_glows(found, face, glow) for face in faces]
    best = found.peaks[0] if found.peaks and any(lit) else None
    first = next(
        (seat for seat, face in enumerate(faces) if best and face and _inside(found, best, face)),
        None,
    )
    sure = [one and found.state == "sounding" for one in lit]
    return Said(tuple(lit), tuple(sure), first)


def _glows(found: Localization, face: Face | None, glow: float) -> bool:
    if face is None or found.state not in ("unsure", "sounding"):
        return False
    return any(p >= glow and _inside(found, (x, y, p), face) for x, y, p in found.peaks)


def _inside(found: Localization, peak: tuple[float, float, float], face: Face) -> bool:
    m, n = found.map.shape
    x0, y0, x1, y1 = face.box
    x, y, _ = peak
    return x0 - SLACK / n <= x <= x1 + SLACK / n and y0 - SLACK / m <= y <= y1 + SLACK / m


def late(samples: Array, seconds: float) -> Array:
    """A sound so much later; what is over comes first."""
    return np.roll(samples, math.floor(seconds * RATE))


def as_long(samples: Array, seconds: float) -> Array:
    """A sound repeated, or cut, to so many seconds."""
    return np.resize(samples, round(seconds * RATE))
