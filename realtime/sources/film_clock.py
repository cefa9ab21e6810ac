"""The time of a film: one line for its pictures and its sound, whatever the packets say.

A file's own times may begin below zero (a broadcast's clock wraps, an editor cut into a film), and
may begin anew in the middle (two recordings put end to end). Everybody who reads packets of one
file here, the pictures' decoder, the sound's, and who copies sound, gets them from `packets`: each
opens the file for itself, and all see the same times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from avsl.realtime.sources.ffmpeg import begins_anew, is_cover

BACK_S = 0.1
"""A track whose decoding times go back by more begins anew: rounding and damage are less."""
AHEAD_S = 60.0
"""A broadcast's track that leaps so far past all that came before begins anew as well."""
PRIMING_S = 0.1
"""Sound before zero by no more is what a decoder needs to start; nobody hears it."""
MOST_LEAD = Fraction(1, 2)
"""How much later than the film's first track another may begin, for this to be believed of what
begins anew as well."""
LIMIT = 1 << 62


def packets(container: Any, *streams: Any) -> Iterator[Any]:
    """The packets of `streams` in the file's order, `pts` and `dts` moved onto the film's time
    (still in units of their own `time_base`), and at the end an empty one for each stream, which
    flushes its decoder.

    All pictures, and all sound but for `PRIMING_S`, come at or after zero, and go on where times
    begin anew. A film that needs none of this keeps its times to the tick. To be called once for a
    container; raises what PyAV raises where the file can't be read any further.
    """
    clock = FilmClock(container)
    wanted = {stream.index for stream in streams}
    # Those that nobody wants are read by FFmpeg anyway, and tell where the others begin anew.
    tracks = [s for s in (*container.streams.video, *container.streams.audio) if not is_cover(s)]
    for packet in container.demux(*tracks) if wanted else ():
        clock.place(packet)
        # An empty packet knows its stream, but not by number.
        if packet.stream.index in wanted and not _before_the_film(packet):
            yield packet


def _before_the_film(packet: Any) -> bool:
    """Whether it is sound that was cut away by an edit list, and that no decoder needs either."""
    if not packet.is_discard or packet.stream.type != "audio" or packet.pts is None:
        return False
    return bool((packet.pts + (packet.duration or 0)) * packet.time_base < -PRIMING_S)


@dataclass
class _Track:
    base: Fraction
    """One tick of its times, seconds."""
    shift: Fraction
    """From its own times to the film's, seconds; `ticks` is the same in its own."""
    last: float = -float("inf")
    """Its own newest decoding time."""
    end: float = -float("inf")
    """Where it ends so far, in the film."""

    def __post_init__(self) -> None:
        self.seconds = float(self.base)
        self.moves(self.shift)

    def moves(self, shift: Fraction) -> None:
        """From here on, by so much."""
        self.shift, self.ticks = shift, round(shift / self.base)


class FilmClock:
    """Where each packet lies in the film. It has to see every packet of the pictures and of the
    sound, in the file's order: tracks begin anew at different packets, but by the same shift, or
    sound and picture would drift apart by some milliseconds each time."""

    def __init__(self, container: Any) -> None:
        self._leaps = begins_anew(container)
        self._tracks: dict[int, _Track] = {}
        tracks = [s for s in container.streams.video if not is_cover(s)]
        pictures, sound = _start(tracks), _start(container.streams.audio)
        first = min(pictures, sound)
        tracks += container.streams.audio
        # What begins anew begins most likely as the first did.
        self._lead = {
            s.index: min(max(_start([s]) - first, Fraction(0)), MOST_LEAD) for s in tracks
        }
        self._shift = max(Fraction(0), -pictures)
        if sound + self._shift < -PRIMING_S:
            self._shift = -sound

    def place(self, packet: Any) -> None:
        """Moves the times of one packet."""
        if packet.dts is None and packet.pts is None:
            return
        track = self._tracks.get(packet.stream.index)
        if track is None:
            track = _Track(Fraction(packet.time_base), self._shift)
            self._tracks[packet.stream.index] = track
        # Only times of decoding rise; without them a picture's own must do where all is well.
        if packet.dts is not None:
            time = packet.dts * track.seconds
            ahead = self._leaps and (track.ticks + packet.dts) * track.seconds > self._end + AHEAD_S
            if time < track.last - BACK_S or (ahead and track.last > -float("inf")):
                self._begin_anew(track, packet, time)
            track.last = time
            shown = packet.dts if packet.pts is None else packet.pts
            end = (shown + (packet.duration or 0) + track.ticks) * track.seconds
            track.end = max(track.end, end) if abs(track.end - end) < AHEAD_S else end
        if track.ticks:
            packet.dts, packet.pts = (
                None if t is None or abs(t + track.ticks) > LIMIT else t + track.ticks
                for t in (packet.dts, packet.pts)
            )

    @property
    def _end(self) -> float:
        return max(track.end for track in self._tracks.values())

    def _begin_anew(self, track: _Track, packet: Any, time: float) -> None:
        """`track` goes on with `packet`, at `time` of its own: beside the others if they are there
        already (they began anew before it, or it was off for a moment), else where all that came
        before ends."""
        others = [other.end for other in self._tracks.values() if other is not track]
        here = time + float(self._shift)
        off = abs(time + float(track.shift) - track.end)
        if not any(abs(here - end) < off / 2 for end in others):
            shown = (packet.dts if packet.pts is None else packet.pts) * packet.time_base
            lead = self._lead.get(packet.stream.index, Fraction(0))
            # To the tick of a broadcast, which others can be rounded to.
            self._shift = Fraction(round((self._end + float(lead - shown)) * 90_000), 90_000)
        track.moves(self._shift)


def _start(streams: Any) -> Fraction:
    """When the first of `streams` begins, by what FFmpeg says; zero where it can't say."""
    known = [s.start_time * s.time_base for s in streams if s.start_time is not None]
    return min(map(Fraction, known), default=Fraction(0))
