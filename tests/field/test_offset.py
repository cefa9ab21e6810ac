"""A constant offset of the converter is no sound, whatever brings it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import ToneEngine, Wave, make_video, tone

from avsl.realtime.films import annotate

SOUNDS: dict[str, tuple[Wave, set[str]]] = {
    "an offset": (lambda t: 0.2 + 0 * t, {"silent"}),
    "a large one, below": (lambda t: 0 * t - 0.8, {"silent"}),
    "one with the noise of a quiet room": (
        lambda t: 0.2 + 1e-4 * np.random.default_rng(0).standard_normal(len(t)), {"silent"}
    ),
    "a tone on it": (lambda t: 0.2 + tone(440)(t), {"silent", "sounding"}),
    "a hum of 30 Hz": (tone(30), {"silent", "sounding"}),
}  # fmt: skip
TRACKS = [
    ("film.mkv", "pcm_f32le", 48_000),
    ("film.mov", "pcm_s16le", 44_100),
    ("film.mkv", "flac", 22_050),
    ("film.mp4", "alac", 48_000),
]
"""Lossless ones: AAC makes a tone of -30 dB of an offset, which is heard in players, too."""


@pytest.mark.parametrize(("film", "codec", "rate"), TRACKS)
@pytest.mark.parametrize("name", SOUNDS)
def test_an_offset_is_silent_and_a_sound_on_it_is_heard(
    tmp_path: Path, name: str, film: str, codec: str, rate: int
) -> None:
    wave, expected = SOUNDS[name]
    path = make_video(
        tmp_path / film, waves=(wave,), sound_codec=codec, sound_rate=rate, seconds=1.6
    )
    annotate(path, tmp_path / "out.mkv", ToneEngine(), events=tmp_path / "e.jsonl")
    events = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()[1:]]
    assert {event["state"] for event in events} == expected
    if "sounding" in expected:
        assert {event["state"] for event in events[10:]} == {"sounding"}
        assert {round(event["level_db"]) for event in events[10:]} == {-11}
