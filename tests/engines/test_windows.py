"""The hop grid and the sound timeline: which samples a picture is paired with."""

import numpy as np
import pytest

from avsl.engines import SoundTimeline, WindowSpec

SPEC = WindowSpec(rate=16_000, length=16_000, hop=800, guard=640)


@pytest.mark.parametrize(
    ("time", "end"),
    [
        (0.0, -800),  # the guard reaches back before the start
        (0.04, 0),  # exactly on the grid
        (0.0899, 0),
        (0.09, 800),
        (1.04, 16_000),
        (3600.04, 57_600_000),
        (-1.0, -16_800),
    ],
)
def test_window_ends_at_last_hop_before_guard(time: float, end: int) -> None:
    assert SPEC.end(time) == end


def test_times_on_the_grid_stay_on_it() -> None:
    """Frame times are rationals; as floats they miss the grid by an ulp now and then."""
    for hop in range(5000):
        assert SPEC.hop_index(hop / 20 + 0.04) == hop


def test_window_is_causal_and_never_older_than_a_hop() -> None:
    for time in np.linspace(0, 20, 997):
        lag = time - SPEC.end(float(time)) / SPEC.rate
        assert 0.04 - 1e-9 <= lag < 0.04 + 0.05 + 1e-9


def ramp(start: int, stop: int) -> np.ndarray:
    return np.arange(start, stop, dtype=np.float32)


def test_reads_back_what_was_written_across_the_ring_s_seam() -> None:
    timeline = SoundTimeline(rate=100, seconds=1.0)
    for start in range(0, 1000, 30):
        timeline.write(start, ramp(start, start + 30))
        assert timeline.end == start + 30
        length = min(start + 30, 100)
        assert np.array_equal(
            timeline.read(start + 30, length), ramp(start + 30 - length, start + 30)
        )


def test_what_was_never_written_or_is_gone_is_silence() -> None:
    timeline = SoundTimeline(rate=100, seconds=1.0)
    assert not timeline.read(50, 100).any()
    timeline.write(500, ramp(500, 560))
    early = timeline.read(520, 60)
    assert not early[:40].any()
    assert np.array_equal(early[40:], ramp(500, 520))
    late = timeline.read(600, 60)
    assert np.array_equal(late[:20], ramp(540, 560))
    assert not late[20:].any()
    timeline.write(560, ramp(560, 650))
    assert not timeline.read(540, 40).any(), "overwritten samples must not come back as others"


def test_a_gap_stays_a_gap() -> None:
    timeline = SoundTimeline(rate=100, seconds=2.0)
    timeline.write(0, ramp(1, 41))
    timeline.write(70, ramp(70, 90))
    heard = timeline.read(90, 90)
    assert np.array_equal(heard[:40], ramp(1, 41))
    assert not heard[40:70].any()
    assert np.array_equal(heard[70:], ramp(70, 90))


def test_a_gap_longer_than_the_ring() -> None:
    timeline = SoundTimeline(rate=100, seconds=1.0)
    timeline.write(0, ramp(1, 91))
    timeline.write(10_000, ramp(5, 15))
    assert np.array_equal(timeline.read(10_010, 10), ramp(5, 15))
    assert not timeline.read(10_000, 90).any()


def test_overlap_keeps_what_came_first() -> None:
    timeline = SoundTimeline(rate=100, seconds=1.0)
    timeline.write(0, ramp(0, 50))
    timeline.write(30, -ramp(30, 80))
    assert np.array_equal(timeline.read(50, 50), ramp(0, 50))
    assert np.array_equal(timeline.read(80, 30), -ramp(50, 80))


def test_a_block_longer_than_the_ring_keeps_its_end() -> None:
    timeline = SoundTimeline(rate=100, seconds=1.0)
    timeline.write(-250, ramp(-250, 0))
    assert np.array_equal(timeline.read(0, 100), ramp(-100, 0))
