"""What drawn things sound like: a kind and a pitch for each family, with variation.

A voice is a function of time, so any part of a scene's sound can be made by itself, and noise is a
sum of sines of random frequency rather than a stream of draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
"""Samples a second of every sound, unless another is asked for."""
Samples = NDArray[np.float32]
Wave = NDArray[Any]
Voice = Callable[[Wave], Wave]
"""Sound pressure at each time in seconds, about 1 at its loudest."""


def harmonic(rng: np.random.Generator, pitch: float) -> Voice:
    """A tone with overtones and vibrato: a flute, a string, a reed."""
    f0 = pitch * 2 ** rng.normal(0, 0.05)
    count = int(min(10, 7500 / f0))
    weights = np.arange(1, count + 1) ** -rng.uniform(0.6, 1.8) * rng.uniform(0.4, 1, count)
    weights /= weights.sum()
    phases = rng.uniform(0, 2 * np.pi, count)
    rate, depth = rng.uniform(4, 7), rng.uniform(0, 0.008)

    def voice(t: Wave) -> Wave:
        turn = 2 * np.pi * f0 * (t + depth / (2 * np.pi * rate) * np.sin(2 * np.pi * rate * t))
        out = np.zeros_like(t)
        for k, (weight, phase) in enumerate(zip(weights, phases, strict=True), 1):
            out += weight * np.sin(k * turn + phase)
        return out

    return voice


def _hiss(rng: np.random.Generator, centre: float) -> Voice:
    """A band of noise that comes and goes: waves, breath, a brush."""
    spread = rng.uniform(0.25, 0.4)
    frequencies = np.minimum(centre * 2 ** rng.uniform(-spread, spread, 40), 7800)
    phases = rng.uniform(0, 2 * np.pi, 40)
    rate, depth, shift = rng.uniform(4, 9), rng.uniform(0.2, 0.8), rng.uniform(0, 6.3)

    def voice(t: Wave) -> Wave:
        noise = np.zeros_like(t)
        for f, p in zip(frequencies, phases, strict=True):
            noise += np.sin(2 * np.pi * f * t + p)
        return noise / 9 * (1 - depth * (0.5 + 0.5 * np.sin(2 * np.pi * rate * t + shift)))

    return voice


def _sweep(rng: np.random.Generator, shape: float) -> Voice:
    """A pitch that glides, again and again: a siren, a bird. `shape`: up, down, both, or wide."""
    low, high, period = {
        0.0: (350.0, 1500.0, 0.42),
        1.0: (2600.0, 500.0, 0.5),
        2.0: (900.0, 1500.0, 0.3),
        3.0: (1500.0, 5200.0, 0.24),
    }[shape]
    low, high = (f * 2 ** rng.normal(0, 0.06) for f in (low, high))
    period *= 2 ** rng.normal(0, 0.12)
    start = rng.random()
    overtone = rng.uniform(0, 0.4)

    def voice(t: Wave) -> Wave:
        at = (t / period + start) % 1
        edge = np.clip(np.minimum(at, 1 - at) * 25, 0, 1)
        length: Any = period
        if shape == 2.0:  # up and down again
            length = np.where(at < 0.5, -period / 2, period / 2)
            at = np.abs(2 * at - 1)
        turn = 2 * np.pi * length * (low * at + (high - low) * at**2 / 2)
        return edge * (np.sin(turn) + overtone * np.sin(2 * turn)) / (1 + overtone)

    return voice


def _pulses(rng: np.random.Generator, rate_and_ring: tuple[float, float]) -> Voice:
    """Strokes that ring: a clock, a drum, a woodpecker."""
    rate, ring = (f * 2 ** rng.normal(0, 0.06) for f in rate_and_ring)
    decay = rng.uniform(25, 60)
    start, colour = rng.random(), rng.uniform(1.4, 1.7)

    def voice(t: Wave) -> Wave:
        since = (t * rate + start) % 1 / rate
        strike = np.sin(2 * np.pi * ring * since) + 0.5 * np.sin(2 * np.pi * ring * colour * since)
        return np.exp(-decay * since) * np.minimum(since * 2000, 1) * strike

    return voice


def since_stroke(times: Wave, t: Wave) -> tuple[Wave, Wave]:
    """For each moment of `t` the number of the stroke before it, and the time since."""
    last = np.maximum(np.searchsorted(times, t) - 1, 0)
    return last, np.maximum(t - times[last], 0)


def strokes(rng: np.random.Generator, times: NDArray[Any]) -> Voice:
    """Strokes at given times, each a little different: a drum, hands, a keyboard."""
    ring, colour = 10 ** rng.uniform(2.3, 3.4), rng.uniform(1.4, 1.7)
    decay = rng.uniform(15, 40)
    gains = rng.uniform(0.5, 1, len(times))

    def voice(t: Wave) -> Wave:
        last, since = since_stroke(times, t)
        strike = np.sin(2 * np.pi * ring * since) + 0.5 * np.sin(2 * np.pi * ring * colour * since)
        return gains[last] * np.exp(-decay * since) * np.minimum(since * 2000, 1) * strike

    return voice


_KINDS: tuple[Callable[[np.random.Generator], Voice], ...] = (
    *(lambda rng, f=f: harmonic(rng, f) for f in (165.0, 330.0, 660.0, 1320.0)),
    *(lambda rng, f=f: _hiss(rng, f) for f in (350.0, 900.0, 2200.0, 5000.0)),
    *(lambda rng, s=s: _sweep(rng, s) for s in (0.0, 1.0, 2.0, 3.0)),
    *(
        lambda rng, p=p: _pulses(rng, p)
        for p in ((5.0, 420.0), (8.0, 1300.0), (13.0, 2600.0), (20.0, 800.0))
    ),
)


def family_voice(family: int, rng: np.random.Generator) -> Voice:
    """The voice of an individual. Kind and pitch are spread over the families so that shapes which
    look alike don't sound alike."""
    return _KINDS[family * 5 % len(_KINDS)](rng)


