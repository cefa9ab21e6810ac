"""Who speaks: the heads of one stream, and what the lips of each are found to do."""

from __future__ import annotations

import math

import av

from avsl.engines.localization import Track
from avsl.engines.pictures import luma
from avsl.engines.speakers import lips
from avsl.engines.speakers.answer import AGREES, DIFFERS
from avsl.engines.speakers.sight import Sight
from avsl.engines.speakers.tracks import Head, Tracks
from avsl.engines.speakers.voice import BINS_PER_S, Voice
from avsl.engines.windows import SoundTimeline, WindowSpec

FASTEST = 32.0
"""Pictures a second that are watched at most."""
DECIDE_S = 0.1
FIRST_S, STILL, RECENT_S = 0.6, 0.1, 2.0
"""From then on a mouth that seems to speak with less than this probability is known to be still;
once there is so much to hold against the sound, only if that says so, too. Of seconds in which
people speak they seem to with less in 3 of a thousand, of those in which they listen in 550."""
TURNED = 0.45
"""A nose so far off the middle is of a face turned away: its lips say nothing."""


class Speakers:
    """Follows the heads of one stream, and says who of them speaks.

    One thread may watch while another reads `tracks`.

    Raises:
        UserError: a network that comes along can't be loaded.
    """

    def __init__(self, window: WindowSpec, faces: Tracks | None = None) -> None:
        """`faces`: those of another, who watches each picture first: what sounds differs, not who
        is in view."""
        self._window = window
        self._follows = faces is None
        self.faces = faces or Tracks(Sight())
        self._voice = Voice()
        self._watched = self._decided = -math.inf
        self._said: dict[int, float | None] = {}
        self._spoke: dict[int, int] = {}
        self._turn: tuple[int, int] | None = None
        self.tracks: tuple[Track, ...] = ()
        """Those who are in view now."""

    def watch(self, time: float, picture: av.VideoFrame, sound: SoundTimeline) -> None:
        """Takes in the picture of `time` (seconds), at its own resolution, and the sound before
        it."""
        if 0 <= time - self._watched < 1 / FASTEST - 1e-3:
            return
        if not 0 <= time - self._watched < 1:
            self._decided, self._turn = -math.inf, None
            self._spoke = {}
        self._watched = time
        if self._follows:
            self.faces.watch(time, luma(picture))
        if time - self._decided >= DECIDE_S - 1e-3:
            self._decided = time
            self._voice.listen(sound, self._window.end(time))
            self._said = {head.number: self._decide(head) for head in self.faces.heads}
            self._take_turns()
        size = picture.width, picture.height
        self.tracks = tuple(
            Track(head.number, _box(head, *size), self._said.get(head.number))
            for head in self.faces.heads
            if not head.lost
        )

    def _decide(self, head: Head) -> float | None:
        """The probability that a head makes the voice that is heard; None where that can't be told
        yet, or not as it is turned."""
        rows = head.rows
        if len(rows) < 2 or rows[-1].face_logit < 0 or abs(rows[-1].turned) > TURNED:
            return None
        last = min(int(rows[-1].time * BINS_PER_S), self._voice.end)
        first = max(math.ceil(rows[0].time * BINS_PER_S), self._voice.start)
        first = max(first, last - round(lips.LONGEST_S * BINS_PER_S))
        if self._turn and self._turn[0] != head.number:
            first = max(first, self._turn[1])
        if last - first < round(FIRST_S * BINS_PER_S):
            return None
        moved = lips.moves(rows, first, last)
        looks = lips.look(moved)
        still = lips.seems_to_speak(looks)
        if len(moved) < round(lips.SHORTEST_S * BINS_PER_S):
            return still if still < STILL else None
        heard = self._voice.bins(first, last)
        said = lips.speaks(moved, heard, looks=looks)
        recent = round(RECENT_S * BINS_PER_S)
        if still < STILL and len(moved) > recent:
            said = min(said, lips.speaks(moved[-recent:], heard[-recent:], looks=looks))
        return said

    def _take_turns(self) -> None:
        """Where somebody made the voice a second ago or less, doesn't any more, and it goes on,
        what was heard before isn't held against the others."""
        now = self._voice.end
        speaks = {n for n, said in self._said.items() if said is not None and said >= AGREES}
        for number, said in self._said.items():
            if said is None or said >= DIFFERS or number not in self._spoke:
                continue
            lately = now - self._spoke.pop(number) <= BINS_PER_S
            if lately and not speaks and self._voice.heard(now):
                self._turn = number, now - BINS_PER_S
        self._spoke |= dict.fromkeys(speaks, now)
        self._spoke = {n: spoke for n, spoke in self._spoke.items() if n in self._said}


def _box(head: Head, width: int, height: int) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = head.edges
    return (
        max(0.0, x0 / width), max(0.0, y0 / height), min(1.0, x1 / width), min(1.0, y1 / height)
    )  # fmt: skip
