"""Levels: a constant offset is no sound, and all that is sound is measured as it is."""

from __future__ import annotations

import numpy as np
import pytest

from avsl.engines import Samples, SoundTimeline, WindowSpec, level_db
from avsl.engines.localization import FLOOR_DB
from avsl.engines.loudness import Loudness

RATE, HOP = 16_000, 800
WINDOW = WindowSpec(rate=RATE, length=RATE, hop=HOP, guard=640)
SECONDS = 3
T = np.arange(SECONDS * RATE) / RATE
GATE_DB = -60.0


def levels(samples: Samples, begin: int = 0) -> tuple[list[float], list[float]]:
    """Of each hop of a stream that begins at sample `begin`: as it is heard, and as it is."""
    sound = SoundTimeline(RATE, SECONDS + 1.0)
    sound.write(begin, samples.astype(np.float32))
    measure, hops = Loudness(WINDOW), range(1, (begin + len(samples)) // HOP + 1)
    heard = [measure(hop, sound) for hop in hops]
    return heard, [level_db(sound.read(hop * HOP, HOP)) for hop in hops]


def noise(level: float) -> np.ndarray:
    return level * np.random.default_rng(0).standard_normal(len(T))


SOUNDS = {
    **{f"{hz} Hz": 0.3 * np.sin(2 * np.pi * hz * T) for hz in (20, 30, 33, 50, 55, 110, 440)},
    "loud noise": noise(0.1),
    "soft noise": noise(1e-4),
    "ticks": 0.5 * (np.arange(len(T)) % 8000 < 40) * np.sin(2 * np.pi * 2000 * T) + noise(1e-5),
}


@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize("begin", [0, 333])
def test_sound_is_as_loud_as_it_is(name: str, begin: int) -> None:
    heard, plain = map(np.array, levels(SOUNDS[name], begin))
    assert np.abs(heard - plain)[4:].max() < 0.05
    assert np.abs(heard - plain)[1:4].max() < 0.5


@pytest.mark.parametrize("offset", [0.2, -0.9, 0.004])
@pytest.mark.parametrize("begin", [0, 1, 333, 790])
def test_an_offset_is_silence(offset: float, begin: int) -> None:
    heard, plain = levels(np.full(len(T), offset), begin)
    assert max(plain) > GATE_DB
    assert max(heard) < GATE_DB
    # As a converter has it, and as it comes out of a resampler, which rings where it begins.
    real = offset + noise(1e-5)
    real[:8] = offset * np.array([0.5, 1.09, 0.95, 1.03, 0.98, 1.01, 0.99, 1.0])
    heard, _ = levels(real, begin)
    assert max(heard) < GATE_DB


@pytest.mark.parametrize("offset", [0.2, -0.5])
def test_what_sounds_on_an_offset_is_as_loud_as_without(offset: float) -> None:
    for sound in (SOUNDS["30 Hz"], SOUNDS["440 Hz"], SOUNDS["soft noise"]):
        heard, _ = levels(sound + offset)
        _, plain = levels(sound)
        assert np.abs(np.array(heard) - plain)[4:].max() < 0.05


def test_a_stream_that_begins_again_steps_again() -> None:
    samples = np.full(len(T), 0.2)
    samples[RATE : 2 * RATE] = 0  # digital silence: the microphone was gone
    heard, _ = levels(samples)
    late = (2 * RATE) // HOP
    assert max(heard[: RATE // HOP] + heard[late:]) < GATE_DB
    assert heard[late - 2] == FLOOR_DB


def test_a_step_in_the_middle_is_a_thump_and_then_over() -> None:
    samples = np.full(len(T), 0.001)
    samples[RATE:] = 0.3
    heard, _ = levels(samples)
    loud = [hop for hop, level in enumerate(heard) if level > GATE_DB]
    assert loud and loud[0] >= RATE // HOP and loud[-1] < RATE // HOP + Loudness.HOPS


def test_an_hour_back_and_forth() -> None:
    """After a seek the numbers of hops begin anew."""
    sound = SoundTimeline(RATE, 4.0)
    sound.write(0, (0.3 * np.sin(2 * np.pi * 440 * T)).astype(np.float32))
    measure = Loudness(WINDOW)
    first = [measure(hop, sound) for hop in range(30, 40)]
    assert [measure(hop, sound) for hop in range(10, 20)][4:] == pytest.approx(first[4:], abs=0.1)
