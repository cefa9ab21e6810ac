"""One way of mixing channels to mono, for films and for microphones, that loses no sound."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from avsl.engines.windows import Samples

LOUDEST = 1e5
"""A hundred decibels over full scale: what lies above is no sound but damage."""
LOST = 0.3
KEPT = 0.5
"""Shares of the energy that a channel and the others have: where the sum keeps less than the first
(of two as loud: a correlation under -0.7), the channel is turned over; where it would keep more
than the second (over -0.5), as nearly all stereo does, the channel is added as it is."""
QUIET = 1e-7
"""An energy (a sum of squares) that says nothing: the last bit of 24, for a moment."""
MEMORY_S = 0.1
TURN_S = 0.01
"""So long a channel takes to be turned over, so that nothing clicks."""


class Mono:
    """Mixes channels to one: the weighted sum, with a channel turned over while it would cancel
    out what the others have.

    The plain sum loses what is in opposite phase: all of it, where one of a laptop's two
    microphones is wired the other way round or a film's right channel is turned over, though in
    headphones it is well heard. Taking one channel loses what is in the others; the root of the
    energies is no sound any more; choosing the louder channel by moments clicks and pumps. The sign
    of a channel is not heard, so that is what is changed: where a channel is added as it is, as in
    mono and in all ordinary stereo, the result is the plain sum to the bit.

    Samples that are not finite, or beyond `LOUDEST`, become silence. It remembers `MEMORY_S` from
    block to block; blocks of any length follow on each other without a click, and nothing is
    delayed. One thread, one stream of sound; make another for the next.
    """

    def __init__(self, rate: int, weights: Sequence[float] | None = None) -> None:
        """`rate` in Hz. `weights`, one a channel; None: the mean of as many as come."""
        self._rate = rate
        self._given = None if weights is None else np.asarray(weights, np.float32)
        self._weights = np.ones(1, np.float32)
        self._phases: list[_Phase] = []

    def __call__(self, samples: Samples) -> Samples:
        """The mix, float32 `[n]`, of float32 `[channels, n]` (which stays as it is), at least one
        channel; a stream's number of channels may change."""
        good = np.abs(samples) <= LOUDEST
        if not good.all():
            samples = np.where(good, samples, np.float32(0))
        count = len(samples)
        if len(self._phases) != count - 1:
            self._phases = [_Phase(self._rate) for _ in range(count - 1)]
            even = np.full(count, 1 / count, np.float32)
            fits = self._given is not None and len(self._given) == count
            self._weights = self._given if fits and self._given is not None else even
        mix: Samples = samples[0] * self._weights[0]
        for channel, weight, phase in zip(
            samples[1:], self._weights[1:], self._phases, strict=True
        ):
            mix = mix + phase.turned(channel * weight, mix)
        return mix


class _Phase:
    """Whether a channel is added to the others as it is, or turned over."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._sign = 1.0
        self._energy = self._common = 0.0

    def turned(self, channel: Samples, others: Samples) -> Samples:
        """The channel as it is to be added to `others`."""
        if len(channel) == 0:
            return channel
        fade = math.exp(-len(channel) / (MEMORY_S * self._rate))
        heard = self._energy > QUIET
        one, two = channel.astype(np.float64), others.astype(np.float64)
        self._energy = fade * self._energy + _common(one, one) + _common(two, two)
        self._common = fade * self._common + 2 * _common(one, two)
        if self._energy < QUIET:
            return channel if self._sign > 0 else -channel
        before, plain = self._sign, self._energy + self._common
        if plain < LOST * self._energy:
            self._sign = -1.0
        elif plain > KEPT * self._energy:
            self._sign = 1.0
        if self._sign != before and heard:
            steps = np.arange(1, len(channel) + 1) / min(len(channel), TURN_S * self._rate)
            ramp = before + (self._sign - before) * np.minimum(steps, 1)
            return channel * ramp.astype(np.float32)
        return channel if self._sign > 0 else -channel


def _common(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """The energy that two have in common, without their offsets: a converter's is no sound, and is
    alike where the sound is opposite."""
    offsets = float(one.sum()) * float(two.sum()) / len(one)
    return float(one @ two) - offsets


def mono(samples: Samples) -> Samples:
    """One sound as a whole, float32 `[channels, n]`, mixed to float32 `[n]`; see `Mono`."""
    return Mono(48_000)(samples)
