"""Which sound belongs to which picture: the hop grid, and sound addressed by time.

Files, the live loop and training pair pictures with sound through this module and nothing else,
so the same moment always meets the same samples.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class WindowSpec:
    """How a picture at time t is paired with sound. All lengths are in samples at `rate` Hz.

    The window holds `length` samples and ends at the last multiple of `hop` at or before
    `t - guard / rate`. It is causal: no sound from after the picture is ever needed, and `guard`
    covers what a microphone takes to deliver, so that live equals offline.
    """

    rate: int
    length: int
    hop: int
    guard: int

    def hop_index(self, time: float) -> int:
        """Number of the hop at whose end the window of a picture at `time` (seconds) ends."""
        # Times in containers are rationals that floats miss by an ulp; a millionth of a sample
        # keeps a time that lies exactly on the grid on its own side of it.
        return math.floor((time * self.rate - self.guard + 1e-6) / self.hop)

    def end(self, time: float) -> int:
        """Sample index (exclusive) at which the window of a picture at `time` seconds ends."""
        return self.hop_index(time) * self.hop


class SoundTimeline:
    """The last seconds of mono sound, addressable by sample index; sample 0 is time 0.

    One thread may write while another reads. What was never written, or has been overwritten,
    reads as silence, so gaps in a stream stay where they were in time.
    """

    def __init__(self, rate: int, seconds: float) -> None:
        self.rate = rate
        self._ring = np.zeros(round(rate * seconds), np.float32)
        self._first: int | None = None  # index of the first sample ever written
        self._end = 0
        self._lock = threading.Lock()

    @property
    def end(self) -> int:
        """Index one past the newest sample."""
        return self._end

    def write(self, index: int, samples: Samples) -> None:
        """Puts `samples` (float32 `[n]`) at `index`. A gap before it becomes silence; samples
        older than the newest ones written already are dropped."""
        size = len(self._ring)
        with self._lock:
            if self._first is None:
                self._first = self._end = index
            if index < self._end:
                samples = samples[self._end - index :]
                index = self._end
            if len(samples) == 0:
                return
            gap = min(index - self._end, size)
            if gap:
                self._put(index - gap, np.zeros(gap, np.float32))
            self._put(index, samples)
            self._end = index + len(samples)

    def read(self, end: int, length: int) -> Samples:
        """The `length` samples before `end`, as a new float32 `[length]` array."""
        out = np.zeros(length, np.float32)
        with self._lock:
            if self._first is None:
                return out
            start = max(end - length, self._first, self._end - len(self._ring))
            stop = min(end, self._end)
            if stop > start:
                where = np.arange(start, stop) % len(self._ring)
                out[start - (end - length) : stop - (end - length)] = self._ring[where]
        return out

    def _put(self, index: int, samples: Samples) -> None:
        size = len(self._ring)
        if len(samples) > size:
            index += len(samples) - size
            samples = samples[-size:]
        at = index % size
        head = min(len(samples), size - at)
        self._ring[at : at + head] = samples[:head]
        self._ring[: len(samples) - head] = samples[head:]
