"""What is shown, steady to look at: a glow that lingers instead of flickering, names that stay.

All of it is a function of the stream's time, not of how many pictures come. What is found, and what
is told of it as events, stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl.engines import Localization, Thresholds
from avsl.engines.localization import Map
from avsl.realtime.drawing import label

_LOW = 0.6
"""What glows goes on glowing down to this share of the threshold."""
_LEAST = 1.1
"""What lingers is drawn as if its peak were this much of the threshold: what glows can be seen."""
_HOLD_S = 0.8
"""So long something glows on by itself, getting fainter, while nothing else does."""
_OVERTAKEN_S = 0.25
"""So long, where something else glows."""
_UNSURE_BELOW = 0.1
"""What is `sounding` stays so until it is this far under the threshold of that."""
_READ_S = 0.25
"""Words and numbers that change faster can't be read."""
_NAME_S = 0.5
"""Another name must be right for so long before it takes the place of the one that is there."""
_GLIDE_S = 0.3
"""In this time a name has gone two thirds of its way to where its thing is now."""
_GAP_S = 2.0
"""Over a gap like this, or a step back in time, nothing is carried on."""

Cells = tuple[int, int, int, int]
"""A rectangle of the map: top, bottom, left, right."""
Edges = tuple[float, float, float, float]
"""The same in 0..1: left, top, right, bottom."""


@dataclass(frozen=True)
class Name:
    """What a thing that glows is called."""

    text: str
    box: Edges
    born: float
    right: float
    """When it was last the right one."""


@dataclass(frozen=True)
class Shown:
    """What is to be drawn of a moment."""

    localization: Localization
    """What was found; or, while something lingers, the same with its map and state. Score and heard
    are of a moment ago, that they can be read."""
    parts: Sequence[Cells]
    """Where it glows, with the rim around."""
    names: Sequence[Name]


@dataclass(frozen=True)
class _Lit:
    """A part that glows, as it was when it last did by itself."""

    cells: Cells
    patch: Map
    time: float


@dataclass(frozen=True)
class _Past:
    """All that is remembered of the moment before."""

    time: float
    lit: tuple[_Lit, ...] = ()
    names: tuple[Name, ...] = ()
    said: Localization | None = None
    """Whose words are shown, and in which state."""


class Steady:
    """Follows one stream. A moment may be asked for again: that changes nothing."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._sounding = thresholds.sounding
        self._before = self._now = _Past(-math.inf)

    def __call__(self, found: Localization, threshold: float, begin: float) -> Shown:
        """What to show of `found`: what reaches `threshold` glows, and the rim around it goes down
        to `begin`."""
        time, map_ = found.time, found.map
        if time != self._now.time:
            fresh = 0 < time - self._now.time < _GAP_S
            self._before = self._now if fresh else _Past(time - _GAP_S)
        before = self._before
        if found.state == "silent":
            self._now = _Past(time)
            return Shown(found, (), ())
        parts = [one for one in _parts(map_ > begin) if _cut(map_, one).max() >= threshold]
        lit = [_Lit(one, _cut(map_, one), time) for one in parts]
        if kept := list(_lingering(before.lit, map_, time, parts, threshold)):
            map_ = map_.copy()
            for one, patch in kept:
                np.maximum(_cut(map_, one.cells), patch, out=_cut(map_, one.cells))
            lit += [one for one, _ in kept]
            parts = [
                part for part in _parts(map_ > begin) if any(_meet(part, one.cells) for one in lit)
            ]
        state, score = found.state, found.score
        if parts:
            score = max(float(_cut(map_, one).max()) for one in parts)
            was = before.said is not None and before.said.state == "sounding"
            least = self._sounding - (_UNSURE_BELOW if was else 0)
            state = "sounding" if score >= least else "unsure"
        called = label.names(found)
        names = _named(found, called, before, parts) if called or before.names else ()
        said = before.said
        if said is None or said.state != state or not time - said.time < _READ_S:
            said = replace(found, state=state, score=score)
        self._now = _Past(time, tuple(lit), names, said)
        if kept or (state, said.score, said.heard) != (found.state, found.score, found.heard):
            found = replace(found, map=map_, state=state, score=said.score, heard=said.heard)
        return Shown(found, parts, names)


def _lingering(
    before: Sequence[_Lit], map_: Map, time: float, live: Sequence[Cells], threshold: float
) -> Iterator[tuple[_Lit, Map]]:
    """Of what glowed, what goes on though it isn't among the `live`, and how it looks."""
    least = min(1.0, _LEAST * threshold)
    for one in before:
        if any(_meet(one.cells, part) for part in live):
            continue
        here = _cut(map_, one.cells)
        best = float(here.max())
        if best >= _LOW * threshold:
            patch = here * np.float32(least / best)
            yield _Lit(one.cells, patch, time), patch
        elif (age := (time - one.time) / (_OVERTAKEN_S if live else _HOLD_S)) < 1:
            share = min(1.0, least / float(one.patch.max()))
            yield one, one.patch * np.float32(1 - age * (1 - share))


