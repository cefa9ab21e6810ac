"""What the lips of those in view say of a map."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from avsl.engines.bundle import Thresholds
from avsl.engines.localization import (
    Evidence,
    Localization,
    Map,
    Named,
    Peak,
    Track,
    describe,
)

Array = NDArray[np.float64]
VOICE = "voice"
"""The kind of an engine that lips can make."""
AGREES, DIFFERS = 0.6, 0.5
"""From here on a face makes the voice, and under it doesn't; between them it isn't known."""
HEARD = 0.3
"""From this probability on there is a voice that somebody may make."""
UNSURE = 0.99
"""Under 1, so that what isn't known is never said to be `sounding`."""
FAR = 1.5
"""Whoever has so much lower log odds than the surest, who agrees, doesn't make the voice."""
ROOM = 0.5
"""Cells within so many of a head's widths around it are taken for it."""
OVAL = 1.2
"""A head fills its box as an ellipse of this area over the one that touches its sides."""


def told(
    time: float,
    map_: Map,
    level: float,
    silent: bool,
    thresholds: Thresholds,
    evidence: Callable[[Peak], Evidence],
    named: Named | None,
    tracks: tuple[Track, ...],
) -> Localization:
    """`describe`, of a map on which it is known who speaks."""
    if not tracks:
        return describe(time, map_, level, silent, thresholds, evidence, named)
    lit: NDArray[np.bool_] = np.zeros(map_.shape, np.bool_)
    if named is not None and VOICE in named.words:
        map_, named, lit = _spoken(map_, named, tracks, thresholds)

    def by(peak: Peak) -> Evidence:
        m, n = map_.shape
        return "lips" if lit[int(peak[1] * m), int(peak[0] * n)] else evidence(peak)

    found = describe(time, map_, level, silent, thresholds, by, named)
    return replace(found, tracks=tracks)


def speaking(found: Localization) -> tuple[Track, ...]:
    """Who of those in view speaks at a moment: whose lips agree with the voice that is heard."""
    # `heard` holds three kinds at most, but where lips made something glow there is a voice.
    heard = "lips" in found.evidence or dict(found.heard).get(VOICE, 0.0) >= HEARD
    if found.state == "silent" or not heard:
        return ()
    said = zip(found.tracks, _compared(found.tracks), strict=True)
    return tuple(track for track, p in said if p is not None and p >= AGREES)


def _spoken(
    map_: Map, named: Named, tracks: tuple[Track, ...], thresholds: Thresholds
) -> tuple[Map, Named, NDArray[np.bool_]]:
    """A map `[m, n]` of an engine with kinds, with what lips say of voices: who makes the voice
    glows, who doesn't is dark, and of whom it isn't known is `unsure` at most. Other kinds stay as
    they are. And which cells those light who make it."""
    voice = named.words.index(VOICE)
    heard = float(named.heard[voice])
    out, kinds = map_.copy(), named.kinds.copy()
    lit: NDArray[np.bool_] = np.zeros(map_.shape, np.bool_)
    whose = _whose(tracks, *map_.shape)
    glow, sounding = thresholds.glow, thresholds.sounding
    # Of the room from the glow to certainty, what is unsure has as much as is under `sounding`: so
    # that of two the likelier one stays so.
    less = np.float32(UNSURE * (sounding - glow) / max(1 - glow, 1e-6))
    for place, (track, said) in enumerate(zip(tracks, _compared(tracks), strict=True)):
        near = (whose == place) & (kinds == voice)
        if said is None or DIFFERS <= said < AGREES:
            out[near] -= np.maximum(out[near] - np.float32(glow), 0) * (1 - less)
        elif said < DIFFERS:
            out[near] = np.minimum(out[near], np.float32(glow * said))
        elif heard >= HEARD:
            face = _face(track, *map_.shape)
            head = face > 0
            out[head] = np.maximum(out[head], glow + (said - glow) * face[head])
            kinds[head] = voice
            lit |= head
    return out, named._replace(kinds=kinds), lit


def _compared(tracks: tuple[Track, ...]) -> list[float | None]:
    """What is found of each, beside the surest."""
    surest = max((track.speaking or 0.0 for track in tracks), default=0.0)
    out = []
    for _, _, said in tracks:
        if said is not None and surest >= AGREES and _odds(surest) - _odds(said) > FAR:
            said = min(said, float(np.nextafter(DIFFERS, 0)))
        out.append(said)
    return out


def _odds(p: float) -> float:
    p = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))


def _face(track: Track, m: int, n: int) -> Map:
    """The cells of a head, `[m, n]`: 1 in the middle, less towards its edge, 0 outside. They are
    those whose middle lies in it, or else the one that its own lies in."""
    x0, y0, x1, y1 = track.box
    y, x = _middles(m, n)
    across, down = (2 * x - x0 - x1) / (x1 - x0 + 1e-6), (2 * y - y0 - y1) / (y1 - y0 + 1e-6)
    off = (across**2 + down**2) / OVAL
    face = np.where(off <= 1, 1 - off / 2, 0).astype(np.float32)
    if not face.any():
        face[min(int((y0 + y1) / 2 * m), m - 1), min(int((x0 + x1) / 2 * n), n - 1)] = 1
    out: Map = face / face.max()
    return out


def _middles(m: int, n: int) -> tuple[Array, Array]:
    """Of the cells of a map, down `[m, 1]` and across `[n]`, in 0..1."""
    return (np.arange(m)[:, None] + 0.5) / m, (np.arange(n) + 0.5) / n


def _whose(tracks: tuple[Track, ...], m: int, n: int) -> NDArray[np.int64]:
    """Which of the heads each cell belongs to, -1 to none."""
    away = np.full((len(tracks), m, n), np.inf)
    y, x = _middles(m, n)
    for place, track in enumerate(tracks):
        x0, y0, x1, y1 = track.box
        wide, tall = max(x1 - x0, 1 / n), max(y1 - y0, 1 / m)
        off = np.maximum(np.abs(x - (x0 + x1) / 2) / wide, np.abs(y - (y0 + y1) / 2) / tall)
        away[place] = np.where(off <= 0.5 + ROOM, off, np.inf)
    nearest = away.argmin(0)
    return np.where(np.isfinite(away.min(0)), nearest, -1)
