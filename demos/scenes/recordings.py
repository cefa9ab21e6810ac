"""Voices out of recordings: gaps cut short, notes and key presses strung together, and a room."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from avsl.demos.scenes.voices import RATE, Samples, Voice

SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a")
LONGEST_S = 30
LOOP_S = 5.0
"""A voice is this long, and then begins again."""
GAP_S = 0.4
"""Longer gaps are cut to this: a window of a second shall hold something to hear."""
QUIET_DB = -35.0
"""Under its louder parts, a recording is taken to pause."""
SHORT_S = 0.5
"""Recordings under it, such as key presses, are strung together quickly."""
BED = 0.2
"""How often something soft goes on behind a voice."""


def sound(path: Path) -> Samples:
    """Reads a sound as mono float32 at `RATE`, no more than `LONGEST_S`, its peak at 1.

    Raises:
        ValueError: it can't be read, or it is silent; the message names it.
    """
    resampler = av.AudioResampler("flt", "mono", RATE)
    blocks: list[Any] = []
    try:
        with path.open("rb") as file, av.open(file, "r") as container:
            for frame in container.decode(audio=0):
                blocks += [out.to_ndarray()[0] for out in resampler.resample(frame)]
                if sum(map(len, blocks)) > LONGEST_S * RATE:
                    break
            blocks += [out.to_ndarray()[0] for out in resampler.resample(None)]
    except (av.FFmpegError, OSError, IndexError):
        raise ValueError(f"{path}: can't be read as a sound") from None
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    peak = float(np.abs(samples).max()) if len(samples) else 0.0
    if peak < 1e-4:
        raise ValueError(f"{path}: is silent")
    if not peak < 100:
        raise ValueError(f"{path}: is damaged (samples of {peak:.0f} times full scale)")
    return (samples / peak).astype(np.float32)


def without_gaps(samples: Samples) -> Samples:
    """The same, with pauses of no more than `GAP_S`."""
    block = RATE // 50
    count = len(samples) // block
    if count < 2:
        return samples
    power = np.square(samples[: count * block]).reshape(count, block).mean(1)
    loud = power > np.quantile(power, 0.95) * 10 ** (QUIET_DB / 10)
    since = np.arange(count) - np.maximum.accumulate(np.where(loud, np.arange(count), -1))
    kept = np.repeat(since <= GAP_S * 50, block)
    kept[: np.argmax(loud) * block] = False
    return samples[: count * block][kept]


def recorded_voice(
    rng: np.random.Generator, recordings: Sequence[Samples], behind: Sequence[Samples] = ()
) -> Voice:
    """A voice of one of the recordings, or of several that follow and overlap each other: notes,
    barks, people. It is heard in a room, and now and then one of `behind` goes on softly."""
    seed = int(rng.integers(2**62))

    @lru_cache(1)  # a scene that is only looked at needs none of its voices
    def loop() -> Samples:
        return _made(np.random.default_rng(seed), recordings, behind)

    return lambda t: loop()[np.floor(t * RATE).astype(np.int64) % len(loop())]


def _made(
    rng: np.random.Generator, recordings: Sequence[Samples], behind: Sequence[Samples]
) -> Samples:
    loop = _in_a_room(rng, _at_another_speed(rng, _strung(rng, recordings)))
    if len(behind) and rng.random() < BED:
        bed = np.resize(behind[int(rng.integers(len(behind)))], len(loop))
        loop += bed * np.float32(10 ** (rng.uniform(-26, -12) / 20))
    loop /= np.abs(loop).max() + np.float32(1e-9)
    return np.roll(loop, int(rng.integers(len(loop))))


def _strung(rng: np.random.Generator, recordings: Sequence[Samples]) -> Samples:
    count = round(LOOP_S * RATE)
    first = recordings[int(rng.integers(len(recordings)))]
    short = len(first) < SHORT_S * RATE
    if not short and rng.random() < 0.5:
        return np.resize(np.roll(first, -int(rng.integers(len(first)))), count)
    out = np.zeros(count, np.float32)
    at = 0
    one_again = short and rng.random() < 0.5
    while at < count:
        part = first if one_again else recordings[int(rng.integers(len(recordings)))]
        part = part[: count - at] * np.float32(rng.uniform(0.4, 1))
        out[at : at + len(part)] += part
        step = rng.uniform(0.08, 0.3) if short else rng.uniform(0.15, 1.2)
        at += round(step * RATE)
    return out


def _at_another_speed(rng: np.random.Generator, samples: Samples) -> Samples:
    """A little faster and higher, or slower and lower (Ko et al. 2015)."""
    at = np.arange(len(samples)) * float(np.exp(rng.normal(0, 0.08))) % (len(samples) - 1)
    return np.interp(at, np.arange(len(samples)), samples).astype(np.float32)


def _in_a_room(rng: np.random.Generator, samples: Samples) -> Samples:
    """A tilt of the spectrum and a decaying echo, as walls and a cheap microphone give."""
    spectrum = np.fft.rfft(samples, 2 * len(samples))
    f = np.linspace(1e-3, RATE / 2, len(spectrum))
    tilt = (f / 1000) ** (rng.normal(0, 2.0) / 6.02)  # decibels per octave
    tilt *= 1 / np.sqrt(1 + (rng.uniform(20, 200) / f) ** 4)
    tilt *= 1 / np.sqrt(1 + (f / rng.uniform(3000, 9000)) ** 4)
    decay, wet = rng.uniform(0.1, 0.7), rng.uniform(0, 0.6) * (rng.random() < 0.7)
    tail = rng.standard_normal(round(decay * RATE)) * np.exp(
        -6.9 * np.arange(round(decay * RATE)) / (decay * RATE)
    )
    tail *= wet / np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    spectrum *= tilt * np.fft.rfft(tail, 2 * len(samples))
    return np.fft.irfft(spectrum)[: len(samples)].astype(np.float32)
