"""From a map of probabilities to what is said about a moment: state, score, peaks and boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from avsl.engines.bundle import Thresholds

Map = NDArray[np.float32]
Kinds = NDArray[np.int32]
"""Which kind carries each cell of a map most, by its place among the engine's; -1 is none."""
State = Literal["silent", "unseen", "unsure", "sounding"]
Peak = tuple[float, float, float]
Box = tuple[float, float, float, float, float]
Evidence = Literal["network", "motion", "lips"]
"""What an engine goes by: that it knows thing and sound, that the thing moves with it, or that
lips do."""

FLOOR_DB = -120.0
"""What digital silence is called, so that levels stay finite numbers."""
HEARD_MOST, HEARD_LEAST = 3, 0.1
"""So many kinds are said to be heard, and from this probability on."""
TINY, WEAK = 2, 0.5
"""Of a region that glows, a part of its own kind with no more cells than this is taken for what
lies beside it, where most of what is around it glows, too, or where its peak stands over the
threshold less than so many times as far as the region's: a stray cell is no thing."""


class Track(NamedTuple):
    """Somebody who is followed."""

    person: int
    """From 1 on, as they were found; after a cut all are others."""
    box: tuple[float, float, float, float]
    """The head, hair to chin: x0, y0, x1, y1 in 0..1 from the top left of the upright picture."""
    speaking: float | None
    """The probability that this person makes the voice that is heard, by the lips; None where that
    can't be told: in the first second, turned away, mouth covered."""

    def away(self, peak: Peak) -> float:
        """How far a peak lies from the head; 0 inside."""
        (x, y, _), (x0, y0, x1, y1) = peak, self.box
        return max(x0 - x, x - x1, y0 - y, y - y1, 0.0)


class Named(NamedTuple):
    """What a map is of, by name."""

    words: tuple[str, ...]
    """The engine's kinds."""
    kinds: Kinds
    """`[m, n]`, of the map."""
    heard: NDArray[np.float32]
    """`[K]`, how likely each of them is heard."""


@dataclass(frozen=True)
class Localization:
    """What is heard and seen at one moment. Coordinates are in 0..1 from the top left of the
    upright picture."""

    time: float
    """Seconds on the stream clock, of the picture."""
    map: Map
    """`[m, n]`, the probability that the sound comes from here: absolute, never stretched.
    All zero when silent."""
    level_db: float
    """Loudness of the newest hop of sound, dBFS (a full-scale square wave is 0)."""
    state: State
    score: float
    """The highest probability in the map."""
    peaks: tuple[Peak, ...]
    """(x, y, p), strongest first."""
    boxes: tuple[Box, ...]
    """(x0, y0, x1, y1, p) around each region that glows, strongest first."""
    evidence: tuple[Evidence, ...] = ()
    """What carried each of the peaks most."""
    kinds: tuple[str, ...] = ()
    """What each of the peaks is taken for, in plain words; "" where that isn't known."""
    heard: tuple[tuple[str, float], ...] = ()
    """The kinds that are heard most, each with its probability, strongest first: three at most,
    from 0.1 on."""
    tracks: tuple[Track, ...] = ()
    """The persons in view, of an engine that knows voices."""

    def mirrored(self) -> Localization:
        """Of the picture with left and right exchanged."""
        return replace(
            self,
            map=np.ascontiguousarray(self.map[:, ::-1]),
            peaks=tuple((1 - x, y, p) for x, y, p in self.peaks),
            boxes=tuple((1 - x1, y0, 1 - x0, y1, p) for x0, y0, x1, y1, p in self.boxes),
            tracks=tuple(
                Track(person, (1 - x1, y0, 1 - x0, y1), speaking)
                for person, (x0, y0, x1, y1), speaking in self.tracks
            ),
        )


