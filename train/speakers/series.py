"""What the face of each clip does and what is heard meanwhile, 25 times a second, as the engine
itself has it: followed with the two networks of faces that were just made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl.engines.pictures import luma
from avsl.engines.speakers import lips
from avsl.engines.speakers.tracks import Row, Sight, Tracks
from avsl.engines.speakers.voice import BINS_PER_S, HOP, RATE, REACH, SERIES, WINDOW, voice_bins
from avsl.engines.windows import SoundTimeline
from avsl.train.bars import Progress
from avsl.train.speakers.arrays import load_arrays, save_arrays
from avsl.train.speakers.films import frames, sound_of
from avsl.train.speakers.sounds import mix, noises
from avsl.train.speakers.table import Clip

Array = NDArray[np.float32]
LONGEST_S = 21.0
"""How much of a clip is looked at."""
SHORTEST = BINS_PER_S
"""Bins that a face must be followed for."""
MIXED = 4
"""How often each voice to learn from is mixed with another sound."""
UNDER_VOICE_DB, UNDER_NOISE_DB = (5.0, 15.0), (3.0, 15.0)
"""By how much another voice, or a noise, is softer."""


@dataclass(frozen=True)
class Series:
    """Of one clip, in bins of 40 ms."""

    clip: Clip
    moves: Array
    """`[n, 17]`, see `lips.moves`."""
    turned: Array
    logits: Array
    """`[n]`: how far the face is turned away, and the logit that it is one."""
    heard: Array
    """`[n, 6]`: `SERIES` of its sound; of who is silent none, `[0, 6]`."""
    level: Array
    """`[n]`, dB."""
    mixed: list[Array] = field(default_factory=list)
    """`heard` with another sound, of those to learn from."""


def watch(
    clips: Sequence[Clip], sight: Sight, sounds: Path | None, progress: Progress
) -> list[Series]:
    """The series of all clips in which a face is followed for a second."""
    found: list[Series] = []
    voices: list[tuple[Series, Array, int]] = []
    for done, clip in enumerate(clips, 1):
        rows = follow(clip.path, sight)
        samples = sound_of(clip.path) if clip.speaks else np.zeros(0, np.float32)
        if one := series_of(clip, rows, samples):
            found.append(one)
            if clip.speaks and clip.split == "train":
                voices.append((one, samples, _first(rows)))
        progress("faces are followed", done, len(clips))
    rng = np.random.default_rng(5)
    behind = noises(sounds) if sounds else []
    for one, samples, first in voices:
        for k in range(MIXED):
            if k % 2 and behind:
                other, under = behind[int(rng.integers(len(behind)))], UNDER_NOISE_DB
            else:
                other, under = voices[int(rng.integers(len(voices)))][1], UNDER_VOICE_DB
            both = mix(rng, samples, other, rng.uniform(*under))
            one.mixed.append(heard(both, first, len(one.moves)))
    return found


def follow(path: Path, sight: Sight) -> list[Row]:
    """What the head of a film does that is followed longest and is largest; empty: there is none.

    Raises:
        UserError: the film is damaged.
    """
    tracks = Tracks(sight)
    rows: dict[int, list[Row]] = {}
    widths: dict[int, list[float]] = {}
    for frame in frames(path):
        if frame.time is None or frame.time > LONGEST_S:
            break
        tracks.watch(frame.time, luma(frame))
        for head in tracks.heads:
            if head.rows and head.rows[-1].time == frame.time:
                rows.setdefault(head.number, []).append(head.rows[-1])
                x0, _, x1, _ = head.edges
                widths.setdefault(head.number, []).append(x1 - x0)

    def size(number: int) -> float:
        return len(rows[number]) * math.sqrt(np.mean(widths[number]))

    return rows[max(rows, key=size)] if rows else []


def series_of(clip: Clip, rows: Sequence[Row], samples: Array) -> Series | None:
    """Both sides of a clip, of as long as there are both; None: that is too short."""
    if len(rows) < 2:
        return None
    first, last = _first(rows), int(rows[-1].time * BINS_PER_S)
    if clip.speaks:
        last = min(last, len(samples) // HOP - 1)
    if last - first < SHORTEST:
        return None
    at, time = (np.arange(first, last) + 0.5) / BINS_PER_S, [row.time for row in rows]
    turned, logits = (
        np.interp(at, time, [getattr(row, name) for row in rows]).astype(np.float32)
        for name in ("turned", "face_logit")
    )
    moves = lips.moves(rows, first, last)
    if not clip.speaks:
        nothing = np.zeros((0, len(SERIES)), np.float32)
        return Series(clip, moves, turned, logits, nothing, nothing[:, 0])
    said = heard(samples, first, last - first)
    return Series(clip, moves, turned, logits, said, level(samples, first, last - first))


def heard(samples: Array, first: int, count: int) -> Array:
    """`SERIES` of bins of a sound, `[count, 6]`."""
    timeline = SoundTimeline(RATE, len(samples) / RATE + 1)
    timeline.write(0, samples)
    return voice_bins(timeline, first, first + count)


def level(samples: Array, first: int, count: int) -> Array:
    """How loud each bin is, dB, `[count]`."""
    padded = np.pad(samples, (REACH, WINDOW))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    power = np.square(windows[first : first + count]).mean(1)
    return (10 * np.log10(power + 1e-12)).astype(np.float32)


def save_series(path: Path, series: Sequence[Series]) -> None:
    """
    Raises:
        UserError: they can't be written.
    """
    arrays: dict[str, NDArray[Any]] = {"files": np.array([str(s.clip.path) for s in series], str)}
    for i, one in enumerate(series):
        for name in PARTS:
            arrays[f"{i} {name}"] = getattr(one, name)
        arrays[f"{i} mixed"] = np.array(one.mixed).reshape(-1, len(one.moves), len(SERIES))
    save_arrays(path, arrays)


def load_series(path: Path, clips: Sequence[Clip]) -> list[Series]:
    """The series of clips that were saved.

    Raises:
        UserError: they can't be read.
    """
    a = load_arrays(path)
    known = {str(clip.path): clip for clip in clips}
    found = []
    for i, file in enumerate(a["files"]):
        moves, turned, logits, heard, level = (a[f"{i} {name}"] for name in PARTS)
        mixed = [*a[f"{i} mixed"]]
        found.append(Series(known[file], moves, turned, logits, heard, level, mixed))
    return found


PARTS = ("moves", "turned", "logits", "heard", "level")


def _first(rows: Sequence[Row]) -> int:
    return math.ceil(rows[0].time * BINS_PER_S)