def stranger_voice(rng: np.random.Generator) -> Voice:
    """A sound of nothing that is drawn here: chords, a babble like speech, rumble, chatter."""
    kind = rng.integers(4)
    if kind == 0:  # a chord, detuned from every family's pitch
        root = 110 * 2 ** rng.uniform(0, 2)
        parts = [
            harmonic(rng, root * r) for r in rng.choice([1, 1.19, 1.26, 1.5, 1.68, 2.24], 3, False)
        ]
    elif kind == 1:  # syllables: a buzz whose formants move
        return _babble(rng)
    elif kind == 2:  # wide rumble or roar
        parts = [_hiss(rng, f) for f in 10 ** rng.uniform(1.8, 3.8, 4)]
    else:  # irregular knocks
        parts = [_pulses(rng, (rng.uniform(1.5, 4), 10 ** rng.uniform(2, 3.5))) for _ in range(3)]
    return lambda t: np.sum([part(t) for part in parts], axis=0) / len(parts)


def _babble(rng: np.random.Generator) -> Voice:
    f0, rate = rng.uniform(90, 260), rng.uniform(3, 5.5)
    formants = rng.uniform((300, 900, 2200), (800, 2200, 3200))
    wander = rng.uniform(0.3, 1.1, 3)
    shifts = rng.uniform(0, 6.3, 5)

    def voice(t: Wave) -> Wave:
        pitch = f0 * (1 + 0.12 * np.sin(2 * np.pi * 0.6 * t + shifts[3]))
        moving = [
            f * (1 + 0.25 * np.sin(2 * np.pi * rate * w * t + s))
            for f, w, s in zip(formants, wander, shifts, strict=False)
        ]
        turn = (
            2
            * np.pi
            * f0
            * (t - 0.12 / (2 * np.pi * 0.6) * np.cos(2 * np.pi * 0.6 * t + shifts[3]))
        )
        out = np.zeros_like(t)
        for k in range(1, int(4000 / f0)):
            gain = sum(np.exp(-(((k * pitch - f) / 180) ** 2)) for f in moving)
            out += gain * np.sin(k * turn) / k**0.3
        syllable = np.clip(1.3 * np.sin(2 * np.pi * rate * t + shifts[4]), 0, 1)
        return out / 3 * syllable

    return voice


def noise(seed: tuple[int, ...], start: int, count: int, colour: float) -> Samples:
    """White noise (`colour` 0) to brown-ish noise (1), `count` samples from sample `start` of an
    endless stream that depends on `seed` alone; root mean square 1."""
    taps = 64
    block = 4096
    first, last = (start - taps) // block, (start + count) // block
    white = np.concatenate(
        [
            np.random.default_rng((*seed, b + 2**31)).standard_normal(block, np.float32)
            for b in range(first, last + 1)
        ]
    )
    white = white[start - taps + 1 - first * block :][: count + taps - 1]
    kernel = (0.9 * colour) ** np.arange(taps)
    kernel /= np.sqrt((kernel**2).sum())
    return np.convolve(white, kernel, "valid").astype(np.float32)