def level_db(samples: NDArray[np.float32]) -> float:
    """Root mean square of `samples` in dBFS, not under `FLOOR_DB`."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return max(FLOOR_DB, 10 * float(np.log10(power + 1e-30)))


def describe(
    time: float,
    map_: Map,
    level: float,
    silent: bool,
    t: Thresholds,
    evidence: Callable[[Peak], Evidence] | None = None,
    named: Named | None = None,
) -> Localization:
    """The localization of one moment from its map (`[m, n]`, ignored when `silent`); `evidence`
    says what carried a peak of it, `named` what is what. Two things of different kinds that touch
    are two."""
    map_ = np.zeros_like(map_) if silent else map_
    named = None if silent else named
    score = float(map_.max())
    state: State = "sounding" if score >= t.sounding else "unseen" if score < t.unseen else "unsure"
    glows = score >= t.glow and not silent
    regions = _regions(map_, t.glow, named.kinds if named else None) if glows else []
    peaks = tuple(peak for _, peak, _ in regions)
    carried = tuple(map(evidence, peaks)) if evidence else ()
    kinds: tuple[str, ...] = ()
    if named:
        kinds = tuple(named.words[kind] if kind >= 0 else "" for kind, _, _ in regions)
        if carried:
            pairs = zip(kinds, carried, strict=True)
            kinds = tuple("" if by == "motion" else kind for kind, by in pairs)
    return Localization(
        time,
        map_,
        level,
        "silent" if silent else state,
        score,
        peaks,
        tuple(box for _, _, box in regions),
        carried,
        kinds,
        _most_heard(named) if named else (),
    )


def _most_heard(named: Named) -> tuple[tuple[str, float], ...]:
    most = np.argsort(-named.heard, kind="stable")[:HEARD_MOST]
    return tuple(
        (named.words[k], float(named.heard[k])) for k in most if named.heard[k] >= HEARD_LEAST
    )


Cell = tuple[int, int]


def _regions(map_: Map, threshold: float, kinds: Kinds | None) -> list[tuple[int, Peak, Box]]:
    """Kind, peak and box of each 4-connected region of cells at or over `threshold` that are of one
    kind, or of any (-1) where `kinds` are unknown."""
    rows, columns = map_.shape
    glowing = [(int(y), int(x)) for y, x in zip(*np.nonzero(map_ >= threshold), strict=True)]
    of = dict.fromkeys(glowing, -1)
    if kinds is not None:
        _tell_apart(of, kinds, map_, threshold)
    found = []
    for region in _connected(of):
        y, x = max(region, key=lambda cell: float(map_[cell]))
        p = float(map_[y, x])
        y0, x0 = min(r for r, _ in region), min(c for _, c in region)
        y1, x1 = max(r for r, _ in region) + 1, max(c for _, c in region) + 1
        peak = ((x + 0.5) / columns, (y + 0.5) / rows, p)
        box = (x0 / columns, y0 / rows, x1 / columns, y1 / rows, p)
        found.append((of[y, x], peak, box))
    return sorted(found, key=lambda item: -item[1][2])


def _tell_apart(of: dict[Cell, int], kinds: Kinds, map_: Map, threshold: float) -> None:
    """Gives each of the cells its kind, and a stray part that of its strongest neighbour."""
    whole = _connected(of)
    of.update({cell: int(kinds[cell]) for cell in of})
    for region in whole:
        best = max(float(map_[cell]) for cell in region)
        few = threshold + WEAK * (best - threshold)
        for part in _connected({cell: of[cell] for cell in region}):
            if len(part) > TINY:
                continue
            beyond = [cell for each in part for cell in _beside(each) if cell not in part]
            around = [cell for cell in beyond if cell in of]
            within = 2 * len(around) > len(beyond)
            if around and (within or max(float(map_[cell]) for cell in part) < few):
                kind = of[max(around, key=lambda cell: float(map_[cell]))]
                of.update(dict.fromkeys(part, kind))


def _connected(of: dict[Cell, int]) -> list[list[Cell]]:
    """The cells in parts of one kind each, 4-connected."""
    left = dict(of)
    parts = []
    while left:
        first, kind = left.popitem()
        part = [first]
        for cell in part:
            for next_ in _beside(cell):
                if left.get(next_) == kind:
                    del left[next_]
                    part.append(next_)
        parts.append(part)
    return parts


def _beside(cell: Cell) -> Iterable[Cell]:
    y, x = cell
    return (y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)


class Gate:
    """Decides hop by hop whether there is sound, by a level that follows the room's own noise.

    The floor falls at once and rises by `RISE_DB_PER_S`, but never above `FLOOR_CAP_DB`: a lasting
    hum becomes the room, lasting music doesn't. The gate stays open for `HOLD_S` after the last
    loud hop, so that the gaps of a ticking clock don't flicker.
    """

    RISE_DB_PER_S = 1.0
    FLOOR_START_DB = -90.0
    FLOOR_CAP_DB = -50.0
    HOLD_S = 0.5

    def __init__(self, thresholds: Thresholds, hop_s: float) -> None:
        self._thresholds = thresholds
        self._rise = self.RISE_DB_PER_S * hop_s
        self._hold = round(self.HOLD_S / hop_s)
        self._floor = self.FLOOR_START_DB
        self._quiet = self._hold  # hops since the last loud one; starts closed

    def update(self, level: float) -> bool:
        """Takes the level of the next hop in dBFS and returns whether the gate is open."""
        t = self._thresholds
        loud = level >= max(t.gate_db, self._floor + t.gate_margin_db)
        self._quiet = 0 if loud else self._quiet + 1
        floor = max(min(level, self._floor + self._rise), self.FLOOR_START_DB)
        self._floor = min(floor, self.FLOOR_CAP_DB)
        return self._quiet < self._hold
