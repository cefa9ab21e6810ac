"""Sounds of machines of which there are few recordings, made by arithmetic: telephones, cameras,
cars, helicopters. Each is a few seconds that one individual makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl.demos.scenes.voices import RATE, Samples

Wave = NDArray[Any]
Make = Callable[[np.random.Generator], Wave]
SECONDS = 3.0


def _time(seconds: float) -> Wave:
    return np.arange(round(seconds * RATE)) / RATE


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Log-uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _partials(frequency: Wave | float, t: Wave, ratios: Wave, weights: Wave) -> Wave:
    """Sines over a pitch that may change; those over 7.6 kHz are left out."""
    turn = 2 * np.pi * np.cumsum(np.broadcast_to(frequency, t.shape)) / RATE
    top = float(np.max(frequency))
    parts = [w * np.sin(r * turn) for r, w in zip(ratios, weights, strict=True) if r * top < 7600]
    return np.sum([np.zeros_like(t), *parts], axis=0)


def _overtones(rng: np.random.Generator, count: int, fall: float) -> tuple[Wave, Wave]:
    order = np.arange(1.0, count + 1)
    return order, order**-fall * rng.uniform(0.4, 1, count)


def _band(rng: np.random.Generator, count: int, low: float, high: float) -> Wave:
    """Noise between two frequencies, its root mean square 1."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    f = np.linspace(0, RATE / 2, len(spectrum))
    spectrum *= 1 / (1 + (low / np.maximum(f, 1)) ** 4) / (1 + (f / high) ** 4)
    wave = np.fft.irfft(spectrum, count)
    return wave / (wave.std() + 1e-9)


def _edges(wave: Wave, seconds: float = 0.005) -> Wave:
    """The same, fading in and out."""
    from_edge = np.minimum(np.arange(len(wave)), np.arange(len(wave))[::-1]) / RATE
    return wave * np.clip(from_edge / seconds, 0, 1)


def _in_turn(rng: np.random.Generator, parts: list[Wave], gap: tuple[float, float]) -> Wave:
    gaps = [np.zeros(round(rng.uniform(*gap) * RATE)) for _ in parts]
    return np.concatenate([x for pair in zip(parts, gaps, strict=True) for x in pair])


def _trill(rng: np.random.Generator) -> Wave:
    """Two tones in quick turns, as electronic telephones ring."""
    t = _time(rng.uniform(0.5, 2))
    low, rate = _between(rng, 350, 1600), rng.uniform(7, 26)
    high = low * rng.uniform(1.1, 1.6)
    tones = np.where((t * rate) % 1 < 0.5, low, high)
    return _in_turn(
        rng, [_edges(_partials(tones, t, *_overtones(rng, 8, rng.uniform(0.7, 2))))], (0.1, 0.5)
    )


def _bell(rng: np.random.Generator) -> Wave:
    """A hammer between two gongs."""
    t = _time(rng.uniform(0.8, SECONDS))
    rate, out = rng.uniform(14, 28), np.zeros_like(t)
    pitch = _between(rng, 300, 1200)
    for gong, shift in ((pitch, 0.0), (pitch * rng.uniform(1.05, 1.4), 0.5)):
        since = (t * rate / 2 + shift) % 1 * 2 / rate
        ratios = np.array([1, 2.1, 2.9, 4.2, 5.4, 6.8]) * rng.uniform(0.96, 1.04, 6)
        ring = _partials(gong, t, ratios, rng.uniform(0.2, 1, 6))
        out += ring * np.exp(-since * rng.uniform(3, 20))
        out += np.exp(-since * 300) * rng.standard_normal(len(t)) * rng.uniform(0.2, 1)
    return _edges(out)


def _keys(rng: np.random.Generator) -> Wave:
    """Key tones, each of one low and one high frequency (ITU-T Q.23), or a dial or busy tone."""
    parts = []
    length = rng.uniform(0.08, 0.5)
    line = rng.random() < 0.3
    for _ in range(int(rng.integers(2, 8))):
        t = _time(length)
        low = rng.choice([350, 440, 480] if line else [697, 770, 852, 941])
        high = rng.choice([440, 480, 620] if line else [1209, 1336, 1477])
        low_tone, high_tone = (_partials(f, t, *_overtones(rng, 3, 3)) for f in (low, high))
        parts.append(_edges(low_tone + high_tone))
    return _in_turn(rng, parts, (0.04, 0.25))


def _melody(rng: np.random.Generator) -> Wave:
    """A ringtone."""
    root, length = _between(rng, 400, 1500), rng.uniform(0.07, 0.22)
    overtones = _overtones(rng, int(rng.integers(1, 8)), rng.uniform(0.5, 2.5))
    decay = rng.uniform(0, 12)
    tune = rng.choice([0, 2, 4, 7, 9, 12, 14, 16], int(rng.integers(3, 9)))
    t = _time(length)
    notes = [
        _edges(_partials(root * 2 ** (step / 12), t, *overtones) * np.exp(-decay * t))
        for step in np.tile(tune, 2)
    ]
    return _in_turn(rng, notes, (0.0, 0.04))


def _buzz(rng: np.random.Generator) -> Wave:
    """A telephone that shakes on a table."""
    t = _time(rng.uniform(0.3, 1))
    pitch = rng.uniform(120, 220)
    rattle = rng.standard_normal(len(t)) * ((t * pitch) % 1 < 0.15)
    hum = _partials(pitch, t, *_overtones(rng, 20, rng.uniform(0.3, 1.2)))
    return _in_turn(rng, [_edges(hum + rng.uniform(0.2, 1.5) * rattle)] * 2, (0.2, 0.6))


