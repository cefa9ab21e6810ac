"""What the sound network learns from: recordings, mixed anew for every step.

Of each mix is known which kinds are in it, and YAMNet says what it hears: one recording alone, two
or three at once, something that is never in view, a bed of noise, a room, a cheap microphone, at
all levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avsl.demos.scenes.cutouts import STRANGERS
from avsl.demos.scenes.recordings import SOUNDS, sound, without_gaps
from avsl.engines import UserError
from avsl.train.data.workers import in_parallel
from avsl.train.teach.kinds import Kind
from avsl.train.teach.teachers import RATE

Samples = NDArray[np.float32]
LONGEST = 8 * RATE
"""Samples kept of a recording."""
BED_DB = -45.0, 3.0
"""How loud noise is beside what sounds: a clock's ticks, in a small room, drown in it."""
CLEAN = np.float32(10 ** (-45 / 20))
"""Noise where there is next to none."""
BEGINS = 0.25
"""How often a sound has only just begun."""


@dataclass(frozen=True)
class Recording:
    """A recording; `kind` is -1 for what is never in view."""

    kind: int
    name: str
    samples: NDArray[np.int16]


def read_recordings(prepared: Path, kinds: tuple[Kind, ...], split: str) -> list[Recording]:
    """The recordings of one split of what `avsl-train prepare` made.

    Raises:
        UserError: there are none, or a folder is of no kind.
    """
    number = {kind.key: at for at, kind in enumerate(kinds)} | {STRANGERS: -1}
    wanted: list[tuple[int, Path]] = []
    for path in sorted((prepared / split).glob("*/*")):
        if path.suffix.lower() in SOUNDS:
            key = path.parent.name
            if key not in number:
                raise UserError(f"{path.parent}: {key} is no kind; name the folder after one")
            wanted.append((number[key], path))
    if not wanted:
        raise UserError(
            f"{prepared}: no sounds in {split}/; avsl-train prepare makes such a folder"
        )
    read = zip(wanted, in_parallel(_read, [path for _, path in wanted]), strict=True)
    return [Recording(kind, path.stem, x) for (kind, path), x in read if len(x)]


def _read(path: Path) -> NDArray[np.int16]:
    try:
        samples = without_gaps(sound(path))[:LONGEST]
    except ValueError:  # silent or damaged; there are others
        return np.zeros(0, np.int16)
    return np.rint(samples * 32767).astype(np.int16)


