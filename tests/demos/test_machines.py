"""Made sounds of machines."""

from __future__ import annotations

import numpy as np
import pytest

from avsl.demos.scenes import RATE
from avsl.demos.scenes.machines import MAKES, machine


@pytest.mark.parametrize("kind", MAKES)
def test_each_is_one_of_its_own_and_the_same_again(kind: str) -> None:
    made = [machine(kind, number) for number in range(3 * len(MAKES[kind]))]
    for number, samples in enumerate(made):
        assert samples.dtype == np.float32 and np.isfinite(samples).all()
        assert np.abs(samples).max() == pytest.approx(1)
        assert 0.1 * RATE < len(samples) < 6 * RATE
        assert np.array_equal(samples, machine(kind, number))
    lengths_and_sums = {(len(samples), float(np.abs(samples).sum())) for samples in made}
    assert len(lengths_and_sums) == len(made)


def test_blades_beat_and_a_trill_has_two_tones() -> None:
    for number in range(5):
        loudness = np.square(machine("helicopter", number)).reshape(-1, RATE // 200).mean(1)
        beats = np.abs(np.fft.rfft(loudness - loudness.mean()))
        rate = np.argmax(beats[len(beats) // 50 :]) + len(beats) // 50
        assert 6 < rate * RATE / len(machine("helicopter", number)) < 75, "blades, or twice, thrice"
        trill = machine("phone", number * len(MAKES["phone"]))
        spectrum = np.abs(np.fft.rfft(trill))
        strong = np.flatnonzero(spectrum > 0.4 * spectrum.max()) * RATE / len(trill)
        assert strong.max() / strong.min() > 1.05, "more than one tone"


def test_kinds_differ() -> None:
    """An engine is low, a telephone is not."""

    def centre(samples: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(samples)) ** 2
        return float((power * np.fft.rfftfreq(len(samples), 1 / RATE)).sum() / power.sum())

    phones = [centre(machine("phone", i)) for i in range(15)]
    engines = [centre(machine("car", 4 * i)) for i in range(8)]
    assert np.median(phones) > 2 * np.median(engines)