def _named(
    found: Localization, called: Sequence[str], before: _Past, parts: Sequence[Cells]
) -> tuple[Name, ...]:
    """The names of what glows; `called` has one for each peak. One stays as long as its place does,
    unless another has been right for a while."""
    time, left = found.time, list(before.names)
    share = 1 - math.exp((before.time - time) / _GLIDE_S)
    names, new = [], []

    def take(name: Name, box: Edges, right: float) -> None:
        left.remove(name)
        x0, y0, x1, y1 = (a + (b - a) * share for a, b in zip(name.box, box, strict=True))
        names.append(replace(name, box=(x0, y0, x1, y1), right=right))

    places = [box[:4] for box in found.boxes]
    for box, text in zip(places, called, strict=False):
        same = [name for name in left if name.text == text and _overlap(name.box, box)]
        if same:
            take(same[0], box, time)
        elif text:
            new.append(Name(text, box, time, time))
    for name in new:
        rival = next((other for other in left if _overlap(other.box, name.box)), None)
        if rival and time - rival.right < _NAME_S:
            take(rival, name.box, rival.right)
        else:
            left = [other for other in left if other is not rival]
            names.append(name)
    names += [
        replace(name, right=time)
        for name in left
        if not any(_overlap(name.box, box) for box in places)
    ]
    m, n = found.map.shape
    alive: list[Name] = []
    for top, bottom, left_, right in parts:
        place = (left_ / n, top / m, right / n, bottom / m)
        inside: dict[str, Name] = {}
        for name in names:  # one of a kind in each
            if _overlap(name.box, place):
                inside.setdefault(name.text, name)
        alive += [name for name in inside.values() if name not in alive]
    return tuple(sorted(alive, key=lambda name: name.born))


def _cut(map_: Map, cells: Cells) -> Map:
    top, bottom, left, right = cells
    return map_[top:bottom, left:right]


def _meet(one: Cells, other: Cells) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def _overlap(one: Edges, other: Edges) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _parts(mask: NDArray[np.bool_]) -> Iterator[Cells]:
    """Rectangles that hold all of `mask`, apart where empty rows or columns lie between: two things
    that glow leave the picture between them alone."""
    for top, bottom in _runs(np.any(mask, axis=1)):
        for left, right in _runs(np.any(mask[top:bottom], axis=0)):
            yield top, bottom, left, right


def _runs(line: Any) -> Iterator[tuple[int, int]]:
    """Start and end of each run of True, with two cells or more between them."""
    first = last = -math.inf
    for cell in np.flatnonzero(line).tolist():
        # Feet of neighbours overlap by half a cell; runs that near are one, or it would be drawn
        # twice.
        if cell - last > 2:
            if last >= 0:
                yield int(first), int(last) + 1
            first = cell
        last = cell
    if last >= 0:
        yield int(first), int(last) + 1
