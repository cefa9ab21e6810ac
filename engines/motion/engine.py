"""What moves with the sound: evidence that needs no training and no network.

The picture changes where the sound is made: hands clap, a mouth opens, a ball lands. For each cell
of the map, the amount of motion over the last seconds is correlated with features of the sound
(Hershey & Movellan 1999; Kidron et al. 2005; the onsets of Barzelay & Schechner 2007). Chance
agrees now and then, too, and how well depends on what the thing and the sound are like: so the same
motion is set against the sound shifted in time by all amounts, and the evidence

    q = z * n^2 / (n^2 + FEW^2) * s / (s + s_max)

is how far the true time stands out among the shifts (z, in standard deviations), for as many
moments as agree (n, the participation ratio of the products that the correlation sums), and for as
much motion as there is (s, its deviation, against that of what moves most). The odds of the
probability are a power of it, fitted once on animated scenes.
"""

from __future__ import annotations

import importlib.metadata
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from avsl.engines.bundle import EngineSpec, Thresholds
from avsl.engines.localization import Evidence, Map, Named, Peak
from avsl.engines.motion.steady import Camera, Luma, halved, luma, moved
from avsl.engines.pictures import Picture
from avsl.engines.windows import SoundTimeline, WindowSpec

Array = NDArray[np.float32]

BINS_PER_S = 25
MEMORY = 96
"""Bins that are looked back on, and shifts that chance is estimated from."""
FORGET_S = 2.0
"""Time constant of forgetting."""
LAGS = 6
"""Bins that sound may come before or after the picture: 0.2 s."""
NEAR = 1
"""Bins by which motion may precede or follow its sound besides."""
USUAL_LAG = 1
"""The change of loudness in a bin is that since the bin before."""
LAG_FORGET = 0.998
"""How long, in bins, the evidence for a lag counts: twenty seconds."""
BETTER = 1.25
"""By how much the evidence for another lag must exceed that for the usual one."""
FEW = 3.0
CELL = 8
"""Pixels of a cell; pictures with twice as many are halved first."""
GAP_S = 0.5
"""Pictures farther apart are not compared."""
LATELY_S = 1.0
"""What `Lately` is about."""
MOVES, ZOOMS = 25.0, 0.04
"""Pixels that the camera moves by, and the part of its size that the picture grows or shrinks by,
in a second, from which on it doesn't rest. One that stands was never found to zoom by more than
0.014."""
CUT = 8.0
"""Levels by which more than half of the cells change where a film cuts to another picture."""
BANDS_HZ = (0, 100, 250, 600, 1600, 4000)
WEIGHTS = np.array([0.5, 1.0, 0.5], np.float32)
"""Of the sound's features: rise in all bands, change of loudness, loudness."""
BLUR = np.array([1, 2, 3, 2, 1], np.float32) / 9
POWER = 1.4
"""The odds that the sound comes from a cell are q ** POWER: of the cells of animated scenes with
the same q, this many were of the thing that sounded."""
THRESHOLDS = Thresholds(glow=0.5, unseen=0.5, sounding=0.68, gate_db=-60.0, gate_margin_db=6.0)
SPEC = EngineSpec(
    name="motion",
    version=importlib.metadata.version("avsl"),
    window=WindowSpec(rate=16_000, length=16_000, hop=640, guard=640),
    picture_size=(160, 160),
    map_size=(20, 20),
    thresholds=THRESHOLDS,
)


class MotionEngine:
    """The engine that needs no bundle: maps from motion alone."""

    spec = SPEC

    def for_pictures(self, height: int, width: int) -> MotionEngine:
        return self

    def maps(self) -> MotionMaps:
        return MotionMaps(SPEC)


class _Seen(NamedTuple):
    time: float
    luma: Luma


class _Step(NamedTuple):
    """From one picture to the next."""

    time: float
    seconds: float
    change: Array
    camera: Camera


class Lately(NamedTuple):
    """The last second's motion."""

    amount: Array
    """`[m, n]`, by how many levels a picture each cell changes."""
    camera_rests: bool
    """Whether the camera neither moves nor zooms."""