def _click(rng: np.random.Generator) -> Wave:
    """A shutter, a mirror, a latch: a few strokes in a tenth of a second."""
    out = np.zeros(round(rng.uniform(0.12, 0.35) * RATE))
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(out) // 2))
        t = _time((len(out) - at) / RATE)
        stroke = _band(rng, len(t), _between(rng, 100, 1500), _between(rng, 2500, 7500))
        ring = _partials(_between(rng, 400, 5000), t, np.array([1, 1.6, 2.7]), rng.random(3))
        out[at:] += rng.uniform(0.3, 1) * np.exp(-t * rng.uniform(40, 250)) * (stroke + ring)
    return out


def _winding(rng: np.random.Generator) -> Wave:
    """A small motor that gets up speed and stops."""
    t = _time(rng.uniform(0.25, 1.4))
    start = 1 - rng.uniform(0.1, 0.7) * np.exp(-t / rng.uniform(0.03, 0.3))
    wander = 1 + rng.uniform(0, 0.1) * np.sin(2 * np.pi * rng.uniform(0.5, 3) * t)
    count = int(rng.integers(6, 24))
    order = np.arange(1.0, count + 1)
    weights = rng.uniform(0, 1, count) ** 2 * order ** -rng.uniform(0, 0.8)
    pitch = _between(rng, 90, 900) * start * wander
    tone = _partials(pitch, t, order, weights)
    hiss = _band(rng, len(t), 200, 7000) * rng.uniform(0.1, 1) * tone.std()
    return _edges(tone + hiss, 0.02)


def _beeps(rng: np.random.Generator) -> Wave:
    """The focus is found."""
    t = _time(rng.uniform(0.04, 0.1))
    beep = _edges(_partials(_between(rng, 1800, 4200), t, *_overtones(rng, 3, 2)))
    return _in_turn(rng, [beep, beep], (0.03, 0.1))


def _camera(rng: np.random.Generator) -> Wave:
    makers: list[Make] = [_click, _winding, _beeps]
    parts = [makers[i](rng) for i in rng.choice(3, int(rng.integers(1, 5)), p=(0.45, 0.45, 0.1))]
    return _in_turn(rng, [x / np.abs(x).max() * rng.uniform(0.4, 1) for x in parts], (0.02, 0.3))


def _engine(rng: np.random.Generator) -> Wave:
    """Idling, revving, or passing by."""
    t = _time(SECONDS)
    rise, rate, start = rng.uniform(0, 1.2), rng.uniform(0.05, 0.5), 6 * rng.random()
    pitch = _between(rng, 18, 90) * (1 + rise * np.sin(2 * np.pi * rate * t + start) ** 2)
    fires = _partials(pitch, t, *_overtones(rng, 30, rng.uniform(0.2, 1)))
    rush = _band(rng, len(t), 30, _between(rng, 250, 4000))
    passing = np.exp(-(((t - rng.uniform(0, SECONDS)) / rng.uniform(0.7, 6)) ** 2))
    return (fires / (fires.std() + 1e-9) * rng.uniform(0, 1.2) + rush) * passing


def _horn(rng: np.random.Generator) -> Wave:
    low = rng.uniform(300, 480)
    parts = []
    for _ in range(int(rng.integers(1, 4))):
        t = _time(rng.uniform(0.15, 1.5))
        tones = [_partials(f, t, *_overtones(rng, 20, 0.4)) for f in (low, low * 1.24)]
        parts.append(_edges(np.sum(tones[: int(rng.integers(1, 3))], axis=0), 0.01))
    return _in_turn(rng, parts, (0.05, 0.4))


def _door(rng: np.random.Generator) -> Wave:
    t = _time(0.8)
    thump = _band(rng, len(t), 25, _between(rng, 150, 1200)) * np.exp(-t * rng.uniform(8, 25))
    return thump + 0.3 * _band(rng, len(t), 300, 6000) * np.exp(-t * rng.uniform(40, 120))


def _helicopter(rng: np.random.Generator) -> Wave:
    """Blades that beat, and a turbine."""
    t = _time(SECONDS)
    rate = rng.uniform(8, 24)
    since = (t * rate + rng.random()) % 1 / rate
    beat = rng.uniform(0.1, 1) + np.exp(-since * rng.uniform(20, 90))
    rush = _band(rng, len(t), 30, _between(rng, 150, 3000)) * beat
    thump = np.exp(-since * 40) * np.sin(2 * np.pi * rng.uniform(40, 110) * since)
    whine = _partials(_between(rng, 600, 4000), t, *_overtones(rng, 2, 1))
    near = 1 + rng.uniform(-0.6, 0.6) * np.sin(2 * np.pi * 0.2 * t + 6 * rng.random())
    return (rush + rng.uniform(0, 4) * thump + rng.uniform(0, 0.3) * whine) * near


MAKES: dict[str, tuple[Make, ...]] = {
    "phone": (_trill, _bell, _keys, _melody, _buzz),
    "camera": (_camera,),
    "car": (_engine, _engine, _horn, _door),
    "helicopter": (_helicopter,),
}
"""By the kind of the machine, the ways in which it sounds."""


def machine(kind: str, number: int) -> Samples:
    """Sound `number` of a kind in `MAKES`, at `RATE`, its peak at 1."""
    rng = np.random.default_rng((number, *kind.encode()))
    ways = MAKES[kind]
    wave = ways[number % len(ways)](rng)
    return (wave / np.abs(wave).max()).astype(np.float32)
