"""Who spoke when, for other programs: each turn as a line of RTTM or as a subtitle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from avsl.engines import Localization
from avsl.engines.errors import visible
from avsl.engines.speakers.answer import speaking
from avsl.realtime.drawing import label

GAP_MS, LEAST_MS = 500, 250
"""A pause that is shorter belongs to a turn, and what is shorter is none."""
LONGEST_MS = 1000
"""A moment lasts until the next one, but no longer than this: a stream may have gaps."""


class Turn(NamedTuple):
    """Somebody speaks. In whole milliseconds on the stream clock, as both formats have them."""

    person: int
    begin: int
    end: int


class Turns:
    """The turns of one stream, each given out when it is over. What is remembered is who speaks,
    and who did half a second ago."""

    def __init__(self) -> None:
        self._now = self._step = 0
        self._speaking: set[int] = set()
        self._going: dict[int, Turn] = {}

    def add(self, found: Localization) -> list[Turn]:
        """What is over at a moment. Over a step back in time nobody goes on speaking."""
        now = round(1000 * found.time)
        back = now < self._now
        if not back:
            self._step = min(now - self._now, LONGEST_MS)
        over = self._over(None if back else now)
        self._now, self._speaking = now, {track.person for track in speaking(found)}
        for person in self._speaking:
            self._going.setdefault(person, Turn(person, now, now))
        return over

    def end(self) -> list[Turn]:
        """What was going on at the last moment, which lasts as long as the one before it."""
        return self._over(None)

    def _over(self, now: int | None) -> list[Turn]:
        """Takes out what is over; None: all that is going on."""
        for person in self._speaking:
            self._going[person] = self._going[person]._replace(end=self._now + self._step)
        self._speaking = set()
        over = [t for t in self._going.values() if now is None or now - t.end >= GAP_MS]
        for turn in over:
            del self._going[turn.person]
        return [turn for turn in over if turn.end - turn.begin >= LEAST_MS]


Line = Callable[[str, int, Turn], str]
"""A turn as text, of the stream's name and the turn's number from 1 on."""


class Talk:
    """Turns as text, each as soon as it is over."""

    head = ""

    def __init__(self, line: Line, source: str) -> None:
        self._line, self._source = line, source
        self._turns, self._count = Turns(), 0

    def add(self, localization: Localization) -> str:
        return self._text(self._turns.add(localization))

    def end(self) -> str:
        return self._text(self._turns.end())

    def _text(self, turns: list[Turn]) -> str:
        first = self._count + 1
        self._count += len(turns)
        return "".join(self._line(self._source, n, turn) for n, turn in enumerate(turns, first))


def rttm(source: str, number: int, turn: Turn) -> str:
    """As NIST's RTTM-09 has it: SPEAKER, file, channel, begin, duration, two fields that there is
    nothing for, who, and two more of those."""
    file = visible(Path(source).stem).replace(" ", "_")
    who = label.person(turn.person).replace(" ", "")
    begin, long = turn.begin / 1000, (turn.end - turn.begin) / 1000
    return f"SPEAKER {file} 1 {begin:.3f} {long:.3f} <NA> <NA> {who} <NA> <NA>\n"


def srt(source: str, number: int, turn: Turn) -> str:
    """As a subtitle that says who it is."""
    begin, end = map(_clock, (turn.begin, turn.end))
    return f"{number}\n{begin} --> {end}\n{label.person(turn.person)}\n\n"


def _clock(ms: int) -> str:
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02},{ms:03}"


LINES: dict[str, Line] = {".rttm": rttm, ".srt": srt}
"""By a file's suffix."""