class Mixer:
    """Makes windows of sound out of recordings."""

    def __init__(self, recordings: list[Recording], count: int) -> None:
        """`count` is how many kinds there are."""
        self.count = count
        self.kinds = sorted({r.kind for r in recordings if r.kind >= 0})
        self._of = {k: [r.samples for r in recordings if r.kind == k] for k in (*self.kinds, -1)}
        # A kind of which there are many recordings is drawn more often, but not as often as that.
        sizes = np.array([len(self._of[k]) for k in self.kinds]) ** 0.7
        self._odds = sizes / sizes.sum()

    def mix(self, rng: np.random.Generator) -> tuple[Samples, Samples, NDArray[np.float32]]:
        """A window `[RATE]` in [-1, 1], the same with next to no noise, and which kinds are in it,
        `[count]` of 0 or 1."""
        voices = int(rng.choice(4, p=[0.12, 0.48, 0.28, 0.12]))
        drawn = [int(k) for k in rng.choice(self.kinds, voices, p=self._odds)]
        if rng.random() < 0.2 and self._of[-1]:
            drawn.append(-1)
        out, truth = np.zeros(RATE, np.float32), np.zeros(self.count, np.float32)
        parts = [self.voice(rng, kind) for kind in drawn]
        gains = 10 ** (rng.uniform(-12, 0, len(parts)) / 20)
        power = [float(np.square(g * p).mean()) for g, p in zip(gains, parts, strict=True)]
        for kind, part, gain, p in zip(drawn, parts, gains, power, strict=True):
            out += part * np.float32(gain)
            if kind >= 0 and p > 0.03 * sum(power):
                truth[kind] = 1
        bed = 10 ** (rng.uniform(*BED_DB) / 20)
        noise = hiss(rng)
        both = coloured(rng, np.stack([out + noise * np.float32(bed), out + noise * CLEAN]))
        rms = float(np.sqrt(np.square(both[0]).mean())) + 1e-9
        # As loud as it comes, clipped where it is loud.
        level = float(10 ** (rng.uniform(-38, -8) / 20))
        noisy, clean = np.clip(both * np.float32(level / rms), -1, 1)
        return noisy, clean, truth

    def voice(self, rng: np.random.Generator, kind: int) -> Samples:
        """A window of one kind, of RMS 1 where it sounds: a recording, at some speed, or short
        ones one after the other."""
        mine = self._of[kind]
        first = mine[int(rng.integers(len(mine)))]
        speed = float(np.exp(rng.normal(0, 0.1)).clip(0.7, 1.4))
        need = int(RATE * speed) + 2
        if len(first) < RATE // 2 and rng.random() < 0.6:
            line = np.zeros(need, np.float32)
            at = int(rng.integers(0, RATE // 3))
            while at < need:
                part = first if rng.random() < 0.5 else mine[int(rng.integers(len(mine)))]
                part = part[: min(need - at, RATE)]
                line[at : at + len(part)] += part * np.float32(rng.uniform(0.4, 1))
                at += int(rng.uniform(0.1, 0.5) * RATE)
        else:
            start = int(rng.integers(-RATE // 4, max(1, len(first) - need // 2)))
            line = np.zeros(need, np.float32)
            part = first[max(0, start) : start + need]
            line[max(0, -start) : max(0, -start) + len(part)] = part
        places = speed * np.arange(RATE)
        low = places.astype(np.int32)
        between = (places - low).astype(np.float32)
        out: Samples = (1 - between) * line[low] + between * line[low + 1]
        if rng.random() < BEGINS:
            out[: int(rng.uniform(0.2, 0.8) * RATE)] = 0
        loud = np.square(out).reshape(20, -1).mean(1).max()
        return out / np.float32(np.sqrt(loud) + 1e-3)


def hiss(rng: np.random.Generator) -> Samples:
    """Noise of RMS 1 with some tilt, between brown and white."""
    spectrum = np.fft.rfft(rng.standard_normal(RATE).astype(np.float32))
    f = np.maximum(np.arange(len(spectrum)), 40.0) / 40
    noise = np.fft.irfft(spectrum * f ** -rng.uniform(0, 1.2)).astype(np.float32)
    return noise / np.float32(np.sqrt(np.square(noise).mean()) + 1e-9)


def coloured(rng: np.random.Generator, samples: Samples) -> Samples:
    """Sounds `[..., S]` in a room, through a microphone: a tilt, two edges, an echo."""
    if rng.random() < 0.3:
        return samples
    n = 2 * samples.shape[-1]
    f = np.linspace(1e-3, RATE / 2, n // 2 + 1, dtype=np.float32)
    tilt = (f / 1000) ** np.float32(rng.normal(0, 2.0) / 6.02)
    tilt *= 1 / np.sqrt(1 + (rng.uniform(20, 250) / f) ** 4)
    tilt *= 1 / np.sqrt(1 + (f / rng.uniform(2500, 9000)) ** 4)
    if rng.random() < 0.6:
        decay = rng.uniform(0.1, 0.8)
        tail = rng.standard_normal(round(decay * RATE)).astype(np.float32)
        tail *= np.exp(-6.9 * np.arange(len(tail)) / len(tail)).astype(np.float32)
        tail *= np.float32(rng.uniform(0.05, 0.7)) / np.sqrt(np.square(tail).sum())
        tail[0] = 1
        return _filtered(samples, tilt * np.fft.rfft(tail, n))
    return _filtered(samples, tilt)


def _filtered(
    samples: Samples, response: NDArray[np.floating] | NDArray[np.complexfloating]
) -> Samples:
    size = samples.shape[-1]
    return np.fft.irfft(np.fft.rfft(samples, 2 * size) * response)[..., :size].astype(np.float32)
