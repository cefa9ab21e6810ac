"""What voices are mixed with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avsl.demos.scenes.recordings import SOUNDS, sound
from avsl.engines.speakers.voice import RATE

Array = NDArray[np.float32]
NOISES = 40
"""How many recordings there are."""
VOICES = ("voice", "speech", "person")
"""Recordings with such a word in their path are voices: no noise."""
SOFTEST = 1e-3


def mix(rng: np.random.Generator, samples: Array, other: Array, under: float) -> Array:
    """A sound with a part of another, which is softer by so many dB."""
    part = np.resize(np.roll(other, -int(rng.integers(len(other)))), len(samples))
    power = np.square(samples).mean() / (np.square(part).mean() + 1e-9)
    out: Array = (samples + part * np.sqrt(power) * 10 ** (-under / 20)).astype(np.float32)
    return out


def noises(folder: Path) -> list[Array]:
    """Recordings without voices, in another order than that of their names."""
    found: list[Array] = []
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SOUNDS)
    for i in np.random.default_rng(1).permutation(len(paths)):
        if len(found) == NOISES or any(word in str(paths[i]) for word in VOICES):
            continue
        try:
            samples = sound(paths[i])
        except ValueError:
            continue
        if len(samples) > RATE and np.sqrt(np.square(samples).mean()) > SOFTEST:
            found.append(samples)
    return found
