"""Mixing to mono: ordinary sound to the bit, and no sound lost."""

from __future__ import annotations

import warnings

import av
import numpy as np
import pytest

from avsl.realtime.sources.mono import Mono, mono

RATE = 48_000
T = np.arange(RATE) / RATE
VOICE = (0.3 * np.sin(2 * np.pi * 440 * T)).astype(np.float32)
SWR = {
    "stereo": [0.7071067690849304] * 2,
    "5.1": [0.7071067690849304, 0.7071067690849304, 1.0, 0.0, 0.5, 0.5],
}
"""What FFmpeg mixes with."""


def noise(seed: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (channels, RATE)).astype(np.float32)


def in_blocks(samples: np.ndarray, weights: list[float] | None = None, size: int = 1024):
    mix = Mono(RATE, weights)
    return np.concatenate([mix(samples[:, i : i + size]) for i in range(0, RATE, size)])


def level(samples: np.ndarray) -> float:
    return float(np.sqrt(np.square(samples, dtype=np.float64).mean()))


@pytest.mark.parametrize("layout", SWR)
def test_ordinary_sound_is_what_ffmpeg_mixes_to_the_bit(layout: str) -> None:
    """Music: something in the middle, something at each side."""
    count = len(SWR[layout])
    samples = VOICE + noise(1, count)
    frame = av.AudioFrame.from_ndarray(samples, "fltp", layout)
    frame.sample_rate = RATE
    plain = av.AudioResampler("flt", "mono", RATE).resample(frame)
    expected = np.concatenate([part.to_ndarray()[0] for part in plain])
    assert np.array_equal(in_blocks(samples, SWR[layout]), expected)


STEREO = {
    "the same in both": (VOICE, VOICE),
    "opposite": (VOICE, -VOICE),
    "opposite, one half as loud": (VOICE, -0.5 * VOICE),
    "opposite, and each its own noise": (VOICE + noise(1)[0] / 10, -VOICE + noise(2)[0] / 10),
    "opposite, on an offset": (VOICE + 0.4, 0.4 - VOICE),
    "left alone": (VOICE, 0 * VOICE),
    "right alone": (0 * VOICE, VOICE),
    "two strangers": (noise(3)[0], noise(4)[0]),
}


@pytest.mark.parametrize("size", [160, 480, 1024, RATE])
@pytest.mark.parametrize("name", STEREO)
def test_no_sound_is_lost(name: str, size: int) -> None:
    samples = np.stack(STEREO[name]).astype(np.float32)
    mixed = in_blocks(samples, size=size)
    sound = samples - samples.mean(1, keepdims=True)
    assert mixed.dtype == np.float32
    # A channel that is alone is halved; from the first block on nothing is more than 6 dB down.
    for start in range(0, RATE, 4800):
        part = slice(start, start + 4800)
        loudest = max(map(level, sound[:, part]))
        assert level(mixed[part] - mixed[part].mean()) > 0.49 * loudest


def test_turning_a_channel_over_makes_no_click() -> None:
    """One microphone of two is turned over in the middle, and back: never a step."""
    sign = np.ones(RATE, np.float32)
    sign[15_600:32_400] = -1  # where the tone is nought: the input itself has no step
    samples = np.stack([VOICE, VOICE * sign])
    mixed = in_blocks(samples)
    assert np.abs(np.diff(mixed)).max() < 1.3 * np.abs(np.diff(VOICE)).max()
    for second in (0.3, 0.62, 0.98):
        assert level(mixed[int(second * RATE) - 1000 : int(second * RATE)]) > 0.9 * level(VOICE)


def test_silence_stays_silence_and_damage_becomes_it() -> None:
    assert not in_blocks(np.zeros((2, RATE), np.float32)).any()
    samples = np.stack([VOICE, VOICE])
    samples[0, 100], samples[1, 200], samples[0, 300], samples[:, 400] = np.nan, np.inf, 3e38, -9e9
    before = samples.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixed = in_blocks(samples)
    assert np.isfinite(mixed).all()
    assert np.abs(mixed).max() < 0.31
    assert np.array_equal(samples, before, equal_nan=True)
    assert not mono(np.full((1, 9), np.nan, np.float32)).any()


def test_channels_may_come_and_go_and_blocks_be_empty() -> None:
    mix = Mono(RATE)
    assert np.array_equal(mix(VOICE[None, :100]), VOICE[:100])
    assert np.allclose(mix(np.stack([VOICE, VOICE])[:, :100]), VOICE[:100])
    assert mix(np.zeros((2, 0), np.float32)).shape == (0,)
    assert mix(noise(5, 4)[:, :100]).shape == (100,)
