"""Whether lips move as in speech, and whether they make the voice that is heard.

*Look* is of the last second and needs no sound: a mouth that speaks moves all the time. *Sync* is
of two to six seconds: what the face did and what was heard are correlated at the true time and, as
a null, at all other times, so that what any mouth and any voice have in common counts nothing. It
is measured twice: on pairs of what can be measured (a mouth opens as the band of its vowels gets
louder), and on what two small networks make of all of it. One logistic regression joins the three.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl.engines.speakers.sight import HERE, session
from avsl.engines.speakers.tracks import Row
from avsl.engines.speakers.voice import BINS_PER_S, SERIES

Array = NDArray[np.float32]

LONGEST_S, SHORTEST_S = 6.0, 1.5
"""How much is looked back on for sync, and how little there may be."""
LOOK_S = 1.0
NEAR = 8
"""Bins: shifts of less are no chance, for the sound is still much alike there."""
STEADY = 0.7
"""Of the upper face's change, so much is taken from the mouth's: the head's own motion."""
LAGS = range(-1, 4)
LEAST_Z, MOST_Z = 2.0, 8.0
"""Deviations beyond which nothing is surer."""
PAIRS = (
    ("extra", "flux"), ("log", "rise"), ("extra", "mid"), ("opening", "mid"),
    ("opens", "rise"), ("darkens", "rise"), ("opening", "level"), ("dark", "mid"),
)  # fmt: skip
"""What a mouth does, and of a sound what goes with it."""
OPEN, CORNERS = 0, (3, 5)
"""Among a shape's distances: the inner lips apart; how far apart the corners are, and inside."""


def moves(rows: Sequence[Row], first: int, last: int) -> Array:
    """What a face did in bins `first` to `last` (without it), `[n, 17]`: how much its mouth and its
    upper face changed, how dark the mouth was, and its shape."""
    at = (np.arange(first, last) + 0.5) / BINS_PER_S
    time = np.array([row.time for row in rows])
    seconds = np.array([row.seconds for row in rows])
    # A change counts as that in one bin, whatever the camera's rate, and lies between two pictures.
    rate = np.clip(1 / (BINS_PER_S * np.maximum(seconds, 0.01)), 0.2, 2)
    between = time - seconds / 2
    mouth, face = (
        np.interp(at, between, rate * np.array([getattr(row, name) for row in rows]))
        for name in ("mouth", "face")
    )
    dark = np.interp(at, time, [row.dark for row in rows])
    shape = [np.interp(at, time, column) for column in np.array([row.shape for row in rows]).T]
    return np.stack([mouth, face, dark, *shape], 1).astype(np.float32)


def series(moved: Array) -> Array:
    """What the network of lips takes of `moves`, `[n, 18]`."""
    mouth, face = moved[:, 0], moved[:, 1]
    logs = np.log(mouth + 0.01), np.log(face + 0.01)
    return np.column_stack([mouth - STEADY * face, *logs, moved[:, 2:]]).astype(np.float32)


def smoothed(x: Array) -> Array:
    """By (1, 2, 1) / 4 along time."""
    padded = np.concatenate([x[:1], x, x[-1:]])
    out: Array = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return out


def look(moved: Array) -> Array:
    """Seven numbers of the last second of `moves`, as logarithms."""
    last = moved[-round(LOOK_S * BINS_PER_S) :]
    mouth, face, dark, shape = last[:, 0], last[:, 1], last[:, 2], last[:, 3:]
    extra = mouth - STEADY * face
    change = np.abs(np.diff(shape, axis=0))
    half = len(change) // 2
    opening = change[:, OPEN]
    numbers = (
        max(float(np.sort(extra)[len(extra) // 4]), 0) + 0.005,
        max(float(extra.mean()), 0) + 0.005,
        min(float(opening[:half].mean()), float(opening[half:].mean())) + 0.003,
        float(shape[:, OPEN].std()) + 0.003,
        float(dark.std()) + 0.003,
        float(face.mean()) + 0.005,
        float(change[:, CORNERS].mean()) + 0.002,
    )
    return np.log(np.array(numbers, np.float32))


def pairs(moved: Array, heard: Array) -> float:
    """How far the true time stands out among all others, in deviations: the mean over eight pairs
    of what a mouth does and what goes with it in a voice, of `moves` `[n, 17]` and what was heard
    meanwhile, `[n, 6]`. Sound may come up to three pictures later than the lips."""
    mouth, dark, opening = moved[:, 0], moved[:, 2], moved[:, 3 + OPEN]
    extra = mouth - STEADY * moved[:, 1]
    lips = {
        "extra": extra,
        "log": np.log(mouth + 0.01),
        "opening": opening,
        "opens": np.abs(np.diff(opening, prepend=opening[:1])),
        "darkens": np.abs(np.diff(dark, prepend=dark[:1])),
        "dark": dark,
    }
    did = _standard(smoothed(np.stack([lips[name] for name, _ in PAIRS], 1)))
    said = _standard(smoothed(heard[:, [SERIES.index(name) for _, name in PAIRS]]))
    n = len(moved)
    agree = np.fft.irfft(np.conj(np.fft.rfft(did, axis=0)) * np.fft.rfft(said, axis=0), n, axis=0)
    agree = np.max([np.roll(agree, -lag, 0) for lag in LAGS], 0)
    return float(_stands_out(agree).mean())


def sync(moved: Array, heard: Array, networks: Path = HERE) -> float:
    """The same of what two networks make of all that the face did and all that was heard."""
    feed = {"moves": series(moved)[None], "heard": smoothed(heard)[None]}
    lips, voice = session(networks / "sync.onnx").run(None, feed)
    spectra = (np.conj(np.fft.rfft(lips[0])) * np.fft.rfft(voice[0])).sum(0)
    return float(_stands_out(np.fft.irfft(spectra, len(moved))))


def _stands_out(agree: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of agreements `[n, ...]` at each shift, how far that at none stands out, `[...]`."""
    chance = agree[NEAR : len(agree) - NEAR]
    z: NDArray[np.float64] = (agree[0] - chance.mean(0)) / (chance.std(0) + 1e-6)
    return np.clip(z, -LEAST_Z, MOST_Z)


def _standard(x: Array) -> Array:
    out: Array = (x - x.mean(0)) / (x.std(0) + 1e-6)
    return out


@cache
def _model(networks: Path) -> dict[str, Any]:
    said = json.loads((networks / "lips.json").read_text("utf-8"))
    return {key: np.array(value) for key, value in said.items()}


def seems_to_speak(looks: Array) -> float:
    """The probability that a mouth moves as in speech, by its `look` alone."""
    model = _model(HERE)
    return _logistic(float(model["look"] @ _scaled(looks, model) + model["look_bias"]))


def speaks(
    moved: Array, heard: Array, networks: Path = HERE, *, looks: Array | None = None
) -> float:
    """The probability that this face makes the voice that is heard, from `SHORTEST_S` on. `looks`
    is its `look`, where that is known."""
    looks = look(moved) if looks is None else looks
    model = _model(networks)
    long = float(np.log(len(moved) / BINS_PER_S / 3))
    two = np.array([pairs(moved, heard), sync(moved, heard, networks)])
    numbers = np.array([*two, *two * long, long])
    said = model["sync"] @ numbers + model["both"] @ _scaled(looks, model) + model["bias"]
    return _logistic(float(said))


def _scaled(numbers: Array, model: dict[str, Any]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = (numbers - model["mean"]) / model["deviation"]
    return scaled


def _logistic(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))
