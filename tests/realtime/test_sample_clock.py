"""Counted samples on the monotonic clock: crystals drift, blocks come late, sound gets lost."""

from __future__ import annotations

import numpy as np
import pytest

from avsl.realtime.sources.microphone import SampleClock

RATE = 48_000
BLOCK = 480


def arrivals(
    seconds: float, ppm: float = 0.0, busy: float = 0.0, seed: int = 0
) -> list[tuple[int, float]]:
    """(samples so far, arrival) of blocks of 10 ms whose sample 0 was captured at 100.0; `busy` is
    the share of blocks that come up to 30 ms late."""
    rng = np.random.default_rng(seed)
    found, last = [], 0.0
    for k in range(1, round(seconds * RATE / BLOCK) + 1):
        late = 0.0002 * rng.random() + 0.03 * rng.random() * (rng.random() < busy)
        last = max(last, 100 + k * BLOCK / RATE * (1 + ppm * 1e-6) + late)  # in order
        found.append((k * BLOCK, last))
    return found


@pytest.mark.parametrize("ppm", [0, 200, -200])
@pytest.mark.parametrize("busy", [0.0, 0.5])
def test_follows_a_crystal_that_drifts(ppm: float, busy: float) -> None:
    clock = SampleClock(RATE)
    worst = 0.0
    for count, arrival in arrivals(120, ppm, busy):
        clock.heard(count, arrival)
        if clock.zero is not None and count > RATE:
            true = 100 + count / RATE * (1 + ppm * 1e-6)
            worst = max(worst, abs(clock.zero + count / RATE - true))
    assert worst < 0.0035


def test_is_not_believed_before_it_has_settled() -> None:
    clock = SampleClock(RATE)
    for count, arrival in arrivals(0.09):
        clock.heard(count, arrival)
        assert clock.zero is None


def test_a_burst_after_a_stall_loses_nothing() -> None:
    """The callback was held up for a second; PulseAudio kept the sound."""
    clock = SampleClock(RATE)
    for count, arrival in arrivals(6):
        held = 103 < arrival < 104
        clock.heard(count, 104 + (arrival - 103) / 100 if held else arrival)
    assert clock.zero == pytest.approx(100, abs=0.001)


def test_lost_sound_starts_it_anew() -> None:
    """The source was suspended: counting goes on where it stopped, time doesn't."""
    clock = SampleClock(RATE)
    lost = 0.3
    for count, arrival in arrivals(6):
        after = arrival > 103
        clock.heard(count, arrival + lost * after)
        if arrival < 103 or arrival > 103.35:
            assert clock.zero is None or abs(clock.zero - 100 - lost * after) < 0.001
