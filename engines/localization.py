"""From a map of probabilities to what is said about a moment: state, score, peaks and boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from avsl.engines.bundle import Thresholds

Map = NDArray[np.float32]
State = Literal["silent", "unseen", "unsure", "sounding"]
Peak = tuple[float, float, float]
Box = tuple[float, float, float, float, float]
Evidence = Literal["network", "motion"]
"""What an engine goes by: that it knows thing and sound, or that the thing moves with it."""

FLOOR_DB = -120.0
"""What digital silence is called, so that levels stay finite numbers."""


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
    """The kinds that are heard most, each with its probability, strongest first."""

    def mirrored(self) -> Localization:
        """Of the picture with left and right exchanged."""
        return replace(
            self,
            map=np.ascontiguousarray(self.map[:, ::-1]),
            peaks=tuple((1 - x, y, p) for x, y, p in self.peaks),
            boxes=tuple((1 - x1, y0, 1 - x0, y1, p) for x0, y0, x1, y1, p in self.boxes),
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
) -> Localization:
    """The localization of one moment from its map (`[m, n]`, ignored when `silent`); `evidence`
    says what carried a peak of it."""
    map_ = np.zeros_like(map_) if silent else map_
    score = float(map_.max())
    state: State = "sounding" if score >= t.sounding else "unseen" if score < t.unseen else "unsure"
    regions = _regions(map_, t.glow) if score >= t.glow and not silent else []
    peaks = tuple(peak for peak, _ in regions)
    return Localization(
        time,
        map_,
        level,
        "silent" if silent else state,
        score,
        peaks,
        tuple(box for _, box in regions),
        tuple(map(evidence, peaks)) if evidence else (),
    )


def _regions(map_: Map, threshold: float) -> list[tuple[Peak, Box]]:
    """Peak and box of each 4-connected region of cells at or over `threshold`."""
    rows, columns = map_.shape
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(map_ >= threshold), strict=True)}
    found = []
    while left:
        region = [left.pop()]
        for y, x in region:
            for cell in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if cell in left:
                    left.remove(cell)
                    region.append(cell)
        y, x = max(region, key=lambda cell: float(map_[cell]))
        p = float(map_[y, x])
        y0, x0 = min(r for r, _ in region), min(c for _, c in region)
        y1, x1 = max(r for r, _ in region) + 1, max(c for _, c in region) + 1
        peak = ((x + 0.5) / columns, (y + 0.5) / rows, p)
        found.append((peak, (x0 / columns, y0 / rows, x1 / columns, y1 / rows, p)))
    return sorted(found, key=lambda item: -item[0][2])


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
