"""How loud each hop of a stream is, without what is there and no sound."""

from __future__ import annotations

import numpy as np

from avsl.engines.localization import FLOOR_DB, level_db
from avsl.engines.windows import SoundTimeline, WindowSpec


class Loudness:
    """The level of each hop of one stream in dBFS, without the constant offset that a cheap
    converter adds.

    The offset is the mean of the last hops under a bell, in which nothing is left of a tone of
    10 Hz or more: what can be heard is measured as it is. Where a stream begins, also after digital
    silence, it steps from nothing to its offset; that is none of its sound.
    """

    HOPS = 4
    STEP_S = 0.002
    """What resampling makes of the step."""

    def __init__(self, window: WindowSpec) -> None:
        self._size = window.hop
        self._step = round(self.STEP_S * window.rate)
        self._bell = np.hanning(self.HOPS * window.hop + 2)[1:-1]
        self._begin: int | None = None  # index of the first sample after silence and step

    def __call__(self, hop: int, sound: SoundTimeline) -> float:
        """The level of the hop that ends at sample `hop` * `window.hop`; they come in order."""
        end, size = hop * self._size, self._size
        lately = sound.read(end, len(self._bell))
        there = np.flatnonzero(lately[-size:])
        if len(there) == 0:
            self._begin = None
            return FLOOR_DB
        if self._begin is None or self._begin >= end:
            self._begin = end - size + int(there[0]) + self._step
        count = min(max(0, end - self._begin), len(self._bell))
        plain = level_db(lately[-size:])
        lately[: len(lately) - count] = 0
        if count == 0:
            return FLOOR_DB
        bell = self._bell if count == len(self._bell) else np.hanning(count + 2)[1:-1]
        offset = lately[-count:] @ bell / bell.sum()
        lately[-count:] -= np.float32(offset)
        # What lies under the bell may be a thump of before: nothing is louder for it.
        return min(plain, level_db(lately[-size:]))
