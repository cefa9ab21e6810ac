"""What of a sound lips can be held against: 25 times a second, how loud its bands are and how they
change."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from avsl.engines.windows import SoundTimeline

Array = NDArray[np.float32]

RATE = 16_000
BINS_PER_S = 25
HOP = RATE // BINS_PER_S
WINDOW = 960
"""Samples that each bin hears: 60 ms, around the middle of its own 40."""
REACH = (WINDOW - HOP) // 2
"""By how much that is more, on either side."""
EDGES_HZ = (100, 200, 400, 700, 1000, 1500, 2300, 3500, 7000)
FLOOR = 1e-8
"""Power of a band that counts as none."""
SERIES = ("flux", "rise", "mid", "level", "low", "high")
KEPT = 10 * BINS_PER_S
"""Bins that are remembered."""
LOUD, SHARE = 2.2, 0.3
"""Within so many powers of ten of the loudest a bin is heard, and in such a share of a second's
bins something is."""


class Voice:
    """The bins of one stream, as its sound comes."""

    def __init__(self) -> None:
        self._bins = np.zeros((KEPT, len(SERIES)), np.float32)
        self.start = self.end = 0
        """The first bin that is remembered, and the one after the newest."""

    def listen(self, sound: SoundTimeline, until: int) -> None:
        """Hears the sound up to sample `until`. A step back in time, or a long one ahead, begins
        anew."""
        end = max(0, (until - REACH) // HOP)
        if end < self.end or end - self.end > BINS_PER_S:
            self.start = self.end = max(0, end - 1)
        if end == self.end:
            return
        self._bins[np.arange(self.end, end) % KEPT] = voice_bins(sound, self.end, end)
        self.end = end
        self.start = max(self.start, end - KEPT)

    def bins(self, first: int, last: int) -> Array:
        """`SERIES` of bins `first` to `last` (without it), `[n, 6]`."""
        return self._bins[np.arange(first, last) % KEPT]

    def heard(self, last: int) -> bool:
        """Whether there was something to hear in the second before bin `last`, beside what else is
        remembered."""
        level = self.bins(self.start, last)[:, SERIES.index("level")]
        loud = level > np.percentile(level, 95) - LOUD
        return bool(loud[-BINS_PER_S:].mean() >= SHARE)


def voice_bins(sound: SoundTimeline, first: int, last: int) -> Array:
    """`SERIES` of bins `first` to `last` (without it), bin k being from k / 25 s on, `[n, 6]`."""
    count = last - first + 1  # with the one before, that changes are known
    samples = sound.read(last * HOP + REACH, count * HOP + 2 * REACH)
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    power = np.square(np.abs(np.fft.rfft(windows * _TAPER, axis=1)))
    sums = np.stack([power[:, a:b].sum(1) for a, b in _BANDS], 1) / WINDOW**2
    logs = np.log10(sums + FLOOR)
    change = np.diff(logs, axis=0)
    logs, sums = logs[1:], sums[1:]

    def loud(a: int, b: int) -> NDArray[np.float64]:
        return np.asarray(np.log10(sums[:, a:b].sum(1) + FLOOR))

    flux = np.sqrt(np.square(change).mean(1))
    rise = np.maximum(change, 0).mean(1)
    series = np.stack([flux, rise, loud(4, 7), loud(0, 7), loud(0, 3), loud(7, 8)], 1)
    return series.astype(np.float32)


_TAPER = np.hanning(WINDOW).astype(np.float32)
_BANDS = [(round(a * WINDOW / RATE), round(b * WINDOW / RATE)) for a, b in pairwise(EDGES_HZ)]