class MotionMaps:
    """The maps of one stream: watches pictures and sound, and remembers the last seconds."""

    def __init__(self, spec: EngineSpec) -> None:
        self._size = spec.map_size
        self._window = spec.window
        self._bin_samples = spec.window.rate // BINS_PER_S
        self._bands = [round(hz / BINS_PER_S) for hz in BANDS_HZ]
        self._taper = np.hanning(self._bin_samples)
        cell = spec.picture_size[0] // spec.map_size[0]
        self._halve = cell >= 2 * CELL
        self._forget()

    def _forget(self) -> None:
        cells = self._size[0] * self._size[1]
        self._seen: _Seen | None = None
        self._camera = Camera()
        self._last: deque[_Step] = deque()
        self._under_way: Array = np.zeros(cells, np.float32)  # motion in the bin that isn't over
        self._motion = np.zeros((cells, MEMORY), np.float32)
        self._sound = np.zeros((len(WEIGHTS), MEMORY), np.float32)
        self._first = self._pictured = self._heard = -1  # bins; the newest that are complete
        self._bands_before: NDArray[np.float64] | None = None
        self._lag_scores = np.zeros(2 * LAGS + 1)
        self._done: tuple[int, Map] = -1, np.zeros(self._size, np.float32)

    def watch(self, time: float, picture: Picture, sound: SoundTimeline) -> None:
        """Takes in the picture of `time` (seconds) and the sound before it. A step back in time, a
        long one ahead, or a cut to another picture begins anew."""
        before, now = self._seen, luma(halved(picture) if self._halve else picture)
        if before and time == before.time:
            return
        change = self._change(before, time, now) if before else None
        if before is None or change is None:
            self._forget()
            self._first = int(time * BINS_PER_S) + 1
            self._pictured = self._heard = self._first - 1
        else:
            self._spread(before.time, time, change)
            self._last.append(_Step(time, time - before.time, change, self._camera))
            while self._last[0].time <= time - LATELY_S:
                self._last.popleft()
        self._seen = _Seen(time, now)
        self._listen(sound, self._window.end(time) // self._bin_samples - 1)

    def _change(self, before: _Seen, time: float, now: Luma) -> Array | None:
        """What has moved since the picture before, `[cells]`; None where this is another scene."""
        if not 0 < time - before.time < MEMORY / BINS_PER_S:
            return None
        if time - before.time > GAP_S:
            return np.zeros_like(self._under_way)
        change, self._camera = moved(before.luma, now, self._size, self._camera)
        return None if np.mean(change > CUT) > 0.5 else _blurred(change).ravel()

    def _spread(self, start: float, stop: float, change: NDArray[np.float32]) -> None:
        """Shares out the change between two pictures over the bins between them."""
        rate = change / (stop - start)
        for at in range(int(start * BINS_PER_S), int(stop * BINS_PER_S) + 1):
            low, high = max(start, at / BINS_PER_S), min(stop, (at + 1) / BINS_PER_S)
            self._under_way += rate * np.float32(max(0.0, high - low))
            if at < int(stop * BINS_PER_S):
                self._motion[:, at % MEMORY] = np.log1p(self._under_way)
                self._under_way = np.zeros_like(change)
                self._pictured = at

    def _listen(self, sound: SoundTimeline, newest: int) -> None:
        for at in range(max(self._heard + 1, newest - MEMORY), newest + 1):
            samples = sound.read((at + 1) * self._bin_samples, self._bin_samples)
            power = np.square(np.abs(np.fft.rfft(samples * self._taper)))
            bands = np.array(
                [power[a:b].sum() for a, b in zip(self._bands[:-1], self._bands[1:], strict=True)]
            )
            before = bands if self._bands_before is None else self._bands_before
            self._bands_before = bands
            rise = np.maximum(np.log10(bands + 1e-4) - np.log10(before + 1e-4), 0).mean()
            loud, loud_before = (float(np.log10(x.sum() + 1e-3)) for x in (bands, before))
            self._sound[:, at % MEMORY] = rise, abs(loud - loud_before), loud
            self._heard = at

    def map(self) -> Map:
        """`[m, n]`, the probability that the sound comes from here."""
        newest = min(self._pictured, self._heard)
        if newest != self._done[0]:
            odds = np.maximum(self._standing_out(newest), 0) ** POWER
            self._done = newest, (odds / (1 + odds)).astype(np.float32).reshape(self._size)
        return self._done[1]

    def lately(self) -> Lately:
        """How much has moved, whatever was heard."""
        if not self._last:
            return Lately(np.zeros(self._size, np.float32), camera_rests=True)
        amount = np.mean([step.change for step in self._last], 0).reshape(self._size)
        # Means, for a thing that leaps before a bare wall is the camera's motion for one picture.
        speeds = [np.hypot(s.camera.down, s.camera.across) / s.seconds for s in self._last]
        zooms = np.mean([abs(step.camera.growth) / step.seconds for step in self._last])
        return Lately(amount, bool(np.mean(speeds) < MOVES and zooms < ZOOMS))

    def evidence(self, peak: Peak) -> Evidence:
        return "motion"

    def named(self) -> Named | None:
        return None

    def _remembered(self, newest: int) -> tuple[NDArray[np.int64], Array]:
        """The bins up to `newest` that are looked back on, and what they count, 1 in all: those
        before the first nothing, later ones the more."""
        bins = np.arange(newest - MEMORY + 1, newest + 1)
        weight = (bins >= self._first) * np.exp((bins - newest) / (BINS_PER_S * FORGET_S))
        return bins, (weight / weight.sum()).astype(np.float32)

    def _standing_out(self, newest: int) -> Array:
        """q of each cell `[cells]`, up to bin `newest`."""
        count = newest - self._first + 1
        if count < BINS_PER_S:
            return np.zeros(len(self._motion), np.float32)
        bins, weight = self._remembered(newest)
        motion, sound = self._motion[:, bins % MEMORY], self._sound[:, bins % MEMORY]
        motion -= np.einsum("ct,t->c", motion, weight)[:, None]
        sound = (sound - np.einsum("ft,t->f", sound, weight)[:, None]) * (weight > 0)
        sound /= np.sqrt(np.einsum("ft,t->f", np.square(sound), weight))[:, None] + 1e-6
        deviation = np.sqrt(np.einsum("ct,ct,t->c", motion, motion, weight))
        much = deviation / (deviation + deviation.max() + 1e-3)
        motion *= weight
        z, agree = self._against_shifts(motion, sound)
        # Where little is remembered yet, most shifts meet nothing, and chance looks too small.
        z *= np.float32(np.sqrt(min(1.0, count / MEMORY)))
        lag = self._lag((z * much).max(1))
        squares = np.einsum("ct,ft->fc", np.square(motion), np.square(np.roll(sound, -lag, 1)))
        several = np.square(agree[:, lag + LAGS]) / (squares + 1e-12)
        several = np.einsum("fc,f->c", several, WEIGHTS) / WEIGHTS.sum()
        enough = np.square(several) / (np.square(several) + FEW**2)
        return z[lag + LAGS] * enough * much

    def _against_shifts(self, motion: Array, sound: Array) -> tuple[Array, Array]:
        """z `[lags, cells]`, and the correlations `[features, lags, cells]` themselves."""
        lags = np.arange(-LAGS, LAGS + 1)
        far = slice(LAGS + NEAR + 1, MEMORY - LAGS - NEAR)
        moving = np.conj(np.fft.rfft(motion))
        z, agree = np.zeros((len(motion), len(lags)), np.float32), []
        for feature, spectrum in zip(WEIGHTS, np.fft.rfft(sound), strict=True):
            exact = np.fft.irfft(moving * spectrum, MEMORY)
            around = np.concatenate([exact[:, -NEAR:], exact, exact[:, :NEAR]], 1)
            near = exact
            for by in range(-NEAR, NEAR + 1):
                near = np.maximum(near, around[:, NEAR + by : NEAR + by + MEMORY])
            chance = near[:, far]
            mean = chance.mean(1)
            power = np.einsum("cs,cs->c", chance, chance) / chance.shape[1]
            spread = np.sqrt(np.maximum(power - mean**2, 0))
            z += feature * (near[:, lags] - mean[:, None]) / (spread + 1e-6)[:, None]
            agree.append(exact[:, lags].T)
        return z.T / np.sqrt(np.square(WEIGHTS).sum()), np.stack(agree)

    def _lag(self, evidence: Array) -> int:
        """By how many bins sound comes later than its motion, in this stream: at which lag the
        strongest `evidence` (`[lags]`) has been lately."""
        self._lag_scores = LAG_FORGET * self._lag_scores + evidence
        best = int(np.argmax(self._lag_scores)) - LAGS
        usual = self._lag_scores[LAGS + USUAL_LAG - NEAR : LAGS + USUAL_LAG + NEAR + 1].max()
        return best if self._lag_scores.max() > BETTER * usual else USUAL_LAG


def _blurred(cells: Array) -> Array:
    """The mean over 3 x 3 cells, twice: what moves is larger than a cell."""
    m, n = cells.shape
    padded = np.pad(cells, 2)
    rows = sum(tap * padded[k : k + m] for k, tap in enumerate(BLUR))
    out: Array = sum(tap * rows[:, k : k + n] for k, tap in enumerate(BLUR))
    return out
